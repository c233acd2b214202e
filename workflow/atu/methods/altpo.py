"""AltPO (Mekala et al. 2024, arXiv 2409.13474): alternate texts are preferred to those to forget.

The alternates are DPO's made-up biographies: RWKU's (``train_pair``), or those that the base model wrote itself
(``atu.data.pairs``). Each stands against one real text; the paper has several of each.
"""

from torch import Tensor
from transformers import PreTrainedModel

from atu.engine.examples import Batch
from atu.methods.dpo import DPO, dpo_loss


def altpo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """-(2 / beta) * mean of log sigmoid(beta * (chosen - rejected)): DPO's loss in the measure of NPO's.

    Args:
        chosen, rejected: log p(y|x) - log p_ref(y|x) of the alternate and of the real answer of each pair, [pairs].
    """
    return 2 / beta * dpo_loss(chosen, rejected, beta)


class AltPO(DPO):
    name = "AltPO"
    mean_over = "items"

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        return altpo_loss(*self.log_ratios(llm, batch), self.beta)


METHOD = AltPO
