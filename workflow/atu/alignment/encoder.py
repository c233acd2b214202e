"""The sentence encoder. Only jobs that embed import this module, since sentence-transformers takes seconds to load."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from torch import Tensor

from atu.common.files import check_weights
from atu.common.finite import check_finite
from atu.engine.checks import check_encoder
from atu.engine.models import check_complete


def load_encoder(directory: str | Path, device: torch.device | str) -> SentenceTransformer:
    """Load a sentence encoder from a local directory.

    Raises:
        ModelError: if it cannot embed windows of bare tokens, or lacks weights.
        NotFiniteError: if a weight is not finite.
    """
    check_weights(directory)
    check_encoder(directory)
    encoder = SentenceTransformer(str(directory), device=str(device), local_files_only=True, trust_remote_code=False)
    with torch.random.fork_rng():  # load again, since it does not report missing weights; the pooler is not used
        own: Any = encoder[0].auto_model
        _, found = type(own).from_pretrained(
            own.name_or_path, output_loading_info=True, local_files_only=True, trust_remote_code=False
        )
    check_complete([key for key in found["missing_keys"] if not key.startswith("pooler.")], [], directory)
    check_finite(encoder.named_parameters(), directory)
    return encoder


def embed_target(encoder: SentenceTransformer, texts: list[str]) -> Tensor:
    """Embedding [d] of what stands for the target, each text encoded as a sentence (with CLS and SEP).

    Some encoders put a prompt before a text. It is left out here, since windows have none either.

    Args:
        texts: the target's name, as in the paper, or other names and a description too. The embedding of several is the
            mean of their unit vectors.
    """
    found = encoder.encode(texts, prompt="", convert_to_tensor=True, show_progress_bar=False).float().cpu()
    return found[0] if len(texts) == 1 else F.normalize(found, dim=-1).mean(0)
