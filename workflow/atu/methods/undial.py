"""UNDIAL (Dong et al., NAACL 2025, arXiv 2402.10052): distils the base model with the true token's logit lowered."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from atu.engine.examples import Batch, scored_logits
from atu.methods import Trained


def undial_loss(logits: Tensor, base_logits: Tensor, labels: Tensor, strength: float) -> Tensor:
    """Mean over tokens of the cross-entropy to softmax(base_logits - strength * onehot(label)).

    Args:
        logits, base_logits: logits of the model and of the base model, [tokens, vocabulary].
        labels: [tokens].
    """
    lowered = base_logits.scatter_add(-1, labels[:, None], base_logits.new_full((len(labels), 1), -strength))
    return F.cross_entropy(logits, lowered.softmax(-1))


class UNDIAL(Trained):
    """Args:
    strength: how much the logit of the true token is lowered; 10 by default, as in OpenUnlearning.
    """

    name = "UNDIAL"
    second_model = True
    positive = ("strength",)  # at 0 the base model is its own target
    mean_over = "tokens"

    def __init__(self, strength: float = 10.0):
        self.strength = strength

    def prepare(self, llm: PreTrainedModel, seed: int) -> None:
        self.base_model = copy.deepcopy(llm).requires_grad_(False)

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        with torch.no_grad():
            base_logits, labels = scored_logits(self.base_model, batch)
        return undial_loss(scored_logits(llm, batch)[0], base_logits, labels, self.strength)


METHOD = UNDIAL
