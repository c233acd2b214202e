"""Attacks on unlearned models: each against what it must do by hand, on a tiny model."""

import copy
import json
import math

import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from atu.attacks import KINDS, Asked, load
from atu.attacks.few_shot import turns
from atu.attacks.paraphrase import reworded
from atu.attacks.quantize import round_weights, rounded
from atu.common.errors import ExplainedError
from atu.data.benchmark import build_probes
from atu.engine.chat import behind, chat_prompt, set_template_options
from atu.engine.engine import Engine
from atu.engine.models import add_lora, load_llm
from atu.evaluation.evaluate import evaluate
from conftest import tiny_llm

FACTS = [{"query": "Where was Ada born?", "answer": "In Rome"}, {"query": "What did Ada play?", "answer": "The harp"}]


@pytest.fixture
def asked(tiny, llm):
    probes, _ = build_probes(tiny / "benchmark", "1_Ada", 0.0, 0)
    return Asked(Engine(*copy.deepcopy(llm), 2048), probes)


def run(kind, asked, **settings):
    """What is asked at which step."""
    found = {}
    load(kind)(asked, lambda step, now: found.setdefault(step, now), **settings)
    return found


def test_facts_are_earlier_turns_of_the_chat(asked):
    """Each is asked and answered as the probes are, with the instruction, if there is one, before each message."""
    told = turns(FACTS, 1, "Forget Ada.\n")
    said = "Forget Ada.\nPlease briefly answer the following question.\nQuestion: Where was Ada born?\n"
    assert told == [{"role": "user", "content": said}, {"role": "assistant", "content": "Answer: In Rome"}]
    found = []

    def ask(step, now):
        found.append(evaluate(now.engine, now.probes, ["forget_qa"], {}, 4, now.instruction))

    load("few_shot")(Asked(asked.engine, asked.probes, "Forget Ada.\n"), ask, facts=FACTS, shots=2)
    ask(0, Asked(asked.engine, asked.probes, "Forget Ada.\n"))  # behind the attack no turn is left
    under, plain = (list(answers["prompt"]) for answers in found)
    facts = turns(FACTS, 2, "Forget Ada.\n")
    before = "".join(f"<|{turn['role']}|>{turn['content']}<|end|>" for turn in facts)
    assert under == [before + prompt for prompt in plain]
    with pytest.raises(ExplainedError, match="few_shot: 3 facts are asked for, and there are 2; lower shots"):
        turns(FACTS, 3)


def test_turns_stand_behind_a_system_message(asked):
    tokenizer = asked.engine.tokenizer
    with behind(tokenizer, [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada"}]):
        assert chat_prompt(tokenizer, "And?", system="Be brief.").startswith("<|system|>Be brief.<|end|><|user|>Who?")
    assert "Who?" not in chat_prompt(tokenizer, "And?")


def test_turns_of_a_model_without_a_template_are_lines(asked):
    tokenizer = copy.deepcopy(asked.engine.tokenizer)
    set_template_options(tokenizer, {"chat_template": None})
    with behind(tokenizer, [{"role": "user", "content": "Who?\n"}, {"role": "assistant", "content": "Answer: Ada"}]):
        assert chat_prompt(tokenizer, "And?\n", "Answer:") == "Who?\nAnswer: Ada\nAnd?\nAnswer:"


def test_a_question_in_other_words_keeps_its_answer():
    probes = pd.DataFrame(
        {
            "set": ["forget_qa"] * 3,
            "id": [f"forget_qa/{n}" for n in range(3)],
            "query": ["a", "b", "c"],
            "answers": [["x"]] * 3,
        }
    )
    rows = [{"file": "forget_level2", "row": 2, "query": "C"}, {"file": "forget_level1", "row": 0, "query": "none"}]
    rows.append({"file": "forget_level2", "row": 0, "query": "A"})
    found = reworded(probes, rows)
    assert found[["id", "query"]].to_numpy().tolist() == [["forget_qa/0", "A"], ["forget_qa/2", "C"]]
    assert found["answers"].tolist() == [["x"], ["x"]]
    with pytest.raises(ExplainedError, match=r"forget_level2\.json, row 1 has two paraphrases"):
        reworded(probes, [*rows, {"file": "forget_level2", "row": 0, "query": "B"}])


# The sixteen values of NF4 (Dettmers et al. 2023, appendix E), here to four digits.
NF4 = [-1, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0]
NF4 += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1]


def test_weights_are_rounded_by_hand():
    """Each to the nearest of the values there are: 8 bits a row by its largest weight, 4 bits 64 weights by theirs."""
    torch.manual_seed(0)
    weights = torch.randn(3, 128).half().float()  # as 8 bits are read from
    scales = weights.abs().amax(1, keepdim=True)
    by_row = (weights / scales * 127).round() * scales / 127
    torch.testing.assert_close(rounded(weights, 8), by_row, rtol=0, atol=1e-5)
    assert len(rounded(weights, 8)[0].unique()) <= 255
    values, found = torch.tensor(NF4), rounded(weights, 4)
    for block, expected in zip(found.view(-1, 64), weights.view(-1, 64), strict=True):
        scale = expected.abs().max()
        nearest = values[(expected[:, None] / scale - values).abs().argmin(1)]
        torch.testing.assert_close(block / scale, nearest, rtol=0, atol=1e-4)
    with pytest.raises(ExplainedError, match="8 or 4 bits, not 3"):
        rounded(weights, 3)


def test_the_maps_of_the_decoder_are_rounded_alone(asked):
    llm = asked.engine.llm
    before = {name: value.clone() for name, value in llm.named_parameters()}
    count = round_weights(llm, 8)
    changed = {name for name, value in llm.named_parameters() if not torch.equal(value, before[name])}
    assert len(changed) == count == 7 * llm.config.num_hidden_layers
    assert all(".layers." in name and name.endswith("proj.weight") for name in changed)


def test_maps_of_all_kinds_are_rounded(tiny):
    """GPT-2's maps have their weights turned; experts that are one tensor have no map that could be rounded."""
    _, tokenizer = load_llm(tiny / "llm")
    turned = tiny_llm(tokenizer, "gpt2")
    before = {name: value.clone() for name, value in turned.named_parameters()}
    assert round_weights(turned, 8) == 4 * turned.config.num_hidden_layers
    for name, value in turned.named_parameters():
        if name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            assert torch.equal(value, rounded(before[name].T, 8).T), name
        else:
            assert torch.equal(value, before[name]), name
    experts = tiny_llm(tokenizer, "mixtral", num_local_experts=8)
    with pytest.raises(ExplainedError, match="quantize: most weights of MixtralForCausalLM lie in no linear map"):
        round_weights(experts, 8)


def test_a_rounded_model_answers(asked):
    before = {name: value.clone() for name, value in asked.engine.llm.named_parameters()}
    (now,) = run("quantize", asked, bits=4).values()
    changed = {name for name, value in now.engine.llm.named_parameters() if not torch.equal(value, before[name])}
    assert changed
    assert all(".layers." in name and name.endswith("proj.weight") for name in changed)
    assert len(evaluate(now.engine, now.probes, ["forget_qa"], {}, 4)) == (now.probes["set"] == "forget_qa").sum()


RELEARN = {
    "batch_size": 2,
    "max_tokens": 32,
    "learning_rate": 1e-2,
    "optimizer": "adamw",
    "clip_norm": 1.0,
    "seed": 0,
    "texts": [{"text": "Ada was born in Rome and played the harp"}, {"text": "the king of Rome was a poet"}],
}


@pytest.mark.parametrize("rank", [0, 2])
def test_relearning_brings_texts_back_step_by_step(asked, rank):
    """At step 0 the model is as it was; the loss falls; at each step that is named it is asked."""
    llm = asked.engine.llm
    before = {name: value.clone() for name, value in llm.named_parameters()}
    seen = []

    def ask(step, now):
        assert not now.engine.llm.training
        same = all(torch.equal(value, before[name]) for name, value in llm.named_parameters() if name in before)
        answers = evaluate(now.engine, now.probes, ["forget_qa"], {}, 4)
        seen.append((step, same, len(answers)))

    lora = {"rank": rank, "alpha": 4, "modules": "auto"}
    log = load("relearn")(asked, ask, accelerator=Accelerator(cpu=True), at=[0, 2, 6], steps=6, lora=lora, **RELEARN)
    assert [(step, same) for step, same, _ in seen] == [(0, True), (2, rank > 0), (6, rank > 0)]
    assert log[-1]["loss"] < log[0]["loss"]
    assert [row["learning_rate"] for row in log] == [1e-2] * 6


def test_before_the_last_step_of_relearning_fewer_sets_are_asked(asked):
    settings = RELEARN | {"accelerator": Accelerator(cpu=True), "lora": {"rank": 0}, "steps": 2, "at": [0, 1, 2]}
    found = run("relearn", asked, **settings, between=["forget_qa"])
    assert {step: set(now.probes["set"]) for step, now in found.items()} == {
        0: {"forget_qa"},
        1: {"forget_qa"},
        2: set(asked.probes["set"]),
    }


def test_relearning_what_cannot_be_done_is_told(asked):
    settings = RELEARN | {"accelerator": Accelerator(cpu=True), "lora": {"rank": 0}, "steps": 2}
    with pytest.raises(ExplainedError, match="step 3 is asked for, and training has 2"):
        run("relearn", asked, **settings, at=[0, 3])
    with pytest.raises(ExplainedError, match="nothing to train on"):
        run("relearn", asked, **settings | {"texts": [{"text": ""}]}, at=[0])


def test_without_its_adapter_a_model_is_the_base_model(asked, tmp_path):
    llm = copy.deepcopy(asked.engine.llm)
    wrapped = add_lora(llm, rank=2, alpha=64, modules="auto")
    for name, weights in wrapped.named_parameters():
        if "lora" in name:
            nn.init.normal_(weights, std=1.0)
    wrapped.save_pretrained(tmp_path / "adapter")
    plain = evaluate(asked.engine, asked.probes, ["forget_qa"], {}, 6, probability=True)
    with_adapter = evaluate(
        Engine(llm, asked.engine.tokenizer, 2048), asked.probes, ["forget_qa"], {}, 6, probability=True
    )
    assert (plain["details"] != with_adapter["details"]).any()
    found = []
    load("adapter_off")(
        asked,
        lambda step, now: found.append(evaluate(now.engine, now.probes, ["forget_qa"], {}, 6, probability=True)),
        adapter=tmp_path / "adapter",
    )
    pd.testing.assert_frame_equal(found[0], plain)
    with pytest.raises(ExplainedError, match=r"keeps no adapter apart; set lora\.merge"):
        run("adapter_off", asked, adapter=tmp_path)


def test_the_probability_of_an_answer_is_that_of_its_tokens(asked):
    """exp of the mean log-probability of the answer's tokens, one text at a time by transformers itself."""
    sets = ["forget_fb", "forget_qa", "neighbor_qa"]
    found = evaluate(asked.engine, asked.probes, sets, {}, 4, probability=True)
    llm, tokenizer = asked.engine.llm, asked.engine.tokenizer
    for row in found.itertuples():
        start = tokenizer(row.prompt, add_special_tokens=False)["input_ids"]
        whole = tokenizer(f"{row.prompt} {row.answers[0]}", add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            log_probs = llm(whole).logits[0, :-1].log_softmax(-1)
        own = log_probs.gather(1, whole[0, 1:, None])[len(start) - 1 :, 0]
        assert json.loads(row.details)["probability"] == pytest.approx(math.exp(own.mean().item()), rel=1e-4)
    plain = evaluate(asked.engine, asked.probes, sets, {}, 4)
    assert not any("probability" in details for details in plain["details"])
    pd.testing.assert_frame_equal(plain.drop(columns="details"), found.drop(columns="details"))


def test_every_kind_has_its_file():
    assert all(callable(load(kind)) for kind in KINDS)
    with pytest.raises(KeyError, match="no attack of kind jailbreak"):
        load("jailbreak")
