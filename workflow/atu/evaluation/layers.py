"""Hidden states of every layer at the point where an answer would begin; a classifier of each layer reads them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from atu.common.errors import ExplainedError
from atu.common.finite import is_finite
from atu.common.runtime import progress
from atu.data.protocol import PROTOCOL, STRICT, Protocol
from atu.engine.engine import Engine
from atu.engine.models import decoder_layers
from atu.engine.prefill import prefilled_batches
from atu.evaluation.evaluate import Batch, build_prompt, check_lengths

COLUMNS = ["set", "id", "split", "query", "layer", "states"]


@contextmanager
def watched(llm: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Inside the block, a list has each decoder layer's input in the latest pass, at the last position, [rows, hidden].

    The model's own ``output_hidden_states`` lacks vectors that are added to a layer's output from outside
    (:func:`atu.engine.intervention.steered`); the input of the next layer has them.
    """
    stack = decoder_layers(llm)
    read = [torch.empty(0)] * len(stack)

    def keep(number: int):
        def hook(module, arguments, keywords):
            states = arguments[0] if arguments else keywords["hidden_states"]
            read[number] = states[:, -1].clone()  # a view would keep all positions in memory

        return hook

    handles = [layer.register_forward_pre_hook(keep(i), with_kwargs=True) for i, layer in enumerate(stack)]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def last_states(
    engine: Engine, prompts: list[str], groups: Sequence[str] | None = None, title: str = "layers"
) -> Tensor:
    """Hidden states at the last token of each prompt, [prompts, layers + 1, hidden], in float32 on the CPU.

    Layer 0 is the embeddings, and the last layer is read after the final norm, like ``hidden_states`` in transformers.
    Prompts of the same group in ``groups`` share their common prefix, as in generation. It costs one forward pass.

    Raises:
        ExplainedError: if the model cannot read a prompt, or a state is not finite.
    """
    llm, ids = engine.llm, engine.encode(prompts)
    states = torch.zeros(len(ids), len(decoder_layers(llm)) + 1, llm.config.hidden_size)
    with watched(llm) as read, progress(None, title, total=len(ids)) as bar:
        for batch, behind in prefilled_batches(llm, ids, [1] * len(ids), engine.batch_tokens, groups):
            # all rows end in the last column, and the latest pass is not the one over common prefixes
            states[batch] = torch.stack([*read, behind.states[:, -1]], 1).float().cpu()
            bar.update(len(batch))
    if not is_finite(states):
        raise ExplainedError(
            "the model's hidden states are NaN or infinite: its weights are damaged or its training has diverged; "
            "train it again with a lower learning rate, or fetch its weights again"
        )
    return states


def read_layers(
    engine: Engine,
    probes: pd.DataFrame,
    sets: list[str],
    primers: dict[str, str],
    instruction: str = "",
    protocol: Protocol = STRICT,
) -> pd.DataFrame:
    """Hidden states of each layer for the probes of the named sets, with the prompts of :func:`evaluate`.

    Returns:
        COLUMNS, one row per probe and layer; states: [hidden], float32. Its ``attrs`` name the protocol.

    Raises:
        ExplainedError: as :func:`last_states` does, or if a probe is too long for the model.
    """
    engine = replace(engine, special_tokens=protocol.special_tokens)
    asked = [probe for name in sets for probe in probes[probes["set"] == name].to_dict("records")]
    prompts = [build_prompt(engine.tokenizer, probe, primers, instruction, protocol) for probe in asked]
    batch = Batch(asked, prompts, 0, protocol)
    check_lengths(engine, batch)
    rows = []
    if asked:
        found = last_states(engine, prompts, batch.contexts, batch.title).numpy()
        for probe, of_layers in zip(asked, found, strict=True):
            keep = {key: probe[key] for key in ("set", "id", "split", "query")}
            rows += [keep | {"layer": layer, "states": states} for layer, states in enumerate(of_layers)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.attrs[PROTOCOL] = protocol.name
    return table
