"""A language model whose weights lie in shards, one on each of several GPUs (torch's FSDP2).

Each layer is gathered while it computes, and given back behind it. Every such part stands for itself: the decoder may
be cut at a layer and the head run alone, as on one GPU.
"""

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from atu.common.errors import ExplainedError

if TYPE_CHECKING:  # slow to import
    from transformers import PreTrainedModel


def ranks() -> int:
    """How many processes train one model together; 1 where no group of processes was started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return ranks() == 1 or dist.get_rank() == 0


def is_shard(tensor: Tensor) -> bool:
    """Whether a tensor is one of which each process holds a part."""
    if ranks() == 1:
        return False
    from torch.distributed.tensor import DTensor  # slow to import, and needed on several GPUs alone

    return isinstance(tensor, DTensor)


def is_sharded(module: nn.Module) -> bool:
    """Whether weights of a module lie in shards."""
    return any(map(is_shard, module.parameters()))


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, in the same memory and without a graph; a whole tensor as it is."""
    held: Any = tensor  # a DTensor, which is imported late
    return held.detach().to_local() if is_shard(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, without a graph; a call of all processes where it is in shards."""
    held: Any = tensor.detach()
    return held.full_tensor() if is_shard(tensor) else held


def own_output(part: nn.Module, inputs: tuple, output: Any) -> Any:
    """Outputs that are no views (OPT's layers return some): an operation in place on a view would lose torch's note to
    gather the part again in the backward pass, and gradients could be wrong."""
    if isinstance(output, Tensor):
        return output.clone() if output._is_view() else output
    return tuple(own_output(part, inputs, one) for one in output) if type(output) is tuple else output


def shard(llm: "PreTrainedModel", device: torch.device) -> None:
    """Leave a part of each weight of ``llm`` on each process; a call of all of them, on equal models.

    The model moves to ``device`` part by part, so it may lie on the host and be larger than a GPU. An embedding that is
    the head's too stays whole everywhere, as torch shards no weight that two parts read apart; its gradients are summed
    by :class:`atu.training.updates.Updates`.

    Raises:
        ExplainedError: for weights that are not float32.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    from atu.engine.models import decoder_layers  # imports this module

    if any(weight.dtype != torch.float32 for weight in llm.parameters()):
        raise ExplainedError("on several GPUs weights train as float32: set memory.weights to fp32, or gpus_per_job: 1")
    mesh = init_device_mesh(device.type, (ranks(),))
    layers = list(decoder_layers(llm))
    inside = {id(part) for layer in layers for part in layer.modules()}
    outside = [part for part in llm.modules() if id(part) not in inside and part._parameters]
    readers: dict[int, int] = {}
    for part in outside:
        for weight in part._parameters.values():
            readers[id(weight)] = readers.get(id(weight), 0) + 1
    for part in [*layers, *reversed(outside)]:  # what lies in another first
        own = [weight for weight in part._parameters.values() if weight is not None]
        if own and any(readers.get(id(weight), 1) > 1 for weight in own):
            continue
        part.register_forward_hook(own_output)
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
        assert isinstance(part, FSDPModule)  # what fully_shard makes of it
        # losses are parts of a sum, so their gradients are added and not averaged
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    for part in llm.modules():  # what was left whole, and tables of positions
        for tensor in [*part._parameters.values(), *part._buffers.values()]:
            if tensor is not None and not is_shard(tensor):
                tensor.data = tensor.data.to(device)


def gather_once(llm: nn.Module) -> None:
    """Gather each part and give it back, for a model that answers before it trains: what torch first gathers in its
    inference mode takes no part in training. Which weights train must be settled."""
    from torch.distributed.fsdp import FSDPModule

    for part in llm.modules():
        if isinstance(part, FSDPModule):
            part.unshard()
            part.reshard()


def gathered(module: nn.Module, words: str = "") -> dict[str, Tensor]:
    """Weights by name, whole, on the host of the first process; on the others nothing. A call of all of them.

    One weight at a time is whole on the GPUs.

    Args:
        words: of the names of those that are wanted; all if empty.
    """
    found: dict[str, Tensor] = {}
    known: dict[int, Tensor] = {}  # a weight that has two names is kept once
    for name, weight in module.state_dict(keep_vars=True).items():
        if words not in name:
            continue
        if id(weight) not in known:
            values = whole(weight)
            known[id(weight)] = values.cpu() if is_first() else values.new_empty(0)
        if is_first():
            found[name] = known[id(weight)]
    return found


def gather(llm: nn.Module) -> None:
    """Put whole weights back, on the host of the first process; on the others they have sizes and no values.

    A call of all processes. The model computes nothing from then on.
    """
    for part in llm.modules():
        for name, weight in part._parameters.items():
            if weight is None or weight.is_meta:
                continue
            values = whole(weight)
            kept = values.cpu() if is_first() else torch.empty_like(values, device="meta")
            part._parameters[name] = nn.Parameter(kept, requires_grad=weight.requires_grad)
