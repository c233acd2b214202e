"""Windows: for every LLM token, the sentence embedding of the next k encoder tokens (paper section 3.1)."""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from atu.common.files import atomic_path, intact
from atu.common.finite import check_finite
from atu.common.runtime import progress
from atu.data.rows import BenchmarkError
from atu.engine.models import ModelError

if TYPE_CHECKING:  # both are slow to import, and most jobs only read windows
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerBase


def window_starts(llm_ends: np.ndarray, encoder_ends: np.ndarray, k: int) -> np.ndarray:
    """The first encoder token of the window after each LLM token, or -1 if fewer than k tokens follow.

    Args:
        llm_ends: the character at which each LLM token ends, [T], ascending.
        encoder_ends: the character at which each encoder token ends, [E], ascending.
        k: window length in encoder tokens.

    Returns:
        Indices j, [T]. The window is encoder tokens j..j+k-1, the first k that end after the end of the LLM token.
    """
    starts = np.searchsorted(encoder_ends, llm_ends, side="right")
    return np.where(starts + k <= len(encoder_ends), starts, -1)


def token_ends(tokenizer: "PreTrainedTokenizerBase", text: str, **options) -> tuple[list[int], np.ndarray]:
    """Token ids of ``text`` and the character at which each token ends."""
    encoded = tokenizer(text, return_offsets_mapping=True, verbose=False, **options)
    return encoded["input_ids"], np.array([end for _, end in encoded["offset_mapping"]], dtype=np.int64)


@torch.inference_mode()
def embed_windows(encoder: "SentenceTransformer", windows: np.ndarray, batch_size: int = 512) -> Tensor:
    """Embeddings [n, d] of windows of bare encoder tokens [n, k], without CLS and SEP."""
    rows = []
    for batch in progress(torch.from_numpy(windows).split(batch_size), "window embeddings"):
        ids = batch.to(encoder.device)
        features = encoder({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        rows.append(features["sentence_embedding"].float().cpu())
    return torch.cat(rows) if rows else torch.empty(0, encoder.get_embedding_dimension() or 0)


@dataclass
class WindowedCorpus:
    """Tokenised texts with one window embedding per token.

    Attributes:
        input_ids: LLM tokens of all texts, concatenated, [N].
        bounds: text i is ``input_ids[bounds[i]:bounds[i + 1]]``, [texts + 1].
        windows: each token's row of ``embeddings``, -1 if its window is not full, [N].
        embeddings: embeddings of the distinct windows, [U, d].
    """

    input_ids: Tensor
    bounds: Tensor
    windows: Tensor
    embeddings: Tensor

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def lengths(self) -> list[int]:
        return self.bounds.diff().tolist()

    @property
    def checksum(self) -> str:
        """A checksum of the tokens of all texts, which files computed from them store to be recognised by."""
        parts = (self.input_ids.int(), self.bounds.long())
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()

    def text(self, i: int) -> slice:
        """The slice of the tokens of text ``i``."""
        return slice(int(self.bounds[i]), int(self.bounds[i + 1]))

    def save(self, path: str | Path) -> None:
        with atomic_path(path) as part:
            save_file(vars(self), part)

    @classmethod
    def load(cls, path: str | Path) -> "WindowedCorpus":
        with intact(path), safe_open(path, framework="pt") as file:
            corpus = cls(*(file.get_tensor(field.name) for field in fields(cls)))
        check_finite([("embeddings", corpus.embeddings)], path)
        return corpus


def build_corpus(
    texts: list[str],
    tokenizer: "PreTrainedTokenizerBase",
    encoder: "SentenceTransformer",
    k: int,
    max_tokens: int,
) -> WindowedCorpus:
    """Tokenise texts for the LLM and embed the window of every token, each distinct window once.

    Texts are cut after ``max_tokens`` LLM tokens, but their windows still see the text beyond. If a text is too short
    for a full window, its tokens have no windows.

    Raises:
        BenchmarkError: if no text has a full window.
        ModelError: if a tokenizer does not give the positions of its tokens, or the encoder reads fewer than k tokens.
    """
    for name, own in (("the model", tokenizer), ("the encoder", encoder.tokenizer)):
        if not own.is_fast:
            raise ModelError(
                f"the tokenizer of {name} does not say where in a text its tokens stand (it is no fast one), and "
                "windows need that; choose one with a tokenizer.json"
            )
    if encoder.max_seq_length is not None and k > encoder.max_seq_length:
        raise ModelError(f"a window of {k} tokens is longer than the encoder reads ({encoder.max_seq_length}); lower k")
    input_ids, starts, window_tokens, bounds = [], [], [], [0]
    for text in texts:
        ids, llm_ends = token_ends(tokenizer, text, truncation=True, max_length=max_tokens)
        encoder_ids, encoder_ends = token_ends(encoder.tokenizer, text, add_special_tokens=False)
        first = window_starts(llm_ends, encoder_ends, k)
        full = first >= 0
        input_ids += ids
        bounds.append(len(input_ids))
        starts.append(full)
        window_tokens.append(np.array(encoder_ids, dtype=np.int64)[first[full][:, None] + np.arange(k)])
    full = np.concatenate(starts) if starts else np.zeros(0, dtype=bool)
    if not full.any():
        raise BenchmarkError(
            f"no text of the corpus is long enough for a window of {k} encoder tokens: set k lower, or give longer "
            "texts (corpus.max_new_tokens where the model writes them)"
        )
    distinct, row = np.unique(np.concatenate(window_tokens), axis=0, return_inverse=True)
    windows = np.full(len(full), -1, dtype=np.int32)
    windows[full] = row.ravel()
    return WindowedCorpus(
        input_ids=torch.tensor(input_ids, dtype=torch.int32),
        bounds=torch.tensor(bounds),
        windows=torch.from_numpy(windows),
        embeddings=embed_windows(encoder, distinct),
    )
