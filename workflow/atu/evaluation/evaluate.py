"""Evaluation of a model on probe sets: every probe's prompt, prediction and score is kept."""

import json
import math

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from atu.common.errors import ExplainedError
from atu.data.benchmark import CHOICES, PROBE_SETS, BenchmarkError
from atu.engine.chat import chat_prompt
from atu.engine.generation import generate
from atu.engine.likelihood import pick_token, score_tokens
from atu.engine.prefill import context_length
from atu.evaluation import metrics

COLUMNS = ["set", "id", "split", "type", "neighbor", "query", "answers", "prompt", "prediction", "score", "details"]
STOPS = ("stop_at_newline", "stop_at_answer")


def build_prompt(
    tokenizer: PreTrainedTokenizerBase, probe: dict, primers: dict[str, str], instruction: str = ""
) -> str:
    """What the model is shown for one probe: the set's template through the chat template.

    Args:
        instruction: stands at the head of the user's message (ICU); bare texts are shown as they are.

    Raises:
        BenchmarkError: naming the primer that the benchmark lacks.
    """
    spec = PROBE_SETS[probe["set"]]
    if spec["ask"] == "text":
        return probe["query"]
    spec = spec | spec.get("by_type", {}).get(probe["type"], {})
    fields = {"query": probe["query"], "context": probe["context"]}
    try:
        message = spec["message"].format(**fields, **{f"primer_{name}": text for name, text in primers.items()})
    except KeyError as error:
        raise BenchmarkError(f"{probe['set']} needs {error}, and the benchmark has no such primer") from error
    return chat_prompt(tokenizer, instruction + message, spec["suffix"])


def asked_alike(names: list[str]) -> list[list[str]]:
    """The named sets in groups whose prompts can share batches: asked and cut in the same way."""
    groups: dict[tuple, list[str]] = {}
    for name in names:
        way = tuple(PROBE_SETS[name].get(key) for key in ("ask", "max_new_tokens", *STOPS))
        groups.setdefault(way, []).append(name)
    return list(groups.values())


def place(probe: dict) -> str:
    """File and row of a probe."""
    name, number = probe["id"].split("/")
    return f"{PROBE_SETS[name]['file']}.json, row {int(number) + 1}"


def ask(
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    probes: list[dict],
    prompts: list[str],
    batch_tokens: int,
    max_new_tokens: int,
) -> list[dict]:
    """Outcome of each probe: prediction, score (0..1, bits or nats) and details.

    Args:
        probes: of sets that are asked alike.
    """
    spec = PROBE_SETS[probes[0]["set"]]
    title = ", ".join(dict.fromkeys(probe["set"] for probe in probes))
    contexts = [probe["context"] for probe in probes]
    if spec["ask"] == "generate":
        outputs = generate(
            llm,
            tokenizer,
            prompts,
            max_new_tokens=min(spec["max_new_tokens"], max_new_tokens),
            stop_at_newline=spec.get("stop_at_newline", False),
            stop_sentence=metrics.ANSWER if spec.get("stop_at_answer") else None,
            batch_tokens=batch_tokens,
            groups=contexts,
            title=title,
        )
        return [
            score_text(PROBE_SETS[probe["set"]]["metric"], output, probe["answers"])
            for output, probe in zip(outputs, probes, strict=True)
        ]
    if spec["ask"] == "next_token":
        letters = [f" {letter}" for letter in CHOICES]
        picked = pick_token(llm, tokenizer, prompts, letters, batch_tokens, title, contexts)
        predictions = [CHOICES[i] for i in picked]
        return [
            {"prediction": prediction, "score": float(prediction == probe["answers"][0])}
            for prediction, probe in zip(predictions, probes, strict=True)
        ]
    if spec["ask"] == "choices":
        return score_choices(llm, tokenizer, probes, prompts, batch_tokens, title)
    ids = tokenizer(prompts)["input_ids"]
    for probe, row in zip(probes, ids, strict=True):
        if len(row) < 2:
            raise BenchmarkError(
                f"{place(probe)}: {probe['query']!r} is a single token of this model: it has no likelihood; take the "
                "row out"
            )
    scores = score_tokens(llm, ids, [1] * len(ids), batch_tokens, title)
    outcomes = []
    for text, score in zip(prompts, scores, strict=True):
        details = metrics.membership(text, score.log_probs.numpy(), score.mean.numpy(), score.variance.numpy())
        outcomes.append({"prediction": "", "score": details["loss"], "details": details})
    return outcomes


def score_text(metric: str, output: str, answers: list[str]) -> dict:
    """Score a generated answer by one of the generation metrics."""
    if metric == "rouge_l_recall":
        prediction = output.strip() or metrics.NO_ANSWER
        return {"prediction": prediction, "score": metrics.rouge_l_recall(prediction, answers[0])}
    if metric == "reasoning_exact_match":
        extracted = metrics.extract_answer(output)
        return {
            "prediction": output,
            "score": metrics.exact_match(extracted, answers),
            "details": {"answer": extracted},
        }
    if metric == "factuality":
        details = {"exact_match": metrics.exact_match(output, answers)}
        return {"prediction": output, "score": metrics.token_f1(output, answers), "details": details}
    return {"prediction": output, "score": metrics.ngram_entropy(output)}


def score_choices(
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    probes: list[dict],
    prompts: list[str],
    batch_tokens: int,
    title: str,
) -> list[dict]:
    """TruthfulQA: sum of log-probabilities of each choice behind the prompt."""
    ids, first = [], []
    for probe, prompt in zip(probes, prompts, strict=True):
        prefix = tokenizer.encode(prompt, add_special_tokens=False)
        for choice in probe["choices"]:
            ids.append(tokenizer.encode(f"{prompt} {choice}", add_special_tokens=False))
            first.append(len(prefix))
    scores = np.array([score.log_probs.sum().item() for score in score_tokens(llm, ids, first, batch_tokens, title)])
    outcomes = []
    ends = np.cumsum([len(probe["choices"]) for probe in probes])
    for probe, own in zip(probes, np.split(scores, ends[:-1]), strict=True):
        details = metrics.truthfulness(own, probe["mc1"], probe["mc2"])
        prediction = probe["choices"][int(own.argmax())]
        outcomes.append({"prediction": prediction, "score": details["mc1"], "details": details})
    return outcomes


def check_lengths(
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    probes: list[dict],
    prompts: list[str],
    max_new_tokens: int,
) -> None:
    """Refuse prompts that the model cannot read whole, before any is asked.

    Args:
        probes: of sets that are asked alike.

    Raises:
        ExplainedError: naming probe and lengths.
    """
    context = context_length(llm.config)
    if context is None or not prompts:
        return
    spec = PROBE_SETS[probes[0]["set"]]
    new = min(spec["max_new_tokens"], max_new_tokens) if spec["ask"] == "generate" else 0
    for probe, prompt in zip(probes, prompts, strict=True):
        choices = [f" {choice}" for choice in probe["choices"]] if spec["ask"] == "choices" else [""]
        texts = [prompt + choice for choice in choices]
        rows = tokenizer(texts, add_special_tokens=spec["ask"] == "text", verbose=False)["input_ids"]
        longest = max(map(len, rows))
        scored = int(spec["ask"] in ("text", "choices"))  # the last token of what is scored is never read
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
    outcomes: dict[str, list[dict]] = {name: [] for name in sets}
    alike = []
    for names in asked_alike(sets):
        asked = [probe for name in names for probe in probes[probes["set"] == name].to_dict("records")]
        prompts = [build_prompt(tokenizer, probe, primers, instruction) for probe in asked]
        check_lengths(llm, tokenizer, asked, prompts, max_new_tokens)
        alike.append((asked, prompts))
    for asked, prompts in alike:
        found = ask(llm, tokenizer, asked, prompts, batch_tokens, max_new_tokens) if asked else []
        for probe, prompt, outcome in zip(asked, prompts, found, strict=True):
            check_score(probe, outcome)
            keep = {key: probe[key] for key in ("set", "id", "split", "type", "neighbor", "query")}
            keep |= {"answers": list(probe["answers"]), "prompt": prompt}
            outcomes[probe["set"]].append(keep | outcome | {"details": json.dumps(outcome.get("details", {}))})
    return pd.DataFrame([row for name in sets for row in outcomes[name]], columns=COLUMNS)
