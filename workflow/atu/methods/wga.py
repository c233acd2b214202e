"""WGA (Wang et al. 2025, arXiv 2502.19301): weighted gradient ascent, which spares tokens that are already unlikely."""

from torch import Tensor
from transformers import PreTrainedModel

from atu.engine.examples import Batch, token_log_probs
from atu.methods import Trained
from atu.methods.ga import ga_loss


def wga_loss(log_probs: Tensor, scored: Tensor, beta: float) -> Tensor:
    """Mean over the scored tokens of p^beta * log p, where the weight p^beta has no gradient.

    With beta = 0 it is gradient ascent.

    Args:
        log_probs: log p, 0 where not scored, [sequences, length - 1].
        scored: [sequences, length - 1].
    """
    return ga_loss((beta * log_probs.detach()).exp() * log_probs, scored)


class WGA(Trained):
    """Args:
    beta: the paper's alpha. The default of 1, as in OpenUnlearning, cancels the factor 1 / p in the gradient of ascent.
    """

    name = "WGA"
    not_negative = ("beta",)
    mean_over = "tokens"

    def __init__(self, beta: float = 1.0):
        self.beta = beta

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        return wga_loss(token_log_probs(llm, batch), batch.predicted, self.beta)


METHOD = WGA
