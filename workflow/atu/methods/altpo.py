"""AltPO (Mekala et al. 2024, arXiv 2409.13474): the model learns to prefer alternate texts to the texts to forget.

The alternates are DPO's made-up biographies: either RWKU's (``train_pair``) or ones that the base model wrote
(``atu.data.pairs``). Each real text is paired with one alternate; the paper uses several.
"""

from torch import Tensor
from transformers import PreTrainedModel

from atu.engine.examples import Batch
from atu.methods.dpo import DPO, dpo_loss


def altpo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """-(2 / beta) * mean of log sigmoid(beta * (chosen - rejected)): DPO's loss, scaled like NPO's.

    Args:
        chosen, rejected: log p(y|x) - log p_ref(y|x) of each pair's alternate and real answer, [pairs].
    """
    return 2 / beta * dpo_loss(chosen, rejected, beta)


class AltPO(DPO):
    name = "AltPO"
    mean_over = "items"

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        return altpo_loss(*self.log_ratios(llm, batch), self.beta)


METHOD = AltPO
