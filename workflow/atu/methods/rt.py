"""Rejection tuning (RWKU): the model learns to answer questions about the target with a refusal."""

from torch import Tensor
from transformers import PreTrainedModel

from atu.engine.examples import Batch, token_log_probs
from atu.methods import Trained


def refusal_loss(log_probs: Tensor, scored: Tensor) -> Tensor:
    """Mean negative log-probability of the refusals' tokens.

    Args:
        log_probs: 0 where not scored, [sequences, length - 1].
        scored: [sequences, length - 1].
    """
    return -log_probs.sum() / scored.sum()


class RejectionTuning(Trained):
    name = "RT"
    published = "RT"
    texts = ("reject",)
    mean_over = "tokens"

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        return refusal_loss(token_log_probs(llm, batch), batch.predicted)


METHOD = RejectionTuning
