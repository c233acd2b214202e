"""SatImp: gradient ascent by saturation and importance (Yang et al. 2025, arXiv 2505.11953)."""

from torch import Tensor
from transformers import PreTrainedModel

from atu.engine.examples import Batch, token_log_probs
from atu.methods import Trained
from atu.methods.ga import ga_loss


def satimp_loss(log_probs: Tensor, scored: Tensor, beta1: float, beta2: float) -> Tensor:
    """Mean over the scored tokens of p^beta1 * (1 - p)^beta2 * log p, where the weights have no gradient.

    With beta2 = 0 it is WGA.

    Args:
        log_probs: log p, 0 where not scored, [sequences, length - 1].
        scored: [sequences, length - 1].
    """
    fixed = log_probs.detach()
    weights = (beta1 * fixed).exp() * (-fixed.expm1()) ** beta2  # expm1 keeps the digits of 1 - p for p near 1
    return ga_loss(weights * log_probs, scored)


class SatImp(Trained):
    """Args:
    beta1: exponent of saturation, which spares tokens that are already unlikely.
    beta2: exponent of importance, which spares tokens that would follow in any text.
    """

    name = "SatImp"
    not_negative = ("beta1", "beta2")
    mean_over = "tokens"

    def __init__(self, beta1: float = 5.0, beta2: float = 1.0):
        self.beta1, self.beta2 = beta1, beta2

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        return satimp_loss(token_log_probs(llm, batch), batch.predicted, self.beta1, self.beta2)


METHOD = SatImp
