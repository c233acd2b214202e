"""Gradient ascent on the forget texts (Jang et al. 2023); RWKU's GA, or GA* on original passages."""

from torch import Tensor
from transformers import PreTrainedModel

from atu.engine.examples import Batch, token_log_probs
from atu.methods import Trained


def ga_loss(log_probs: Tensor, scored: Tensor) -> Tensor:
    """Mean log-probability of the scored tokens; minimising it makes them unlikely.

    Args:
        log_probs: 0 where not scored, [sequences, length - 1].
        scored: [sequences, length - 1].
    """
    return log_probs.sum() / scored.sum()


class GradientAscent(Trained):
    name = "GA"
    published = "GA"
    mean_over = "tokens"

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        return ga_loss(token_log_probs(llm, batch), batch.predicted)


METHOD = GradientAscent
