"""Losses on the retain set, which any trained method can add. They are off by default, as in RWKU."""

import torch.nn.functional as F
from torch import Tensor


def descent_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-probability of the labels.

    Args:
        logits: [tokens, vocabulary].
        labels: [tokens].
    """
    return F.cross_entropy(logits, labels)


def kl_loss(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """Mean over tokens of KL(p_ref || p).

    Args:
        logits, reference_logits: logits of the model and of the base model, [tokens, vocabulary].
    """
    log_probs, reference = logits.log_softmax(-1), reference_logits.log_softmax(-1)
    return F.kl_div(log_probs, reference, reduction="batchmean", log_target=True)
