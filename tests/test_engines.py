"""The generation and likelihood engines against plain transformers, one text at a time."""

import copy
import re

import pandas as pd
import pytest
import torch

from atu.data.benchmark import BenchmarkError, build_probes, read_primers
from atu.engine.attention import GrowingLayer, Prefixes, new_cache
from atu.engine.batching import budget_batches, equal_batches
from atu.engine.chat import chat_prompt, stop_tokens, turn_end
from atu.engine.engine import Engine
from atu.engine.generation import tokens_with
from atu.engine.prefill import common_prefix
from atu.evaluation.evaluate import asked_alike, build_prompt, evaluate

PROMPTS = ["Ada was born in", "Who wrote the song?", "the sea", "Question: red blue green stone river"]


def test_batches_keep_within_the_budget():
    lengths, groups = [5, 9, 3, 4, 20, 2], ["a", "b", "a", "b", "c", "a"]
    # 20 alone exceeds 18; 4 would be padded to 9, more than twice its length; 3 x 5 fit, 4 x 5 do not
    assert budget_batches(lengths, [0] * 6, 18, groups) == [[4], [1], [3, 0, 2], [5]]
    assert budget_batches([4, 4, 4], [0] * 3, 8, [""] * 3) == [[0, 1], [2]]
    assert budget_batches([], [], 8, []) == []
    # a prefix counts once: 10 + 2 x 4 fit into 18; with another group's beside it (2 x 10 + 2 x 4) they do not
    assert budget_batches([4, 4], [10, 10], 18, ["a", "a"]) == [[0, 1]]
    assert budget_batches([4, 4], [10, 10], 18, ["a", "b"]) == [[0], [1]]


def test_batches_of_one_length():
    # three of 5 fit into 18, a fourth does not; 20 alone exceeds it
    assert equal_batches([5, 3, 5, 20, 5, 5, 3], 18) == [[3], [0, 2, 4], [5], [1, 6]]
    assert equal_batches([], 18) == []


def test_rows_of_several_groups_share_a_batch(llm):
    """Prefixes of other lengths side by side, one group of a single row, answers as one by one."""
    headers = ["the king of Rome was a poet and the queen ", "Who? ", "sea river "]
    prompts = [header + prompt for header in headers[:2] for prompt in PROMPTS] + [headers[2] + PROMPTS[0]]
    groups = [header for header in headers[:2] for _ in PROMPTS] + [headers[2]]
    together = Engine(*llm, 4096).generate(prompts, max_new_tokens=12, groups=groups)
    alone = [Engine(*llm, 1).generate([prompt], max_new_tokens=12)[0] for prompt in prompts]
    assert together == alone
    assert len({len(answer) for answer in together}) > 1


def test_a_growing_layer_holds_what_it_was_given():
    """... also when it has to make room, and for the rows that go on."""
    torch.manual_seed(0)
    layer, given = GrowingLayer(), []
    for length in (3, 1, GrowingLayer.room, 1):
        given.append(torch.randn(2, 4, 2, length, 5))
        layer.update(*given[-1])
    keys, values = torch.cat(given, dim=3)
    assert torch.equal(layer.keys, keys)
    assert torch.equal(layer.values, values)
    layer.batch_select_indices(torch.tensor([2, 0]))
    assert torch.equal(layer.keys, keys[[2, 0]])
    layer.update(*given[1][:, [2, 0]])
    assert torch.equal(layer.keys, torch.cat([keys, given[1][0]], dim=2)[[2, 0]])


def test_prefixes_that_nobody_continues_are_dropped():
    caches = [new_cache() for _ in range(4)]
    for i, cache in enumerate(caches):
        cache.update(*torch.full((2, 1, 1, i, 2), float(i)), 0)
    prefixes = Prefixes(caches, torch.tensor([3, 0, 3, 1, 2]))
    assert prefixes.slot.tolist() == [0, 0, 1, 0, 0]
    assert prefixes.keys[0][:, 0, :, 0].tolist() == [[0, 0, 0], [1, 0, 0], [2, 2, 0], [3, 3, 3]]
    prefixes.select(torch.tensor([2, 3]))
    assert prefixes.lengths.tolist() == [1, 3]
    assert prefixes.group.tolist() == [1, 0]
    assert prefixes.keys[0][:, 0, :, 0].tolist() == [[1, 0, 0], [3, 3, 3]]


def test_an_ended_row_leaves_the_batch(llm, monkeypatch):
    model, tokenizer = copy.deepcopy(llm[0]), llm[1]
    model.generation_config.eos_token_id = list(range(0, 400, 9))
    rows = []
    plain = model.get_decoder().forward

    def forward(*args, **kwargs):
        rows.append(len(kwargs["input_ids"]))
        return plain(*args, **kwargs)

    monkeypatch.setattr(model.get_decoder(), "forward", forward)
    answers = Engine(model, tokenizer, 4096).generate(PROMPTS, max_new_tokens=40)
    alone = [Engine(model, tokenizer, 1).generate([prompt], max_new_tokens=40)[0] for prompt in PROMPTS]
    assert answers == alone
    rows = rows[: rows.index(1) + 1]
    assert rows[0] == len(PROMPTS)
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] < len(PROMPTS)


def test_answers_stop_at_a_line_break(llm):
    tokenizer = llm[1]
    ids = tokens_with(tokenizer, "\n")
    assert ids
    assert all("\n" in tokenizer.decode([i]) for i in ids)
    answers = Engine(*llm, 400).generate(PROMPTS, max_new_tokens=20, stop_at_newline=True)
    assert not any("\n" in answer for answer in answers)


def test_answers_stop_behind_the_sentence_that_is_scored(llm, monkeypatch):
    """... with the mark that completes what is sought, not with one before; the tiny model's period is an "e"."""
    engine, tokenizer = Engine(*llm, 4096), llm[1]
    marks = tokens_with(tokenizer, "e")
    monkeypatch.setattr("atu.engine.generation.tokens_with", lambda tokenizer, mark: marks)
    whole = engine.generate(PROMPTS, max_new_tokens=40)
    cut = engine.generate(PROMPTS, max_new_tokens=40, stop_sentence=re.compile("e[^e]*e"))
    for answer, shorter in zip(whole, cut, strict=True):
        assert answer.startswith(shorter)
        assert shorter == answer or shorter.count("e") >= 2
        last = tokenizer.encode(shorter, add_special_tokens=False)[-1]
        assert shorter == answer or shorter[: -len(tokenizer.decode([last]))].count("e") < 2
    assert cut != whole
    assert engine.generate(PROMPTS, max_new_tokens=40, stop_sentence=re.compile("nowhere")) == whole


def test_sets_that_are_asked_alike_share_batches(llm, tiny):
    names = ["forget_fb", "utility_fac", "neighbor_qa", "mia_fm"]
    assert asked_alike(names) == [["forget_fb", "neighbor_qa"], ["utility_fac"], ["mia_fm"]]
    folder = tiny / "benchmark"
    parts = [build_probes(folder, target, 0.25, 0)[0] for target in ("4_Beyoncé", None)]
    probes, primers = pd.concat(parts), read_primers(folder / "Utility/primers.json")
    together = evaluate(Engine(*llm, 4096), probes, names, primers)
    alone = pd.concat([evaluate(Engine(*llm, 1), probes, [name], primers) for name in names])
    assert list(together["set"].unique()) == names
    assert list(together["prediction"]) == list(alone["prediction"])
    assert list(together["score"]) == pytest.approx(list(alone["score"]), abs=1e-4)


def test_stop_tokens_come_from_the_model(llm):
    model, tokenizer = llm
    assert stop_tokens(model, tokenizer) == [tokenizer.eos_token_id]


def test_a_failed_generation_is_an_error(llm, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(llm[0].get_decoder(), "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        Engine(*llm, 60).generate(PROMPTS, max_new_tokens=8)


def test_a_shared_prefix_changes_nothing(llm):
    alone, together = Engine(*llm, 1), Engine(*llm, 200)
    texts = [header + prompt for header in ("the king of Rome was ", "Who? ") for prompt in PROMPTS]
    ids = alone.encode(texts)
    single, groups = [str(i) for i in range(8)], ["king"] * 4 + ["who"] * 4
    first = [len(row) - 2 for row in ids]
    assert common_prefix(ids[:4]) >= 5
    plain = alone.score_tokens(ids, first, groups=single)
    shared = together.score_tokens(ids, first, groups=groups)
    for one, other in zip(plain, shared, strict=True):
        torch.testing.assert_close(one.log_probs, other.log_probs, atol=1e-4, rtol=1e-4)
    letters = [" A", " B"]
    weighed = together.weigh_next(texts, letters, groups=groups)
    torch.testing.assert_close(weighed, alone.weigh_next(texts, letters, groups=single), atol=1e-4, rtol=1e-4)


def test_common_prefix():
    assert common_prefix([[1, 2, 3], [1, 2, 4], [1, 2]]) == 2
    assert common_prefix([[1, 2], [1, 2]]) == 2
    assert common_prefix([[1], [2]]) == 0


def test_a_text_of_one_token_cannot_be_scored(llm):
    with pytest.raises(ValueError, match="too short"):
        Engine(*llm, 1).score_tokens([[5]], [1])


def test_chat_prompt(llm):
    text = chat_prompt(llm[1], "hello\n", "Answer:", system="be brief")
    assert text == "<|system|>be brief<|end|><|user|>hello\n<|end|><|assistant|>Answer:"


PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}<|assistant|>"
)
DROPS_SYSTEM = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] + '<|end|>' }}{% endfor %}"


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM], ids=["refuses", "drops"])
def test_without_a_system_role_the_user_says_it(llm, template):
    tokenizer = copy.deepcopy(llm[1])
    tokenizer.chat_template = template
    assert "You know Ada.\nwrite<|end|>" in chat_prompt(tokenizer, "write", system="You know Ada.")
    assert "You know Ada." not in chat_prompt(tokenizer, "write")


def test_turns_end_where_the_template_ends_them(llm):
    """Phi-3 ends its turns with a token that is not the tokenizer's end of text."""
    model, tokenizer = copy.deepcopy(llm[0]), copy.deepcopy(llm[1])
    tokenizer.chat_template = PHI3
    tokenizer.eos_token = "<|user|>"
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    model.generation_config.eos_token_id = None
    assert turn_end(tokenizer) == end
    assert stop_tokens(model, tokenizer) == sorted([end, tokenizer.eos_token_id])
    model.generation_config.eos_token_id = [4, 2]
    assert stop_tokens(model, tokenizer) == sorted({4, 2, end, tokenizer.eos_token_id})


def test_every_set_is_asked_and_every_probe_kept(llm, tiny):
    folder = tiny / "benchmark"
    probes = pd.concat([build_probes(folder, target, 0.25, 0)[0] for target in ("4_Beyoncé", None)])
    names = list(probes["set"].unique())
    assert len(names) == 12
    predictions = evaluate(Engine(*llm, 400), probes, names, read_primers(folder / "Utility/primers.json"))
    assert len(predictions) == len(probes)
    assert predictions["prompt"].str.len().min() > 0
    assert predictions["score"].notna().all()
    asked = predictions.set_index("id")["prompt"]
    assert asked["forget_fb/0"].endswith("<|assistant|>Answer:")
    assert (
        "Please complete the blank in the following question.\nQuestion: Who wrote song? Beyoncé ___\n"
        in asked["forget_fb/0"]
    )
    assert asked["mia_fm/0"] == "Beyoncé was a poet in Rome."
    assert "Answer: B\n\nPlease following the previous examples" in asked["utility_gen/0"]


def test_attack_types_are_asked_in_their_own_way(llm):
    probe = {"set": "forget_aa", "query": "Who? Sure, here is the answer:", "context": "", "type": "affirmative suffix"}
    assert build_prompt(llm[1], probe, {}).endswith("Sure, here is the answer:<|end|><|assistant|>")
    probe |= {"type": "in-context learning", "query": "Question: a?\nAnswer: b\nQuestion: c?"}
    expected = "the following question.\nQuestion: a?\nAnswer: b\nQuestion: c?\n<|end|><|assistant|>Answer:"
    assert build_prompt(llm[1], probe, {}).endswith(expected)


def test_a_text_of_one_token_is_named(llm, tiny):
    probes, _ = build_probes(tiny / "benchmark", "1_Ada", 0.0, 0)
    texts = probes[probes["set"] == "mia_fm"]
    short = pd.concat([texts, texts.assign(query="a", id="mia_fm/1")], ignore_index=True)
    with pytest.raises(BenchmarkError, match=r"forget_mia.json, row 2: 'a' is a single token of this model"):
        evaluate(Engine(*llm, 400), short, ["mia_fm"], {})
