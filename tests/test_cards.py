"""Model cards: metadata that the hub reads, scores, and how to load the model."""

import re

import pandas as pd
import pytest
import torch

from atu.engine.models import ModelError, add_lora, load_llm, name_base, save_llm
from atu.reporting.cards import model_card, score_table

RUN = {"llm": "llm", "benchmark": "tiny", "target": "1_Ada", "method": "atu", "seed": "0"}
PROVENANCE = {"settings": {"run": RUN, "layer": 2, "align": {}}, "git_commit": "abc1234", "versions": {"torch": "2"}}


def predictions(scores):
    rows = [(name, "test", score) for name, score in scores.items()] + [("forget_qa", "dev", 1.0)]
    return pd.DataFrame(rows, columns=["set", "split", "score"]).assign(prediction="Ada")


def test_scores_by_hand():
    before = predictions({"forget_qa": 0.8, "neighbor_qa": 0.9, "mia_fm": -2.0})
    table = score_table(before, predictions({"forget_qa": 0.25, "neighbor_qa": 0.85}))
    assert table["Metric"].tolist() == ["Forget QA ↓", "Neighbor QA ↑"]
    assert table["Before"].tolist() == pytest.approx([80, 90])
    assert table["After"].tolist() == pytest.approx([25, 85])
    assert table["Probes"].tolist() == [1, 1]  # dev probes play no part


def test_a_card_of_a_dev_target_says_so():
    chosen_on = predictions({"forget_qa": 0.8}).assign(split="dev target")
    for rows, said in (
        (predictions({"forget_qa": 0.8}), "test probes"),
        (chosen_on, "probes on which settings were chosen"),
    ):
        card = model_card(RUN, PROVENANCE, score_table(rows, rows), {}, None, adapter=False)
        assert f"## Scores on {said}" in str(card)


def test_a_card():
    scores = score_table(predictions({"forget_qa": 0.8}), predictions({"forget_qa": 0.25}))
    base = {"base_model": "owner/llm", "license": "mit", "weights": "llm.Q4_1.gguf in llm 0.1 on PyPI"}
    card = model_card(RUN, PROVENANCE, scores, base, "owner/data", adapter=False)
    data = card.data.to_dict()
    assert data["base_model"] == "owner/llm"
    assert data["base_model_relation"] == "finetune"
    assert data["license"] == "mit"
    assert data["library_name"] == "transformers"
    assert data["datasets"] == ["owner/data"]
    assert data["tags"] == ["machine-unlearning", "align-then-unlearn", "atu"]
    for text in (
        "forget **Ada**",
        "| Forget QA ↓",
        "25.0",
        "layer: 2",
        "abc1234",
        "AutoModelForCausalLM",
        "base weights: llm.Q4",
    ):
        assert text in card.text


def test_a_card_of_what_is_not_known():
    """No name on the hub, no licence, no scores, an adapter, a schedule that was stopped."""
    provenance = PROVENANCE | {"settings": {"run": RUN}}
    card = model_card(RUN | {"method": "ga"}, provenance, pd.DataFrame(), {}, None, adapter=True, not_run=3)
    assert card.data.tags == ["machine-unlearning", "ga"]
    assert not {"base_model", "license", "datasets"} & set(card.data.to_dict())
    assert card.data.library_name == "peft"
    for text in (
        "PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)",
        "collapsed before stage 3",
        "no test probe was asked",
    ):
        assert text in card.text


def test_answers_that_are_no_speech():
    """Shares of what was answered about the target, after and before; dev probes play no part."""
    before = pd.DataFrame([("forget_qa", "test", 1.0, "Ada")] * 4, columns=["set", "split", "score", "prediction"])
    after = before.assign(score=0.0, prediction=["KB" * 9, "NOANSWER", "NOANSWER", "Bo"])
    table = score_table(before, after).set_index("Metric")
    assert table.loc["Degenerate %"].tolist() == [4, 0, 25]
    assert table.loc["Empty %"].tolist() == [4, 0, 50]
    assert score_table(before, before)["Metric"].tolist() == ["Forget QA ↓"]
    card = model_card(
        RUN, PROVENANCE, table.reset_index(), {}, None, adapter=False, collapsed=["60% of forget_qa empty"]
    )
    assert "the word NOANSWER" in card.text
    assert "**The model has collapsed: 60% of forget_qa empty.**" in card.text


def test_a_target_without_test_probes():
    dev = predictions({"forget_qa": 0.8}).assign(split="dev")
    assert score_table(dev, dev).empty
    assert "no test probe" in model_card(RUN, PROVENANCE, score_table(dev, dev), {}, None, adapter=False).text


def code_of(card) -> str:
    """The lines that load the model."""
    return re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1]


@pytest.fixture
def adapter(tiny, tmp_path):
    """An adapter with weights of its own, kept apart, and the logits of what was trained."""
    llm, tokenizer = load_llm(tiny / "llm")
    trained = add_lora(llm, rank=2, alpha=16, modules=["q_proj", "v_proj"])
    torch.manual_seed(0)
    for name, weight in trained.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    save_llm(trained, tokenizer, tmp_path / "adapter")
    return tmp_path / "adapter", logits(trained.eval(), tokenizer)


def logits(llm, tokenizer):
    with torch.no_grad():
        return llm(**tokenizer("Ada was a poet", return_tensors="pt")).logits


def test_a_cards_code_loads_an_adapter_whose_base_the_reader_brings(adapter, tiny):
    """As it stands in the card, but for the two folders."""
    folder, expected = adapter
    name_base(folder, None, None)
    assert str(tiny) not in (folder / "adapter_config.json").read_text()
    card = model_card(RUN, PROVENANCE, pd.DataFrame(), {"weights": "the folder llm"}, None, adapter=True)
    code = code_of(card).replace('"base-model"', repr(str(tiny / "llm"))).replace('"."', repr(str(folder)))
    assert "a directory with the base weights (the folder llm)" in code
    names = {}
    exec(code, names)
    assert torch.allclose(logits(names["llm"].eval(), names["tokenizer"]), expected, atol=1e-5)
    with pytest.raises(ModelError, match="is an adapter of None, which is no directory here"):
        load_llm(folder)
    assert torch.allclose(logits(*load_llm(folder, base=tiny / "llm")), expected, atol=1e-5)


def test_a_cards_code_loads_a_whole_model(tiny):
    card = model_card(RUN, PROVENANCE, pd.DataFrame(), {}, None, adapter=False)
    names = {}
    exec(code_of(card).replace('"."', repr(str(tiny / "llm"))), names)
    assert names["llm"].num_parameters() > 0
