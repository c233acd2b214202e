"""How a training run keeps its numbers, from exact to small. It does not load torch.

A GPU holds this many bytes per trained weight (o: 8 for Adam, 0 for SGD; 2 with a state of 8 bits):

    weights fp32      4 + 4 of the gradient + o, and 2 more under bf16 autocast
    weights bf16      2 + 2 + 4 of the master copy + o; with offload 2 + 2
    weights rounded   2 + 2 + o; with offload 2 + 2
"""

from collections.abc import Iterator
from dataclasses import dataclass

WEIGHTS = ("fp32", "bf16", "rounded")
STATES = ("fp32", "8bit", "paged_8bit")
AUTO = "auto"


@dataclass(frozen=True)
class Memory:
    """How a training run keeps its numbers.

    Attributes:
        weights: "fp32"; "bf16", with float32 master copies of trained weights, which the optimiser updates; or
            "rounded": only bf16, with each step rounded stochastically, so that small steps count on average.
        optimizer_state: the state of Adam and AdamW: "fp32", "8bit" (Dettmers et al. 2022, arXiv 2110.02861), or
            "paged_8bit", which moves to the host if the GPU is full. SGD keeps no state.
        offload: whether master copies and the optimiser's state are in the host's memory, where steps are computed.
        gradient_checkpointing: whether the backward pass recomputes activations. Numbers are the same.
    """

    weights: str = "fp32"
    optimizer_state: str = "fp32"
    offload: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.weights not in WEIGHTS:
            raise ValueError(f"weights: {self.weights} is none of {', '.join(WEIGHTS)}")
        if self.optimizer_state not in STATES:
            raise ValueError(f"optimizer_state: {self.optimizer_state} is none of {', '.join(STATES)}")
        if self.offload and self.weights == "fp32":
            raise ValueError("offload: true keeps bf16 weights on the GPU; set weights to bf16 or rounded")
        if self.offload and self.optimizer_state != "fp32":
            raise ValueError("offload: true leaves no state on the GPU that 8 bits would make smaller; set one of them")

    def __str__(self) -> str:
        words = [self.weights, *([f"{self.optimizer_state} state"] if self.optimizer_state != "fp32" else [])]
        words += ["checkpointing"] if self.gradient_checkpointing else []
        return ", ".join([*words, *(["offload"] if self.offload else [])])

    def changes_numbers(self, optimizer: str) -> dict[str, str]:
        """The settings that differ from the default and affect the results of an optimiser; SGD keeps no state.

        Where numbers are kept does not affect results, except for stochastic rounding, since host and GPU draw
        different random numbers.
        """
        state = self.optimizer_state.removeprefix("paged_")
        found = {"weights": self.weights, "optimizer_state": "fp32" if optimizer == "sgd" else state}
        if self.weights == "rounded" and self.offload:
            found["rounded_on"] = "host"
        return {key: value for key, value in found.items() if value != "fp32"}


# From the most exact to the least. Offloading computes the same as bf16 weights on the GPU, but takes more time.
LADDER = (
    Memory(),
    Memory(gradient_checkpointing=True),
    Memory(weights="bf16", gradient_checkpointing=True),
    Memory(weights="bf16", gradient_checkpointing=True, offload=True),
    Memory(weights="bf16", gradient_checkpointing=True, optimizer_state="8bit"),
    Memory(weights="rounded", gradient_checkpointing=True, optimizer_state="8bit"),
)


def rungs(precision: str) -> Iterator[Memory]:
    """Yield the choices, the most exact first; without autocast to bf16, weights stay float32."""
    yield from (memory for memory in LADDER if precision == "bf16" or memory.weights == "fp32")
