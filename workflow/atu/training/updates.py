"""The optimiser's steps, and where its master copies and states are kept."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from atu.common.errors import ExplainedError
from atu.common.memory import Memory
from atu.engine.half import set_values, values_of
from atu.engine.sharded import is_shard, own_part, ranks

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
LOW_BITS = 2**16  # values of the 16 lower bits, which a float32 has and a bfloat16 lacks


def round_stochastically(values: Tensor) -> Tensor:
    """Round float32 values to bf16, up or down with the probabilities that make the mean exact.

    A bfloat16 is the upper half of a float32. So a random lower half is added, and the lower half is then cut off.
    """
    bits = values.view(torch.int32)
    drawn = bits + torch.randint(LOW_BITS, bits.shape, dtype=torch.int32, device=bits.device)
    drawn = torch.where(values.isfinite(), drawn, bits)
    return drawn.bitwise_and_(-LOW_BITS).view(torch.float32).bfloat16()


def optimizer_class(name: str, memory: Memory) -> Callable[..., torch.optim.Optimizer]:
    """The optimiser with this name, with its states kept as ``memory`` says.

    Raises:
        ExplainedError: if 8-bit states are asked for and bitsandbytes is not installed.
        KeyError: if the name is not in :data:`OPTIMIZERS`.
    """
    if memory.optimizer_state == "fp32" or name == "sgd":
        return OPTIMIZERS[name]
    try:
        from bitsandbytes import optim  # slow to import, and few jobs need it
    except ImportError as error:
        raise ExplainedError("optimizer_state of 8 bits: bitsandbytes is not installed; install it") from error
    paged = "Paged" if memory.optimizer_state == "paged_8bit" else ""
    found = getattr(optim, paged + {"adam": "Adam8bit", "adamw": "AdamW8bit"}[name])
    return with_decay_in_gradients(found) if name == "adam" else found


def with_decay_in_gradients(build: Callable[..., torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """The optimiser with Adam's weight decay, which is added to the gradients; bitsandbytes has only AdamW's."""

    def make(weights: list[nn.Parameter], weight_decay: float = 0.0, **settings: float) -> torch.optim.Optimizer:
        made = build(weights, weight_decay=0.0, **settings)

        @torch.no_grad()
        def decay(*_: object) -> None:
            for weight in weights:
                if weight.grad is not None:
                    weight.grad.add_(weight, alpha=weight_decay)

        made.register_step_pre_hook(decay)
        return made

    return make


class Shadow:
    """A bf16 weight, and the float32 copy that the optimiser updates."""

    def __init__(self, weight: nn.Parameter, make: Callable, memory: Memory):
        self.weight, self.rounded = weight, memory.weights == "rounded"
        self.device = torch.device("cpu") if memory.offload else weight.device
        values = values_of(weight).to(self.device)
        set_values(weight, None if self.rounded else values)  # with "rounded", only the bf16 weight is kept
        self.values = nn.Parameter(values)
        self.optim = make([self.values])
        if self.rounded:
            self.values.data = values.new_empty(0)

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Update the weight with its gradient times ``share``."""
        if self.weight.grad is None:
            return
        if self.rounded:
            self.values.data = self.weight.to(self.device).float()  # in this order, bf16 is moved and not float32
        self.values.grad = self.weight.grad.to(self.device).float() * share
        self.optim.step()
        self.weight.copy_(round_stochastically(self.values.data) if self.rounded else self.values.data.bfloat16())
        self.values.grad = None
        if self.rounded:
            self.values.data = self.values.new_empty(0)


class Updates:
    """An optimiser over float32 and bf16 weights, or over float32 shards, of which each process updates its own part.

    Args:
        optimizer: one of :data:`OPTIMIZERS`.
        settings: settings of the optimiser.
        memory: how master copies and states are kept.
        fused: whether the optimiser updates all float32 weights in one pass.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        optimizer: str,
        memory: Memory,
        fused: bool = False,
        **settings: float,
    ):
        self.parameters = list(parameters)
        self.keeps_moments = optimizer != "sgd"
        self.decays = bool(settings.get("weight_decay"))
        build: Any = optimizer_class(optimizer, memory)
        # on a GPU, the default (foreach) briefly needs as much memory again as the weights
        at_once = fused or all(weight.is_cuda for weight in self.parameters)
        own: dict[str, Any] = {"fused": at_once or None} if build is OPTIMIZERS[optimizer] else {}
        self.sharded = any(map(is_shard, self.parameters))
        # an optimiser treats each number separately, so it can work on this process's part of a weight
        self.parts = {weight: nn.Parameter(own_part(weight)) for weight in self.parameters if is_shard(weight)}
        whole = [self.parts.get(weight, weight) for weight in self.parameters if weight.dtype == torch.float32]
        whole = [weight for weight in whole if weight.numel()]  # a process may hold no part of a small weight
        self.optims = [build(whole, **settings, **own)] if whole else []
        self.shadows = [
            Shadow(weight, lambda of: build(of, **settings, **own), memory)
            for weight in self.parameters
            if weight.dtype != torch.float32
        ]
        self.optims += [shadow.optim for shadow in self.shadows]
        self.share = 1.0  # factor of the gradients of bf16 weights

    def clip(self, clip_norm: float) -> float:
        """Clip the gradient's norm and return the norm before clipping.

        Gradients of bf16 weights are scaled later, once they are float32, so that they are not rounded twice.
        """
        if self.sharded:
            return self.clip_shards(clip_norm)
        if not self.shadows:
            return nn.utils.clip_grad_norm_(self.parameters, clip_norm).item()
        gradients = [weight.grad for weight in self.parameters if weight.grad is not None]
        norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients]
        norm = torch.linalg.vector_norm(torch.stack(norms)).item() if norms else 0.0
        self.share = min(1.0, clip_norm / (norm + 1e-6))  # as torch's own clipping does
        for gradient in gradients:
            if gradient.dtype == torch.float32:
                gradient.mul_(self.share)
        return norm

    def clip_shards(self, clip_norm: float) -> float:
        """:meth:`clip` with the norm over all processes; gradients of weights that are not sharded are summed first."""
        gradients = [weight.grad for weight in self.parameters if weight.grad is not None]
        if not gradients:
            return 0.0
        for gradient in gradients:
            if not is_shard(gradient):
                dist.all_reduce(gradient)
        # a gradient that every process has whole counts once
        squares = [own_part(gradient).square().sum() / (1 if is_shard(gradient) else ranks()) for gradient in gradients]
        total = torch.stack(squares).sum()
        dist.all_reduce(total)
        norm = total.sqrt()
        share = (clip_norm / (norm + 1e-6)).clamp(max=1.0)  # as torch's own clipping does
        for gradient in gradients:
            own_part(gradient).mul_(share)
        return norm.item()

    def step(self, learning_rate: float) -> None:
        """Update the weights with a learning rate, then clear the gradients.

        A step without any gradient counts as a gradient of zero: moments and weight decay still act.
        """
        if all(weight.grad is None for weight in self.parameters):
            if not (self.keeps_moments or self.decays):
                return
            for weight in self.parameters:
                weight.grad = torch.zeros_like(weight)
        for weight, part in self.parts.items():
            part.grad = None if weight.grad is None else own_part(weight.grad)
        for optim in self.optims:
            for group in optim.param_groups:
                group["lr"] = learning_rate
        if len(self.optims) > len(self.shadows):
            self.optims[0].step()
        for shadow in self.shadows:
            shadow.step(self.share)
        for weight in [*self.parameters, *self.parts.values()]:
            weight.grad = None
