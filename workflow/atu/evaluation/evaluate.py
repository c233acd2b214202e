"""Evaluation of a model on probe sets: every probe's prompt, prediction and score is kept."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import rouge  # noqa: F401 (metrics import it late; a job that lacks it asks no model in vain)
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from atu.common.errors import ExplainedError
from atu.data.metrics import ANSWER
from atu.data.probe_sets import PROBE_SETS, ProbeSet
from atu.data.rows import CHOICES, BenchmarkError
from atu.engine.chat import chat_prompt
from atu.engine.generation import generate
from atu.engine.likelihood import pick_token, score_tokens
from atu.engine.prefill import context_length

COLUMNS = ["set", "id", "split", "type", "neighbor", "query", "answers", "prompt", "prediction", "score", "details"]
CUT = ("ask", "max_new_tokens", "stop_at_newline", "stop_at_answer")


def build_prompt(
    tokenizer: PreTrainedTokenizerBase, probe: dict, primers: dict[str, str], instruction: str = ""
) -> str:
    """What the model is shown for one probe: the set's template through the chat template.

    Args:
        instruction: stands at the head of the user's message (ICU); bare texts are shown as they are.

    Raises:
        BenchmarkError: naming the primer that the benchmark lacks.
    """
    probe_set = PROBE_SETS[probe["set"]]
    if probe_set.ask == "text":
        return probe["query"]
    message, suffix = probe_set.prompt(probe["type"])
    fields = {"query": probe["query"], "context": probe["context"]}
    try:
        message = message.format(**fields, **{f"primer_{name}": text for name, text in primers.items()})
    except KeyError as error:
        raise BenchmarkError(f"{probe['set']} needs {error}, and the benchmark has no such primer") from error
    return chat_prompt(tokenizer, instruction + message, suffix)


def asked_alike(names: list[str]) -> list[list[str]]:
    """The named sets in groups whose prompts can share batches: asked and cut in the same way."""
    groups: dict[tuple, list[str]] = {}
    for name in names:
        way = tuple(getattr(PROBE_SETS[name], key) for key in CUT)
        groups.setdefault(way, []).append(name)
    return list(groups.values())


def place(probe: dict) -> str:
    """File and row of a probe."""
    name, number = probe["id"].split("/")
    return f"{PROBE_SETS[name].file}.json, row {int(number) + 1}"


@dataclass(frozen=True)
class Batch:
    """Probes of sets that are asked alike, with their prompts and how they are asked.

    Attributes:
        declared: the first of the sets; all are asked and cut as it is.
        batch_tokens, max_new_tokens: as for :func:`evaluate`.
    """

    probes: list[dict]
    prompts: list[str]
    batch_tokens: int
    max_new_tokens: int

    @property
    def declared(self) -> ProbeSet:
        return PROBE_SETS[self.probes[0]["set"]]

    @property
    def new_tokens(self) -> int:
        """At which length an answer is cut; 0 where none is written."""
        longest = self.declared.max_new_tokens
        return min(longest, self.max_new_tokens) if longest and self.declared.ask == "generate" else 0

    @property
    def title(self) -> str:
        """How it is called while it runs."""
        return ", ".join(dict.fromkeys(probe["set"] for probe in self.probes))

    @property
    def contexts(self) -> list[str]:
        """Prompts of one context begin alike."""
        return [probe["context"] for probe in self.probes]


def write_answers(llm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Batch) -> list[str]:
    """What the model writes behind each prompt."""
    return generate(
        llm,
        tokenizer,
        batch.prompts,
        max_new_tokens=batch.new_tokens,
        stop_at_newline=batch.declared.stop_at_newline,
        stop_sentence=ANSWER if batch.declared.stop_at_answer else None,
        batch_tokens=batch.batch_tokens,
        groups=batch.contexts,
        title=batch.title,
    )


def pick_letters(llm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Batch) -> list[str]:
    """The likeliest letter behind each prompt."""
    letters = [f" {letter}" for letter in CHOICES]
    picked = pick_token(llm, tokenizer, batch.prompts, letters, batch.batch_tokens, batch.title, batch.contexts)
    return [CHOICES[i] for i in picked]


def weigh_choices(llm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Batch) -> list[np.ndarray]:
    """Sum of log-probabilities of each choice behind its prompt, [choices] a probe."""
    ids, first = [], []
    for probe, prompt in zip(batch.probes, batch.prompts, strict=True):
        prefix = tokenizer.encode(prompt, add_special_tokens=False)
        for choice in probe["choices"]:
            ids.append(tokenizer.encode(f"{prompt} {choice}", add_special_tokens=False))
            first.append(len(prefix))
    found = score_tokens(llm, ids, first, batch.batch_tokens, batch.title)
    scores = np.array([score.log_probs.sum().item() for score in found])
    ends = np.cumsum([len(probe["choices"]) for probe in batch.probes])
    return np.split(scores, ends[:-1])


def weigh_texts(llm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Batch) -> list[tuple]:
    """Log-probability of each token of a text but the first, its mean and its variance under the model, [T] each.

    Raises:
        BenchmarkError: naming file and row of a text that is one token.
    """
    ids = tokenizer(batch.prompts)["input_ids"]
    for probe, row in zip(batch.probes, ids, strict=True):
        if len(row) < 2:
            raise BenchmarkError(
                f"{place(probe)}: {probe['query']!r} is a single token of this model: it has no likelihood; take the "
                "row out"
            )
    scores = score_tokens(llm, ids, [1] * len(ids), batch.batch_tokens, batch.title)
    return [(score.log_probs.numpy(), score.mean.numpy(), score.variance.numpy()) for score in scores]


# By way of asking (ASKINGS in atu/data/metrics.py), what hands each probe's metric what it scores.
ASK: dict[str, Callable[[PreTrainedModel, PreTrainedTokenizerBase, Batch], list]] = {
    "generate": write_answers,
    "next_token": pick_letters,
    "choices": weigh_choices,
    "text": weigh_texts,
}


def ask(llm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Batch) -> list[dict]:
    """Outcome of each probe: prediction, score (0..1, bits or nats) and details."""
    handed = ASK[batch.declared.ask](llm, tokenizer, batch)
    return [PROBE_SETS[probe["set"]].scoring.score(one, probe) for one, probe in zip(handed, batch.probes, strict=True)]


def check_lengths(llm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Batch) -> None:
    """Refuse prompts that the model cannot read whole, before any is asked.

    Raises:
        ExplainedError: naming probe and lengths.
    """
    context = context_length(llm.config)
    if context is None or not batch.probes:
        return
    way, new = batch.declared.ask, batch.new_tokens
    for probe, prompt in zip(batch.probes, batch.prompts, strict=True):
        choices = [f" {choice}" for choice in probe["choices"]] if way == "choices" else [""]
        texts = [prompt + choice for choice in choices]
        rows = tokenizer(texts, add_special_tokens=way == "text", verbose=False)["input_ids"]
        longest = max(map(len, rows))
        scored = int(way in ("text", "choices"))  # the last token of what is scored is never read
        if longest + new - scored > context:
            more = f" with {new} for the answer" if new else ""
            raise ExplainedError(
                f"{probe['id']} has a prompt of {longest} tokens{more}, and the model's context has {context}: it "
                "cannot be asked whole; shorten that probe, leave its set out of evaluation, or choose a model with a "
                "longer context"
            )


def check_score(probe: dict, outcome: dict) -> None:
    """Refuse a score that no mean can take.

    Raises:
        ExplainedError: naming the probe.
    """
    numbers = [outcome["score"], *outcome.get("details", {}).values()]
    if not all(math.isfinite(number) for number in numbers if isinstance(number, float | int)):
        raise ExplainedError(
            f"{probe['id']}: its score is not finite ({outcome['score']}): the model gives a token of the text no "
            "probability at all, or its logits are damaged; no mean is made of it"
        )


def evaluate(
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    probes: pd.DataFrame,
    sets: list[str],
    primers: dict[str, str],
    batch_tokens: int,
    max_new_tokens: int = 256,
    instruction: str = "",
) -> pd.DataFrame:
    """Ask the probes of the named sets; answers are cut at ``max_new_tokens`` or earlier where RWKU does.

    Returns:
        One row a probe: set, id, split, type, neighbor, query, answers, prompt, prediction, score,
        details (JSON).

    Raises:
        ExplainedError: naming a probe that is too long for the model, or whose score is not finite.
    """
    if any(PROBE_SETS[name].metric == "fluency" for name in sets):
        import atu.data.fluency  # noqa: F401 (as rouge above; it takes two seconds, and most evaluations do without)
    predictions: dict[str, list[dict]] = {name: [] for name in sets}
    batches = []
    for names in asked_alike(sets):
        asked = [probe for name in names for probe in probes[probes["set"] == name].to_dict("records")]
        prompts = [build_prompt(tokenizer, probe, primers, instruction) for probe in asked]
        batches.append(Batch(asked, prompts, batch_tokens, max_new_tokens))
        check_lengths(llm, tokenizer, batches[-1])
    for batch in batches:
        found = ask(llm, tokenizer, batch) if batch.probes else []
        for probe, prompt, outcome in zip(batch.probes, batch.prompts, found, strict=True):
            check_score(probe, outcome)
            keep = {key: probe[key] for key in ("set", "id", "split", "type", "neighbor", "query")}
            keep |= {"answers": list(probe["answers"]), "prompt": prompt}
            predictions[probe["set"]].append(keep | outcome | {"details": json.dumps(outcome.get("details", {}))})
    return pd.DataFrame([row for name in sets for row in predictions[name]], columns=COLUMNS)
