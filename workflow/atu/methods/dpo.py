"""DPO (Rafailov et al. 2023, equation 7): the model learns to prefer made-up biographies to real ones."""

import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from atu.engine.examples import Batch, token_log_probs
from atu.methods import Trained


def dpo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """-mean of log sigmoid(beta * (chosen - rejected)).

    Args:
        chosen, rejected: log p(y|x) - log p_ref(y|x) of each pair's two answers, [pairs].
    """
    return -F.logsigmoid(beta * (chosen - rejected)).mean()


class DPO(Trained):
    name = "DPO"
    published = "DPO"
    texts = ("pair",)
    reads = ("reference",)
    positive = ("beta",)
    mean_over = "items"

    def __init__(self, beta: float = 0.1):
        self.beta = beta

    def log_ratios(self, llm: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-ratios of the chosen and of the rejected answers, [pairs] each."""
        assert batch.reference is not None  # `reads` asks for it
        chosen, rejected = (token_log_probs(llm, batch).sum(1) - batch.reference).view(-1, 2).unbind(1)
        return chosen, rejected

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        return dpo_loss(*self.log_ratios(llm, batch), self.beta)


METHOD = DPO
