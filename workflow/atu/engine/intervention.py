"""Interventions on the base model at inference: an instruction, control vectors, both or neither."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from atu.common.files import read_json, read_tensors, write_json
from atu.common.finite import NotFiniteError, is_finite
from atu.engine.models import decoder_layers


@contextmanager
def steered(llm: PreTrainedModel, vectors: torch.Tensor, layers: list[int], coefficient: float) -> Iterator[None]:
    """Inside the block, ``coefficient`` times a vector is added to the output of each of the layers.

    Args:
        vectors: one for each layer, [layers, hidden].
        layers: counted from 1, like hidden_states.
    """

    def hook(vector: torch.Tensor):
        def add(module, arguments, output):
            if isinstance(output, tuple):
                return (output[0] + vector.to(output[0]), *output[1:])
            return output + vector.to(output)

        return add

    stack = decoder_layers(llm)
    handles = [
        stack[layer - 1].register_forward_hook(hook(coefficient * vector))
        for layer, vector in zip(layers, vectors, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class Intervention:
    """Attributes:
    instruction: starts the user's message.
    vectors: [layers, hidden]; added, times ``coefficient``, to the outputs of ``layers`` (counted from 1).
    """

    instruction: str = ""
    vectors: torch.Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    layers: list[int] = field(default_factory=list)
    coefficient: float = 1.0

    def __post_init__(self):
        if not is_finite(self.coefficient * self.vectors):
            raise NotFiniteError(
                f"coefficient {self.coefficient:g} times the control vector is not finite: set options.coefficient to "
                "a number near 1"
            )

    @contextmanager
    def applied(self, llm: PreTrainedModel) -> Iterator[None]:
        """Inside the block, the model's activations are changed; the instruction is added where prompts are built."""
        with steered(llm, self.vectors, self.layers, self.coefficient):
            yield

    def save(self, directory: Path) -> None:
        """Write ``intervention.json`` and ``vectors.safetensors``."""
        directory.mkdir(parents=True, exist_ok=True)
        save_file({"vectors": self.vectors.contiguous()}, directory / "vectors.safetensors")
        values = {"instruction": self.instruction, "layers": self.layers, "coefficient": self.coefficient}
        write_json(directory / "intervention.json", values)

    @classmethod
    def load(cls, directory: str | Path) -> "Intervention":
        values = read_json(Path(directory, "intervention.json"), directory)
        return cls(vectors=read_tensors(Path(directory, "vectors.safetensors"), directory)["vectors"], **values)
