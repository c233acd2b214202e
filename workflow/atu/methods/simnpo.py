"""SimNPO (Fan et al. 2024, arXiv 2410.07163, equation 5): NPO on mean log-probabilities, without a reference."""

import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from atu.engine.examples import Batch, token_log_probs
from atu.methods import Trained


def simnpo_loss(mean_log_probs: Tensor, beta: float, gamma: float) -> Tensor:
    """-(2 / beta) * mean of log sigmoid(-beta * (1 / |x|) log p(x) - gamma).

    Args:
        mean_log_probs: mean log-probability of each sequence's tokens, [sequences].
        gamma: margin.
    """
    return -2 / beta * F.logsigmoid(-beta * mean_log_probs - gamma).mean()


class SimNPO(Trained):
    name = "SimNPO"
    positive = ("beta",)
    mean_over = "items"

    def __init__(self, beta: float = 2.5, gamma: float = 0.0):
        self.beta, self.gamma = beta, gamma

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        means = token_log_probs(llm, batch).sum(1) / batch.predicted.sum(1)
        return simnpo_loss(means, self.beta, self.gamma)


METHOD = SimNPO
