"""Evaluation of a model on probe sets; the result has every probe's prompt, prediction and score."""

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import rouge  # noqa: F401 (metrics import it late; a job that lacks it should fail before asking a model)
from transformers import PreTrainedTokenizerBase

from atu.common.errors import ExplainedError
from atu.data.metrics import ANSWER, PROBABILITY
from atu.data.probe_sets import PROBE_SETS, ProbeSet, about_people
from atu.data.protocol import PROTOCOL, STRICT, Protocol
from atu.data.rows import CHOICES, BenchmarkError
from atu.engine.chat import chat_prompt, continued, named_stops
from atu.engine.engine import Engine
from atu.engine.prefill import context_length

COLUMNS = ["set", "id", "split", "type", "neighbor", "query", "answers", "prompt", "prediction", "score", "details"]
CUT = ("ask", "max_new_tokens", "stop_at_newline", "stop_at_answer", "stops")
log_of_job = logging.getLogger("atu")


def build_prompt(
    tokenizer: PreTrainedTokenizerBase,
    probe: dict,
    primers: dict[str, str],
    instruction: str = "",
    protocol: Protocol = STRICT,
) -> str:
    """The prompt of one probe: the set's template, rendered with the chat template.

    Args:
        instruction: starts the user's message (ICU); also precedes bare texts if the protocol says so.

    Raises:
        BenchmarkError: names the primer that the benchmark lacks.
    """
    probe_set = PROBE_SETS[probe["set"]]
    if probe_set.ask == "text":
        return instruction + probe["query"] if protocol.instructed_texts else probe["query"]
    message, suffix = probe_set.prompt(probe["type"])
    fields = {"query": probe["query"], "context": probe["context"]}
    try:
        message = message.format(**fields, **{f"primer_{name}": text for name, text in primers.items()})
    except KeyError as error:
        raise BenchmarkError(f"{probe['set']} needs {error}, and the benchmark has no such primer") from error
    prompt = chat_prompt(tokenizer, instruction + message)
    spaced = protocol.spaced_suffix and probe_set.spaced_suffix and not prompt.endswith(("\n", " "))
    return f"{prompt} {suffix}" if spaced else prompt + suffix


def asked_alike(names: list[str]) -> list[list[str]]:
    """The named sets, in groups that are asked and cut in the same way, so that their prompts can share batches."""
    groups: dict[tuple, list[str]] = {}
    for name in names:
        way = tuple(repr(getattr(PROBE_SETS[name], key)) for key in CUT)
        groups.setdefault(way, []).append(name)
    return list(groups.values())


def place(probe: dict) -> str:
    """File and row of a probe."""
    name, number = probe["id"].split("/")
    return f"{PROBE_SETS[name].file}.json, row {int(number) + 1}"


@dataclass(frozen=True)
class Batch:
    """Probes of sets that are asked in the same way, with their prompts.

    Attributes:
        declared: the first of the sets; all are asked and cut as it says.
        max_new_tokens: as in :func:`evaluate`.
    """

    probes: list[dict]
    prompts: list[str]
    max_new_tokens: int
    protocol: Protocol

    @property
    def declared(self) -> ProbeSet:
        return PROBE_SETS[self.probes[0]["set"]]

    @property
    def new_tokens(self) -> int:
        """The most tokens of an answer; 0 if the model writes none."""
        longest = self.declared.max_new_tokens
        return min(longest, self.max_new_tokens) if longest and self.declared.ask == "generate" else 0

    @property
    def title(self) -> str:
        """The batch's name in the progress line."""
        return ", ".join(dict.fromkeys(probe["set"] for probe in self.probes))

    @property
    def contexts(self) -> list[str]:
        """The context of each probe; prompts with the same context begin alike."""
        return [probe["context"] for probe in self.probes]


def write_answers(engine: Engine, batch: Batch) -> list[str]:
    """The model's answer to each prompt."""
    named = batch.protocol.named_stops
    return engine.generate(
        batch.prompts,
        max_new_tokens=batch.new_tokens,
        stop_at_newline=batch.declared.stop_at_newline and not named,
        stop_sentence=ANSWER if batch.declared.stop_at_answer else None,
        stops=named_stops(engine.tokenizer, batch.declared.stops) if named else None,
        groups=batch.contexts,
        title=batch.title,
    )


def weigh_letters(engine: Engine, batch: Batch) -> list[np.ndarray]:
    """Log-probability of each letter right after each prompt, [letters] per probe."""
    letters = [f" {letter}" for letter in CHOICES]
    found = engine.weigh_next(batch.prompts, letters, groups=batch.contexts, title=batch.title)
    return [weights.numpy() for weights in found]


def weigh_choices(engine: Engine, batch: Batch) -> list[np.ndarray]:
    """Summed log-probability of each choice after its prompt, [choices] per probe."""
    ids, first = [], []
    for probe, prompt in zip(batch.probes, batch.prompts, strict=True):
        prefix, *rows = engine.encode([prompt, *(f"{prompt} {choice}" for choice in probe["choices"])])
        ids += rows
        first += [len(prefix)] * len(rows)
    found = engine.score_tokens(ids, first, title=batch.title)
    scores = np.array([score.log_probs.sum().item() for score in found])
    ends = np.cumsum([len(probe["choices"]) for probe in batch.probes])
    return np.split(scores, ends[:-1])


def weigh_texts(engine: Engine, batch: Batch) -> list[tuple | None]:
    """For each text, the log-probabilities of all tokens but the first, their means and variances, [T] each.

    Means and variances are over the vocabulary, under the model. None for a text of one token that the protocol leaves
    out.

    Raises:
        BenchmarkError: names the file and row of a text that is a single token.
    """
    ids = engine.tokenizer(batch.prompts)["input_ids"]
    for probe, row in zip(batch.probes, ids, strict=True):
        if len(row) < 2:
            single = f"{place(probe)}: {probe['query']!r} is a single token of this model: it has no likelihood"
            if not batch.protocol.skips_single_tokens:
                raise BenchmarkError(f"{single}; take the row out")
            log_of_job.warning("%s, and is left out", single)
    kept = [i for i, row in enumerate(ids) if len(row) > 1]
    scores = engine.score_tokens([ids[i] for i in kept], [1] * len(kept), title=batch.title)
    handed: list[tuple | None] = [None] * len(ids)
    for i, score in zip(kept, scores, strict=True):
        handed[i] = score.log_probs.numpy(), score.mean.numpy(), score.variance.numpy()
    return handed


def answer_probabilities(engine: Engine, batch: Batch) -> list[float]:
    """The probability of each probe's first answer, 0 to 1: exp of the mean log-probability of its tokens."""
    pairs = zip(batch.prompts, batch.probes, strict=True)
    answers = [continued(prompt, probe["answers"][0]) for prompt, probe in pairs]
    first, ids = (engine.encode(texts) for texts in (batch.prompts, answers))
    found = engine.score_tokens(ids, list(map(len, first)), groups=batch.contexts, title=f"{batch.title}, probability")
    return [math.exp(score.log_probs.mean().item()) for score in found]


# For each way of asking (ASKINGS in atu/data/metrics.py), the function whose results the metric scores.
ASK: dict[str, Callable[[Engine, Batch], list]] = {
    "generate": write_answers,
    "next_token": weigh_letters,
    "choices": weigh_choices,
    "text": weigh_texts,
}


def ask(engine: Engine, batch: Batch) -> list[dict | None]:
    """The outcome of each probe: prediction, score (0..1, bits or nats) and details; None if it is left out."""
    outcomes: list[dict | None] = []
    for handed, probe, prompt in zip(ASK[batch.declared.ask](engine, batch), batch.probes, batch.prompts, strict=True):
        metric, shown = PROBE_SETS[probe["set"]].scoring, probe | {"prompt": prompt}
        outcomes.append(None if handed is None else metric.outcome(handed, shown, batch.protocol))
    return outcomes


def add_probabilities(outcomes: list[dict | None], batch: Batch, engine: Engine) -> None:
    """Add the probability of the first answer to the details of outcomes, in place; other sets are left unchanged."""
    known = about_people()
    chosen = [i for i, probe in enumerate(batch.probes) if probe["set"] in known]
    if not chosen:
        return
    part = replace(batch, probes=[batch.probes[i] for i in chosen], prompts=[batch.prompts[i] for i in chosen])
    for i, probability in zip(chosen, answer_probabilities(engine, part), strict=True):
        if (outcome := outcomes[i]) is not None:
            outcome["details"] = outcome.get("details", {}) | {PROBABILITY: probability}


def check_lengths(engine: Engine, batch: Batch) -> None:
    """Refuse prompts that do not fit the model's context, before any is asked.

    Raises:
        ExplainedError: names the probe and the lengths.
    """
    context = context_length(engine.llm.config)
    if context is None or not batch.probes:
        return
    way, new = batch.declared.ask, batch.new_tokens
    for probe, prompt in zip(batch.probes, batch.prompts, strict=True):
        choices = [f" {choice}" for choice in probe["choices"]] if way == "choices" else [""]
        texts = [prompt + choice for choice in choices]
        rows = engine.tokenizer(texts, verbose=False)["input_ids"] if way == "text" else engine.encode(texts)
        longest = max(map(len, rows))
        scored = int(way in ("text", "choices"))  # the last token of a scored text is not an input
        if longest + new - scored > context:
            more = f" with {new} for the answer" if new else ""
            raise ExplainedError(
                f"{probe['id']} has a prompt of {longest} tokens{more}, and the model's context has {context}: it "
                "cannot be asked whole; shorten that probe, leave its set out of evaluation, or choose a model with a "
                "longer context"
            )


def check_score(probe: dict, outcome: dict) -> None:
    """Refuse a score that is not finite, since it would spoil every mean.

    Raises:
        ExplainedError: names the probe.
    """
    numbers = [outcome["score"], *outcome.get("details", {}).values()]
    if not all(math.isfinite(number) for number in numbers if isinstance(number, float | int)):
        raise ExplainedError(
            f"{probe['id']}: its score is not finite ({outcome['score']}): the model gives a token of the text no "
            "probability at all, or its logits are damaged; no mean is made of it"
        )


def evaluate(
    engine: Engine,
    probes: pd.DataFrame,
    sets: list[str],
    primers: dict[str, str],
    max_new_tokens: int = 256,
    instruction: str = "",
    protocol: Protocol = STRICT,
    probability: bool = False,
) -> pd.DataFrame:
    """Ask the probes of the named sets; answers are cut at ``max_new_tokens``, or earlier where RWKU cuts them.

    Args:
        probability: whether to add the ``probability`` of the first answer to the details
            (:func:`answer_probabilities`), for generated answers about the target and its neighbours.

    Returns:
        One row per probe: set, id, split, type, neighbor, query, answers, prompt, prediction, score,
        details (JSON). Its ``attrs``, which go into a file's metadata, name the protocol.

    Raises:
        ExplainedError: names a probe that is too long for the model, or whose score is not finite.
    """
    if any(PROBE_SETS[name].metric == "fluency" for name in sets):
        import atu.data.fluency  # noqa: F401 (like rouge above; takes two seconds, and few evaluations need it)
    engine = replace(engine, special_tokens=protocol.special_tokens)
    predictions: dict[str, list[dict]] = {name: [] for name in sets}
    batches = []
    for names in asked_alike(sets):
        asked = [probe for name in names for probe in probes[probes["set"] == name].to_dict("records")]
        prompts = [build_prompt(engine.tokenizer, probe, primers, instruction, protocol) for probe in asked]
        batches.append(Batch(asked, prompts, max_new_tokens, protocol))
        check_lengths(engine, batches[-1])
    for batch in batches:
        found = ask(engine, batch) if batch.probes else []
        if probability and batch.probes and batch.declared.ask == "generate":
            add_probabilities(found, batch, engine)
        for probe, prompt, outcome in zip(batch.probes, batch.prompts, found, strict=True):
            if outcome is None:
                continue
            check_score(probe, outcome)
            keep = {key: probe[key] for key in ("set", "id", "split", "type", "neighbor", "query")}
            keep |= {"answers": list(probe["answers"]), "prompt": prompt}
            predictions[probe["set"]].append(keep | outcome | {"details": json.dumps(outcome.get("details", {}))})
    asked_by = pd.DataFrame([row for name in sets for row in predictions[name]], columns=COLUMNS)
    asked_by.attrs[PROTOCOL] = protocol.name
    return asked_by
