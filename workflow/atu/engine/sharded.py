"""A language model whose weights are sharded over several GPUs (torch's FSDP2).

Each layer is gathered while it computes, and released afterwards. Each part is sharded on its own, so the decoder can
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
    """The number of processes that train one model together; 1 if no process group was started."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return ranks() == 1 or dist.get_rank() == 0


def is_shard(tensor: Tensor) -> bool:
    """Whether a tensor is sharded, so that each process holds a part."""
    if ranks() == 1:
        return False
    from torch.distributed.tensor import DTensor  # slow to import, and needed only on several GPUs

    return isinstance(tensor, DTensor)


def is_sharded(module: nn.Module) -> bool:
    """Whether any weight of a module is sharded."""
    return any(map(is_shard, module.parameters()))


def own_part(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor, in the same memory and without a graph; other tensors unchanged."""
    held: Any = tensor  # a DTensor, which is imported late
    return held.detach().to_local() if is_shard(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor, without a graph; if it is sharded, all processes must call this."""
    held: Any = tensor.detach()
    return held.full_tensor() if is_shard(tensor) else held


def own_output(part: nn.Module, inputs: tuple, output: Any) -> Any:
    """A forward hook that copies outputs that are views, such as those of OPT's layers.

    After an in-place operation on a view, torch would not gather the part again in the backward pass, and gradients
    could be wrong.
    """
    if isinstance(output, Tensor):
        return output.clone() if output._is_view() else output
    return tuple(own_output(part, inputs, one) for one in output) if type(output) is tuple else output


def shard(llm: "PreTrainedModel", device: torch.device) -> None:
    """Shard the weights of ``llm`` over all processes; all of them must call this, with equal models.

    The model moves to ``device`` part by part, so it may be on the host and be larger than a GPU. An embedding tied to
    the head stays whole on every process, since torch cannot shard a weight that two parts read separately;
    :class:`atu.training.updates.Updates` sums its gradients.

    Raises:
        ExplainedError: if weights are not float32.
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
    for part in [*layers, *reversed(outside)]:  # inner parts first
        own = [weight for weight in part._parameters.values() if weight is not None]
        if own and any(readers.get(id(weight), 1) > 1 for weight in own):
            continue
        part.register_forward_hook(own_output)
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
        assert isinstance(part, FSDPModule)  # what fully_shard makes of it
        # losses are parts of a sum, so gradients are summed and not averaged
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    for part in llm.modules():  # weights that stay whole, and tables of positions
        for tensor in [*part._parameters.values(), *part._buffers.values()]:
            if tensor is not None and not is_shard(tensor):
                tensor.data = tensor.data.to(device)


def gather_once(llm: nn.Module) -> None:
    """Gather each part and release it, for a model that answers before it trains.

    Weights that torch first gathers in inference mode could not be trained. Call this after the choice of weights that
    train.
    """
    from torch.distributed.fsdp import FSDPModule

    for part in llm.modules():
        if isinstance(part, FSDPModule):
            part.unshard()
            part.reshard()


def gathered(module: nn.Module, words: str = "") -> dict[str, Tensor]:
    """Whole weights by name, on the host of the first process; empty on the others. All processes must call this.

    Only one weight at a time is whole on the GPUs.

    Args:
        words: only weights with this text in their names; all if empty.
    """
    found: dict[str, Tensor] = {}
    known: dict[int, Tensor] = {}  # store a weight with two names once
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
    """Replace shards by whole weights, on the host of the first process; on the others, weights have no values.

    All processes must call this. The model cannot compute anything afterwards.
    """
    for part in llm.modules():
        for name, weight in part._parameters.items():
            if weight is None or weight.is_meta:
                continue
            values = whole(weight)
            kept = values.cpu() if is_first() else torch.empty_like(values, device="meta")
            part._parameters[name] = nn.Parameter(kept, requires_grad=weight.requires_grad)
