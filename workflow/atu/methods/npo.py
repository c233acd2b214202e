"""Negative preference optimisation (Zhang et al. 2024, arXiv 2404.05868, equation 3)."""

import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from atu.engine.examples import Batch, token_log_probs
from atu.methods import Trained


def npo_loss(log_ratios: Tensor, beta: float) -> Tensor:
    """-(2 / beta) * mean of log sigmoid(-beta * log(p(x) / p_ref(x))).

    As beta goes to 0, its gradient tends to that of gradient ascent on whole sequences.

    Args:
        log_ratios: log p(x) - log p_ref(x) of each sequence, [sequences].
    """
    return -2 / beta * F.logsigmoid(-beta * log_ratios).mean()


class NPO(Trained):
    name = "NPO"
    published = "NPO"
    reads = ("reference",)
    positive = ("beta",)
    mean_over = "items"

    def __init__(self, beta: float = 0.1):
        self.beta = beta

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        assert batch.reference is not None  # `reads` asks for it
        return npo_loss(token_log_probs(llm, batch).sum(1) - batch.reference, self.beta)


METHOD = NPO
