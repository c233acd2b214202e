"""Hidden states of a frozen LLM, computed once, stored on disk and read by memory map."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from atu.alignment.windows import WindowedCorpus
from atu.common.files import atomic_path, intact, read_json, write_json
from atu.common.recipe import RecipeError
from atu.common.runtime import progress
from atu.engine.batching import pad, sorted_batches
from atu.engine.models import hidden_states, layers_up_to

if TYPE_CHECKING:  # slow to import, and not every job that reads this module loads an LLM
    from transformers import PreTrainedModel


@torch.inference_mode()
def write_hidden_states(
    llm: "PreTrainedModel",
    corpus: WindowedCorpus,
    layer: int,
    directory: str | Path,
    precision: str = "fp32",
    batch_size: int = 16,
    shard_tokens: int = 2**16,
) -> None:
    """Write ``hidden_states[layer]`` of every token of the corpus as safetensors shards.

    Only one shard of about ``shard_tokens`` tokens is held in memory. No text is split between shards, and texts are in
    the order of the corpus. It costs one forward pass of the first ``layer`` layers.
    """
    bounds = corpus.bounds.numpy()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    # the text at which each shard ends: the first whose tokens reach the next multiple of shard_tokens
    ends = np.unique(np.append(np.searchsorted(bounds, np.arange(shard_tokens, bounds[-1], shard_tokens)), len(corpus)))
    with atomic_path(directory) as part, layers_up_to(llm, layer) as decoder:
        part.mkdir()
        shards: list[dict] = []
        for first, last in zip(np.append(0, ends[:-1]), ends, strict=True):
            name = f"{len(shards):05d}.safetensors"
            shards.append({"file": name, "first_token": int(bounds[first])})
            states = torch.empty(bounds[last] - bounds[first], llm.config.hidden_size, dtype=dtype)
            batches = sorted_batches(np.diff(bounds[first : last + 1]).tolist(), batch_size)
            for batch in progress(batches, f"hidden states {len(shards)}/{len(ends)}"):
                rows = [corpus.text(first + i) for i in batch]
                input_ids, mask = pad([corpus.input_ids[row].long() for row in rows])
                output = hidden_states(decoder, input_ids.to(llm.device), mask.to(llm.device))
                for row, state, length in zip(rows, output, mask.sum(1), strict=True):
                    offset = row.start - bounds[first]
                    states[offset : offset + length] = state[:length].to("cpu", dtype)
            save_file({"hidden_states": states}, part / name)
        index = {"layer": layer, "tokens": int(bounds[-1]), "texts": corpus.checksum, "shards": shards}
        write_json(part / "index.json", index)


class HiddenStates:
    """Hidden states in a directory written by :func:`write_hidden_states`, read on demand.

    Raises:
        RecipeError: if the states belong to other texts than ``corpus``, or shards lack some of its tokens.
        DamagedError: if a file is cut.
    """

    def __init__(self, directory: str | Path, corpus: WindowedCorpus):
        self.directory = directory
        path = Path(directory) / "index.json"
        index = read_json(path, directory)
        with intact(path, directory):
            tokens, texts = index["tokens"], index["texts"]
            self.first_tokens = np.array([shard["first_token"] for shard in index["shards"]])
            names = [Path(directory) / shard["file"] for shard in index["shards"]]
        if texts != corpus.checksum:
            raise RecipeError(
                f"{directory} holds hidden states of other texts than those beside it ({tokens} tokens, not "
                f"{len(corpus.input_ids)}, or other ones); delete it to have them made again"
            )
        self.slices = []
        for name in names:
            with intact(name, directory):
                self.slices.append(safe_open(name, framework="pt").get_slice("hidden_states"))
        self.size = self.slices[0].get_shape()[1]
        self.tokens = sum(part.get_shape()[0] for part in self.slices)
        if self.tokens != len(corpus.input_ids):
            raise RecipeError(
                f"{directory} holds {self.tokens} hidden states of {len(corpus.input_ids)} tokens; delete it to have "
                "them made again"
            )

    def __getitem__(self, tokens: slice) -> Tensor:
        """Hidden states [tokens, hidden] of one text, which is always within one shard.

        Raises:
            RecipeError: if a state is not finite, or all zero, as in a file whose end was never written.
        """
        shard = int(np.searchsorted(self.first_tokens, tokens.start, side="right")) - 1
        first = int(self.first_tokens[shard])
        states = self.slices[shard][tokens.start - first : tokens.stop - first].float()
        sizes = states.abs().sum(-1)
        if not (torch.isfinite(sizes) & (sizes > 0)).all():
            raise RecipeError(
                f"{self.directory} holds states that are all zero or not finite; delete it to have them made again"
            )
        return states

    def close(self) -> None:
        """Release the memory maps, since on NFS a mapped file cannot be removed."""
        self.slices = []
