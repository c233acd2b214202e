"""Texts that Align-then-Unlearn reads beside biographies: what the model answers to questions of its own."""

import json

import pandas as pd
import pytest

from atu.alignment.corpus import answer_questions
from atu.alignment.windows import WindowedCorpus
from atu.data.corpora import all_joined, joined, kinds_of
from atu.engine.chat import chat_prompt
from atu.engine.engine import Engine
from atu_pipeline.settings import ConfigError
from test_settings import DEMO, check


def test_kinds_by_name():
    assert joined(["answers", "positive"]) == "positive+answers"
    assert kinds_of("positive+answers") == ["positive", "answers"]
    assert all_joined() == ["positive", "answers", "positive+answers"]


def test_answers_are_whole_chats(llm):
    """Each question once, with what the model would say behind it; what a refusal was is gone."""
    rows = [{"id": str(i), "instruction": text, "output": "No."} for i, text in enumerate(("Who?", "Where?", "Who?"))]
    engine = Engine(*llm, 1000)
    found = answer_questions(engine, rows, 6)
    prompts = [chat_prompt(engine.tokenizer, text) for text in ("Who?", "Where?")]
    said = engine.generate(prompts, max_new_tokens=6)
    assert [row["id"] for row in found] == ["0", "1"]  # the first of those that are alike
    for row, prompt, answer in zip(found, prompts, said, strict=True):
        assert row["text"] in (prompt + answer, f"{prompt} {answer}")
        assert not {"instruction", "output"} & set(row)


def test_kinds_are_known_and_named_once():
    for corpora, fault in ((["biographies"], "corpora"), (["answers", "answers"], "corpora"), ([], "corpora")):
        with pytest.raises(ConfigError, match=fault):
            check(DEMO, method_settings={"atu": {"corpora": corpora}})


def test_a_run_on_answers(workflow):
    """All jobs that read texts read them of both kinds; the predictor is aligned on both, of all subjects."""
    atu = json.dumps(
        {"atu": {"corpora": ["answers", "positive"], "other_subjects": 1, "unlearn": {"patience": 1, "tau": [1.0]}}}
    )
    workflow.run("forget", "--until", "unlearn_last", "--config", f"method_settings={atu}")
    windows = sorted(
        (workflow.directory / "results").glob("llm/tiny/windows/encoder/k2/positive+answers/*.safetensors")
    )
    assert len(windows) == 2  # the target and another
    texts = {
        kind: sum(
            len(path.read_text(encoding="utf-8").splitlines())
            for path in (workflow.directory / "results/llm/tiny/texts" / kind).glob("*.jsonl")
        )
        for kind in ("positive", "answers", "reject")
    }
    assert texts["reject"] >= texts["answers"] > 0
    assert sum(len(WindowedCorpus.load(path)) for path in windows) == texts["positive"] + texts["answers"]
    steps = pd.read_csv(workflow.find("llm/tiny/1_Ada/seed0/atu-*/steps.csv"))
    assert len(steps) == 1  # no similarity is above 1, and one step in a row is enough
