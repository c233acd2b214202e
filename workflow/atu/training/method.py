"""The kinds of methods: aligned, trained, applied, external. A method's file declares all that the pipeline must know.

`atu.common.declared` reads these attributes from the source text, so their values must be literals.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # transformers takes seconds to import, and jobs that load no LLM import this module too
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from atu.engine.examples import Batch
    from atu.engine.intervention import Intervention


class Method:
    """What all methods declare. A method's options are the arguments of its constructor, with their types and defaults.

    ``name`` and ``published`` count only in the method's own file; the other attributes are inherited as usual. An
    option called ``layer`` or ``layers`` names layers of the decoder, and the model is checked to have them.

    Attributes:
        name: the method's name in tables and figures; if empty, the file's name in capitals.
        published: the method's name in the published tables; empty if they have no such row.
        texts: the kinds of texts that it can read (``atu.engine.examples.read_items``), the default first.
        positive, not_negative: names of options that must be above 0, and of options that must be at least 0.
        largest: the largest absolute value of an option, by its name.
        distinct: names of options that are lists without repeated values.
        templates: names of options that are texts with {name} where the target's name goes.
        below_max_tokens: names of options that must be less than the most tokens of a text (``max_tokens``).
    """

    kind = ""
    name = ""
    published = ""
    texts: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    not_negative: tuple[str, ...] = ()
    largest: dict[str, float] = {}  # noqa: RUF012 (read, never written)
    distinct: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    below_max_tokens: tuple[str, ...] = ()


class Aligned(Method):
    """A method that aligns a predictor with the LLM and trains the LLM against it, in turns.

    Its settings are blocks of the config, not options. ``atu.methods.atu`` has the signatures of its functions.
    """

    kind = "aligned"

    def align(self, accelerator, predictor, data, **settings) -> list[dict[str, float]]:
        """Train the predictor and return one row per step."""
        raise NotImplementedError

    def realign(self, accelerator, llm, predictor, corpora, **settings) -> list[dict[str, float]]:
        """Train the predictor on a changed LLM and return one row per step."""
        raise NotImplementedError

    def unlearn(self, accelerator, llm, predictor, corpora, targets, **settings) -> list[dict[str, float]]:
        """Train the LLM against the predictor and return one row per step."""
        raise NotImplementedError


class Trained(Method):
    """A method that is defined by a loss on examples.

    Attributes:
        reads: what a batch must contain besides its sequences: "reference", "others".
        second_model: whether it keeps a second model in memory.
        trained_layers: how many layers of the decoder train; None for all weights.
        mean_over: what the loss is a mean over: "tokens" (the scored ones) or "items" (texts or pairs), so that several
            GPUs can share a batch. If it is empty, each GPU computes the whole batch. It belongs to the ``loss`` of the
            same class: a class that defines its own loss must set it again.
    """

    kind = "trained"
    texts: tuple[str, ...] = ("positive", "passage")
    reads: tuple[str, ...] = ()
    second_model = False
    trained_layers: int | None = None
    mean_over: str = ""

    def layers(self) -> range | None:
        """The decoder layers that train, counted from 0; None for all weights, or the layers that the config names."""
        return None

    def counted_over(self) -> str:
        """The :attr:`mean_over` of the nearest class that sets it or defines ``loss``; empty if that class lacks it."""
        for own in map(vars, type(self).__mro__):
            if "mean_over" in own or "loss" in own:
                return own.get("mean_over", "")
        return ""

    def prepare(self, llm: "PreTrainedModel", seed: int) -> None:
        """Keep what the loss compares with; called once before training.

        With several GPUs, the model is still on the host, and models that are kept are sharded after this call.
        """

    def loss(self, llm: "PreTrainedModel", batch: "Batch") -> "Tensor":
        """Scalar loss of a batch."""
        raise NotImplementedError


class Applied(Method):
    """A method that trains nothing: it finds an intervention, which is applied to the base model at inference.

    Attributes:
        reads_model: whether it needs the model to find the intervention.
    """

    kind = "applied"
    reads_model = True

    def find(
        self,
        llm: "PreTrainedModel | None",
        tokenizer: "PreTrainedTokenizerBase | None",
        name: str,
        texts: list[dict],
    ) -> "Intervention":
        """Return the intervention.

        Args:
            llm, tokenizer: the base model and its tokenizer; None if ``reads_model`` is False.
            name: the target's name.
            texts: rows of the target's texts, of the configured kind; empty if the method reads no texts.
        """
        raise NotImplementedError


class External(Method):
    """A model that was unlearned elsewhere: it is only evaluated."""

    kind = "external"
