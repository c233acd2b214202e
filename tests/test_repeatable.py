"""Numbers that repeat: jobs of the same machine, and answers whatever else is asked."""

import os

import pytest
import torch

from atu.common.runtime import UnrepeatableError, job_log, provenance, start, unrepeatable_explained
from atu.engine.engine import Engine
from atu.engine.plain import why_plain
from conftest import tiny_llm

HEADER = "the king of Rome was a poet and the queen "
PROMPTS = [
    *(HEADER + end for end in ("sea", "Who? red blue", "river")),
    "Ada was born in",
    "Who wrote the song? the sea",
]
GROUPS = [HEADER] * 3 + [""] * 2


@pytest.fixture
def as_before():
    """Torch as it was, behind a test that starts jobs."""
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_job_computes_as_it_is_told_and_its_record_says_so(deterministic, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    start(seed=3, threads=1, device="cpu", deterministic=deterministic)
    assert provenance()["deterministic"] is torch.backends.cudnn.deterministic is deterministic
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if deterministic else None)
    assert not torch.backends.cudnn.benchmark


def without_a_form():
    """An operation that torch has no deterministic form of, on a CPU either."""
    torch.zeros(4).put_(torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))


@pytest.mark.usefixtures("as_before")
def test_an_operation_that_cannot_repeat_ends_the_job_in_one_line(tmp_path):
    with pytest.raises(SystemExit), job_log(tmp_path / "job.log"):
        start(seed=3, threads=1, device="cpu")
        without_a_form()
    _, line = (tmp_path / "job.log").read_text().splitlines()
    assert "deterministic: put_ has no form on this device that repeats its numbers; set deterministic to false" in line
    assert (tmp_path / "job.fault").exists()  # another try would meet it again
    start(seed=3, threads=1, device="cpu", deterministic=False)
    without_a_form()


def test_other_faults_stay_what_they_are():
    with pytest.raises(RuntimeError, match=r"^size mismatch$") as raised, unrepeatable_explained():
        raise RuntimeError("size mismatch")
    assert not isinstance(raised.value, UnrepeatableError)


def found(engine: Engine, prompts: list[str], groups: list[str]) -> list[tuple]:
    """By prompt what is written, the log-probabilities of its last tokens, and of two letters behind it."""
    ids = engine.encode(prompts)
    scores = engine.score_tokens(ids, [len(row) - 2 for row in ids], groups=groups)
    letters = engine.weigh_next(prompts, [" sea", " river"], groups=groups)
    answers = engine.generate(prompts, max_new_tokens=6, groups=groups)
    numbers = [(score.log_probs.tolist(), score.mean.tolist(), score.variance.tolist()) for score in scores]
    return list(zip(answers, numbers, [row.tolist() for row in letters], strict=True))


@pytest.mark.parametrize(
    ("family", "own", "plain"),
    [("llama", {}, False), ("lfm2", {"layer_types": ["conv", "full_attention"]}, True)],
    ids=["shared prefixes", "plain"],
)
def test_alone_nothing_else_bears_on_an_answer(llm, family, own, plain):
    """To the last bit, in bf16: fewer prompts beside it, and another order."""
    tokenizer = llm[1]
    model = tiny_llm(tokenizer, family, **own).to(torch.bfloat16).eval()
    assert bool(why_plain(model)) == plain
    engine = Engine(model, tokenizer, None)
    whole = found(engine, PROMPTS, GROUPS)
    assert found(engine, PROMPTS[::-1], GROUPS[::-1]) == whole[::-1]
    for i in (0, 4):
        assert found(engine, [PROMPTS[i]], [GROUPS[i]]) == [whole[i]]
    assert found(engine, PROMPTS[1:3], GROUPS[1:3]) == whole[1:3]
