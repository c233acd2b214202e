"""RMU (Li et al. 2024, arXiv 2403.03218, section 4): pushes hidden states on forget texts to a fixed random vector."""

import copy

import torch
from torch import Tensor
from transformers import PreTrainedModel

from atu.common.errors import ExplainedError
from atu.engine.examples import Batch
from atu.engine.models import hidden_states, layers_up_to
from atu.methods import Trained


def misdirection_loss(states: Tensor, control: Tensor, mask: Tensor) -> Tensor:
    """Mean squared distance of hidden states from the control vector, over real tokens and dimensions.

    Args:
        states: [sequences, length, hidden].
        control: [hidden], or [sequences, length, hidden] for the distance from other states.
        mask: [sequences, length].
    """
    distance = (states.float() - control).square().mean(-1)
    return (distance * mask).sum() / mask.sum()


class RMU(Trained):
    """Args:
    layer: hidden_states[layer] are misdirected; the three layers up to it train (with LoRA, their adapters).
    coefficient: norm of the control vector.
    alpha: weight of the distance from the base model's states on the retain set.
    sink_tokens: how many tokens at the start of each text are left out. In some models their states are a hundred
        times larger than all others (attention sinks) and would dominate the distances.
    """

    name = "RMU"
    reads = ("others",)
    second_model = True
    trained_layers = 3
    positive = ("layer", "coefficient")
    not_negative = ("alpha", "sink_tokens")
    below_max_tokens = ("sink_tokens",)

    def __init__(self, layer: int = 7, coefficient: float = 20, alpha: float = 100, sink_tokens: int = 0):
        # layer, coefficient and alpha are those of the authors' script for 7B models
        self.layer, self.coefficient, self.alpha, self.sink_tokens = layer, coefficient, alpha, sink_tokens

    def layers(self) -> range:
        return range(max(0, self.layer - self.trained_layers), self.layer)

    def prepare(self, llm: PreTrainedModel, seed: int) -> None:
        direction = torch.rand(llm.config.hidden_size, generator=torch.Generator().manual_seed(seed))
        self.control = (self.coefficient * direction / direction.norm()).to(llm.device)
        self.base_model = copy.deepcopy(llm).requires_grad_(False)

    def counted(self, batch: Batch) -> Tensor:
        """Mask of the tokens that count, [sequences, length]."""
        return batch.mask & (torch.arange(batch.mask.shape[1], device=batch.mask.device) >= self.sink_tokens)

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        others = batch.others
        assert others is not None  # `reads` asks for it
        with torch.no_grad(), layers_up_to(self.base_model, self.layer) as decoder:
            known = hidden_states(decoder, others.input_ids, others.mask).float()
        with layers_up_to(llm, self.layer) as decoder:
            states, other_states = (hidden_states(decoder, part.input_ids, part.mask) for part in (batch, others))
            masks = [self.counted(part) for part in (batch, others)]
            if not all(mask.any() for mask in masks):
                raise ExplainedError(f"sink_tokens: {self.sink_tokens} leaves out all tokens of a batch; lower it")
            forget = misdirection_loss(states, self.control.to(states.device), masks[0])
            retain = misdirection_loss(other_states, known, masks[1])
        return forget + self.alpha * retain


METHOD = RMU
