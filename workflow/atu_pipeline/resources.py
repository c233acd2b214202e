"""What a job needs, computed from the size of its work: memory, GPU memory, time, disk.

The estimates are on the safe side. The scheduler places jobs by them; no result depends on them. Sizes are in bytes
unless a name says otherwise; work is in floating-point operations (FLOP). A language model's number of weights is
enough: layers and width follow from it closely enough to estimate memory that grows with the batch, unless the model's
block gives the memory of a token.
"""

import math
from dataclasses import dataclass

from atu.common.memory import Memory

GRADIENT = 4  # bytes per trained weight: gradients are float32, like the weights that train
OPTIMIZER_STATE = {"sgd": 0, "adam": 8, "adamw": 8}  # bytes per trained weight: two float32 moments, or none
SMALL_STATE = 2.1  # bytes per trained weight of Adam in 8 bits: two moments, and a float32 scale per 256 of them
WEIGHT = {"fp32": 4, "bf16": 2}
# Bytes of activations per token, layer and hidden unit that wait for the backward pass in 16 bits, with fused attention
# (Korthikanti et al. 2022, arXiv 2205.05198, section 4.1).
ACTIVATION = 34
WIDTH_PER_LAYER = 100  # hidden units per layer, about the same from Phi-3-mini (96) to Llama-3-8B (128)
CACHE_GROWTH = 1.3  # keys and values are copied as they grow; measured on an H200 (docs/gpus.md)
LOGIT_COPIES = 3  # float32 logits, their log-softmax and its gradient
INTERPRETER, INTERPRETER_CPU = 3e9, 1e9  # Python and torch, with and without the host's side of a GPU
GPU_CONTEXT = 1.5e9  # what a GPU holds before the first tensor
FRAGMENTATION = 1.1  # memory that the allocator reserves over memory in use
DECODING_SHARE = 0.2  # share of the sustained rate that is reached while answers grow token by token
# The same if each answer is generated alone. On a GPU nearly all of the time is lost between kernels, whatever the
# model: 1 ms per layer and token on an H200.
ALONE_SHARE_CPU, ALONE_SECONDS_GPU = 0.06, 1e-3
# Seconds of a step on the host per trained weight: SGD's measured beside an H200 (docs/gpus.md), Adam's taken as twice
# that.
OFFLOADED_SECONDS = {"sgd": 3e-9, "adam": 6e-9, "adamw": 6e-9}
START_SECONDS = 60  # imports, a GPU's start, a node's cold file cache
START_SECONDS_CPU = 15  # imports
GROWTH = 1.5  # factor for memory and time each time a job is tried again
SHORTEST = 10  # minutes


def shape(parameters: float) -> tuple[float, float]:
    """Layers L and width h of a transformer with P weights.

    P = 12 L h^2 and h = 100 L, so L = (P / 120000)^(1/3).
    """
    layers = (parameters / (12 * WIDTH_PER_LAYER**2)) ** (1 / 3)
    return layers, WIDTH_PER_LAYER * layers


def lora_parameters(parameters: float, rank: int, modules: int) -> float:
    """Weights of LoRA adapters on ``modules`` square maps of each layer: 2 r h L modules."""
    layers, width = shape(parameters)
    return 2 * rank * width * layers * modules


def state_bytes(optimizer: str, memory: Memory) -> float:
    """Bytes of optimiser state per trained weight: two moments in float32 or in 8 bits, or none."""
    small = memory.optimizer_state != "fp32" and OPTIMIZER_STATE[optimizer] > 0
    return SMALL_STATE if small else OPTIMIZER_STATE[optimizer]


def training_bytes(
    parameters: float,
    trained: float,
    optimizer: str,
    precision: str,
    memory: Memory,
    frozen: int = 0,
    embedding: float = 0.0,
    embedding_trains: bool = False,
    gradients: bool = True,
    passed: float | None = None,
) -> float:
    """Weights, gradients and optimiser state on the device; T weights train (atu.common.memory).

    With float32 weights it is 4 P (1 + frozen) + (4 + o) T + c Q, where o is the bytes of the state. Under bf16, c = 2:
    autocast keeps 16-bit copies of the Q weights that gradients pass until their backward pass, unless activations are
    recomputed.
    With other weights it is 2 P (1 + frozen) + (2 + o + m) T, where m = 4 if master copies are kept; o and m are 0 if
    they are on the host. The embedding's E weights stay float32 on the device: 4 E (1 + frozen), and 4 + o for each
    that trains.

    Args:
        frozen: the number of additional copies of the base model in memory.
        embedding: how many of the weights belong to the embedding.
        embedding_trains: whether the embedding's weights train.
        gradients: whether gradients and 16-bit copies are in memory; between two steps they are not.
        passed: the number of weights that gradients pass, including those of frozen maps; by default ``trained``.
    """
    state, gradient = state_bytes(optimizer, memory), GRADIENT if gradients else 0
    if memory.weights == "fp32":
        copies = WEIGHT["bf16"] if gradients and precision == "bf16" and not memory.gradient_checkpointing else 0
        through = trained if passed is None else passed
        return WEIGHT["fp32"] * parameters * (1 + frozen) + (gradient + state) * trained + copies * through
    held = 0.0 if memory.offload else state + (WEIGHT["fp32"] if memory.weights == "bf16" else 0)
    whole = (WEIGHT["fp32"] - WEIGHT["bf16"]) * embedding * (1 + frozen)
    if embedding_trains:
        whole += (gradient / 2 + state - held) * embedding
    return WEIGHT["bf16"] * parameters * (1 + frozen) + (gradient / 2 + held) * trained + whole


def rounded_bytes(parameters: float, memory: Memory) -> float:
    """Float32 values beside rounded weights: those of weights that do not train, and all while the model is written."""
    return WEIGHT["fp32"] * parameters if memory.weights == "rounded" else 0.0


def sharded_bytes(held: float, parameters: float, vocabulary: int, precision: str, memory: Memory, gpus: int) -> float:
    """Bytes that each of several GPUs holds: its share of the ``held`` bytes, and what is gathered while it computes.

    Gathered are the float32 weights and gradients of the largest part, a layer of P / L weights or an embedding of V h.
    Under bf16 each GPU keeps the 16-bit copies of all weights until the backward pass, unless activations are
    recomputed; a share of them is in ``held``.
    """
    if gpus == 1:
        return held
    layers, width = shape(parameters)
    copies = WEIGHT["bf16"] * parameters if precision == "bf16" and not memory.gradient_checkpointing else 0.0
    gathered = (WEIGHT["fp32"] + GRADIENT) * max(parameters / layers, vocabulary * width)
    return held / gpus + gathered + copies * (1 - 1 / gpus)


def host_bytes(parameters: float, trained: float, optimizer: str, memory: Memory) -> float:
    """Bytes that training on a GPU keeps on the host: float32 values beside bf16 weights, the state if offloaded."""
    if memory.weights == "fp32":
        return 0.0
    values = WEIGHT["fp32"] * parameters if memory.weights == "bf16" else 0.0
    return values + (state_bytes(optimizer, memory) * trained if memory.offload else 0.0)


def activation_bytes(
    parameters: float, tokens: float, precision: str, recomputed: bool = False, of_token: float | None = None
) -> float:
    """Activations of ``tokens`` that wait for the backward pass.

    They are 34 n h L in 16 bits, and twice that in 32. If they are recomputed, only each layer's input is kept (n h L
    elements), plus the activations of one layer at a time.

    Args:
        of_token: bytes that one token keeps in 16 bits, in place of 34 h L.
    """
    layers, width = shape(parameters)
    layer = tokens * (of_token / layers if of_token else ACTIVATION * width) * WEIGHT[precision] / WEIGHT["bf16"]
    return layer + WEIGHT[precision] * tokens * width * layers if recomputed else layer * layers


def logits_bytes(tokens: float, vocabulary: int) -> float:
    """Logits of ``tokens`` in a loss: 3 copies of n V float32."""
    return LOGIT_COPIES * 4 * vocabulary * tokens


def cache_bytes(parameters: float, tokens: float, precision: str, of_token: float | None = None) -> float:
    """Keys and values of ``tokens``: 1.3 times 2 n h L elements.

    Args:
        of_token: bytes that one token takes in 16 bits, in place of 4 h L.
    """
    layers, width = shape(parameters)
    elements = of_token / WEIGHT["bf16"] if of_token else 2 * width * layers
    return CACHE_GROWTH * WEIGHT[precision] * tokens * elements


def forward_flop(parameters: float, tokens: float) -> float:
    """One pass: 2 P n."""
    return 2 * parameters * tokens


def training_flop(parameters: float, tokens: float, recomputed: bool = False) -> float:
    """Forward and backward: 6 P n, or 8 P n if activations are recomputed."""
    return (8 if recomputed else 6) * parameters * tokens


def answering_flop(parameters: float, prompt: float, new: float, share: float = DECODING_SHARE) -> float:
    """Generation: 2 P (prompt + new / share), since generating token by token reaches a share of the sustained rate."""
    return forward_flop(parameters, prompt + new / share)


@dataclass(frozen=True)
class Demand:
    """What one job needs.

    Attributes:
        flop: work of the device.
        device: bytes that must fit on the device at once.
        host: further bytes on the host, on top of the interpreter.
        copies: bytes on the host that copy what is on the device: read before they go there, or fetched to be
            written. If the host is the device, they take no extra memory.
        moved: bytes of checkpoints and data that are read or written.
        kept: bytes of outputs.
        gpus: number of devices, each of which holds ``device``.
        waits: seconds that the device waits for the host.
    """

    flop: float = 0.0
    device: float = 0.0
    host: float = 0.0
    moved: float = 0.0
    kept: float = 0.0
    copies: float = 0.0
    gpus: int = 1
    waits: float = 0.0


def step_on_host(trained: float, optimizer: str, memory: Memory) -> float:
    """Seconds of an optimiser step on the host; 0 without offloading."""
    return OFFLOADED_SECONDS[optimizer] * trained if memory.offload else 0.0


def grown(amount: float, attempt: int) -> int:
    """An amount at a job's attempt, counted from 1: amount * 1.5^(attempt - 1), rounded up."""
    return math.ceil(amount * GROWTH ** (attempt - 1))


def gpu_mem_mb(demand: Demand) -> int:
    """MB of GPU memory: 1.1 times the memory in use, and 1500 for the context; 0 if the job needs no GPU."""
    return math.ceil((FRAGMENTATION * demand.device + GPU_CONTEXT) / 1e6) if demand.device else 0


def mem_mb(demand: Demand, on_gpu: bool) -> int:
    """MB of host memory.

    On GPUs it is 3000 for each GPU's process, plus what the host holds, including copies. Otherwise each process takes
    1000 plus 1.1 times what a device would hold, and the host's memory comes on top.
    """
    if on_gpu and demand.device:
        return math.ceil((demand.gpus * INTERPRETER + demand.host + demand.copies) / 1e6)
    return math.ceil((demand.gpus * (INTERPRETER_CPU + FRAGMENTATION * demand.device) + demand.host) / 1e6)


def seconds(demand: Demand, tflops: float, disk_mb_per_s: float, start: float = START_SECONDS) -> float:
    """Expected time: start, work over the device's sustained rate, bytes over the disk's rate, steps on the host."""
    return start + demand.flop / (tflops * 1e12) + demand.moved / (disk_mb_per_s * 1e6) + demand.waits


def minutes(expected: float, margin: float) -> int:
    """Minutes to request: ``margin`` times the expected seconds, at least 10 minutes."""
    return max(SHORTEST, math.ceil(margin * expected / 60))


def disk_mb(demand: Demand) -> int:
    """MB that the job's outputs take."""
    return math.ceil(demand.kept / 1e6)
