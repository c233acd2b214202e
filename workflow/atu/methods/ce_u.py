"""CE-U (Yang 2025, arXiv 2503.01224): the model learns its own predictions without the true token.

The paper skips the first token of an answer; here, the first token of a text is never scored.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from atu.engine.examples import Batch, scored_logits
from atu.methods import Trained


def ce_u_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over tokens of the cross-entropy to the softmax of the logits with the label's logit set to -inf.

    No gradient flows through this softmax. The loss has the gradient of -log(1 - p(label)).

    Args:
        logits: [tokens, vocabulary].
        labels: [tokens].
    """
    target = logits.detach().scatter(-1, labels[:, None], -torch.inf).softmax(-1)
    return F.cross_entropy(logits, target)


class CEU(Trained):
    name = "CE-U"
    mean_over = "tokens"

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        return ce_u_loss(*scored_logits(llm, batch))


METHOD = CEU
