"""What a method is: aligned, trained, applied or external. Its file declares all that the pipeline must know of it.

`atu.common.declared` reads these attributes from the text of the file, so their values are written out.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # transformers takes seconds to import, and what methods are is read by jobs that load no LLM
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from atu.engine.examples import Batch
    from atu.engine.intervention import Intervention


class Method:
    """What all methods declare. Options are the arguments of the constructor: types and defaults are read from it.

    ``name`` and ``published`` count where they stand in the method's own file; the others are inherited as usual. An
    option called ``layer`` or ``layers`` names layers of the decoder, which the model is checked to have.

    Attributes:
        name: how tables and figures call it; nothing for the file's name in capitals.
        published: how the published tables call it; nothing if they have no such row.
        texts: the kinds of texts that it can read (``atu.engine.examples.read_items``), the usual one first.
        positive, not_negative: names of options that must be above 0, and of those that must not be below.
        largest: by name of an option, how far from 0 it may be.
        distinct: names of options that are lists which name something, and each thing once.
        templates: names of options that are texts with {name} where the target's name goes.
        below_max_tokens: names of options that must be less than the tokens of a text (``max_tokens``).
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

    Its settings are blocks of their own and no options. The calls are as ``atu.methods.atu`` has them.
    """

    kind = "aligned"

    def align(self, accelerator, predictor, data, **settings) -> list[dict[str, float]]:
        """Train the predictor; one row a step."""
        raise NotImplementedError

    def realign(self, accelerator, llm, predictor, corpora, **settings) -> list[dict[str, float]]:
        """Train the predictor on a changed LLM; one row a step."""
        raise NotImplementedError

    def unlearn(self, accelerator, llm, predictor, corpora, targets, **settings) -> list[dict[str, float]]:
        """Train the LLM against the predictor; one row a step."""
        raise NotImplementedError


class Trained(Method):
    """A method that is nothing but a loss on examples.

    Attributes:
        reads: what a batch must bring besides its sequences: "reference", "others".
        second_model: whether it keeps a second model in memory.
        trained_layers: how many layers of the decoder train; None for all weights.
        mean_over: what the loss is a mean over: "tokens" (the scored ones), "items" (texts or pairs), so that several
            GPUs can share a batch; nothing if it is neither, and each computes the whole batch. It counts beside the
            ``loss`` of the same class: a class with a loss of its own says it anew.
    """

    kind = "trained"
    texts: tuple[str, ...] = ("positive", "passage")
    reads: tuple[str, ...] = ()
    second_model = False
    trained_layers: int | None = None
    mean_over: str = ""

    def layers(self) -> range | None:
        """Which layers of the decoder train, counted from 0; None for all weights, or those that the config names."""
        return None

    def counted_over(self) -> str:
        """What :attr:`mean_over` says of the loss in force."""
        for own in map(vars, type(self).__mro__):
            if "mean_over" in own or "loss" in own:
                return own.get("mean_over", "")
        return ""

    def prepare(self, llm: "PreTrainedModel", seed: int) -> None:
        """Called once before training: keep what the loss compares with.

        On several GPUs the model lies on the host then, and what is kept as a model is sharded behind this call.
        """

    def loss(self, llm: "PreTrainedModel", batch: "Batch") -> "Tensor":
        """Scalar loss of a batch."""
        raise NotImplementedError


class Applied(Method):
    """A method that trains nothing: what it finds is applied to the base model at inference.

    Attributes:
        reads_model: whether it looks at the model at all.
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
        """What is applied.

        Args:
            llm, tokenizer: the base model; None if ``reads_model`` is False.
            name: of the target.
            texts: rows of the target's texts of the kind that is set; none if it reads none.
        """
        raise NotImplementedError


class External(Method):
    """A model that was unlearned elsewhere: nothing is done to it, it is asked."""

    kind = "external"
