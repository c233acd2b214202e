"""What a method that trains the LLM on examples is."""

from torch import Tensor
from transformers import PreTrainedModel

from atu.engine.examples import Batch


class Trained:
    """A method that is nothing but a loss on examples. Its constructor takes the config's ``options``.

    Attributes:
        texts: the kinds of texts that it is a loss of (``atu.engine.examples.read_items``).
        reads: what a batch must bring besides its sequences: "reference", "others".
        positive, not_negative: names of options that must be above 0, and of those that must not be below.
    """

    texts: tuple[str, ...] = ("positive", "passage")
    reads: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    not_negative: tuple[str, ...] = ()

    def layers(self) -> range | None:
        """Which layers of the decoder train, counted from 0; None for all weights."""
        return None

    def prepare(self, llm: PreTrainedModel, seed: int) -> None:
        """Called once before training: keep what the loss compares with."""

    def loss(self, llm: PreTrainedModel, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""
        raise NotImplementedError
