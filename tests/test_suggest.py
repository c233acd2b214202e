"""What a look at a model says of the settings that it needs."""

import math

import pytest
import torch
import yaml
from transformers import LlamaConfig

from atu.engine.models import load_llm
from atu.evaluation.looks import cache_bytes, first_token_ratio, hook_layers, moved_by_a_step, rate_at
from atu_pipeline.__main__ import main

ROWS = [[5, 6, 7, 8], [9, 10, 11], [12, 13, 14, 15, 16]]


def test_a_tokens_keys_and_values():
    """Phi-3-mini: 2 bytes x 2 x 32 layers x 32 heads x 96; Llama-3-8B: 8 heads of 128; of four layers one attends."""
    sizes = {"hidden_size": 3072, "num_attention_heads": 32, "num_key_value_heads": 32, "num_hidden_layers": 32}
    assert cache_bytes(LlamaConfig(**sizes)) == 393_216
    assert cache_bytes(LlamaConfig(**sizes | {"hidden_size": 4096, "num_key_value_heads": 8})) == 131_072
    hybrid = LlamaConfig(**sizes | {"num_hidden_layers": 4})
    hybrid.layer_types = ["linear_attention"] * 3 + ["full_attention"]
    assert cache_bytes(hybrid) == 393_216 / 32


def test_how_long_a_first_tokens_state_is(tiny):
    model, _ = load_llm(tiny / "llm")
    norms = [model(torch.tensor([row]), output_hidden_states=True).hidden_states[1][0].norm(dim=-1) for row in ROWS]
    expected = torch.stack([row[0] for row in norms]).median() / torch.cat([row[1:] for row in norms]).median()
    assert first_token_ratio(model, ROWS, 1) == pytest.approx(expected.item(), rel=1e-4)


def test_what_a_step_moves(tiny):
    """Each weight by the rate against the sign of its gradient; twice the rate moves predictions about four times as
    far, as KL is of second order."""
    model, _ = load_llm(tiny / "llm")
    first = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    once, twice = moved_by_a_step(model, ROWS, [1e-4, 2e-4])
    steps = torch.cat([(weight.detach() - first[name]).abs().flatten() for name, weight in model.named_parameters()])
    assert steps.max().item() == pytest.approx(2e-4, rel=1e-2)
    assert twice / once == pytest.approx(4, rel=0.2)


def test_the_rate_that_moves_so_much():
    """Halfway between logarithms: KL 1e-6 at 1e-6 and 1e-2 at 1e-4, so 1e-4 at 1e-5."""
    rates, moved = [1e-6, 1e-4], [1e-6, 1e-2]
    assert rate_at(rates, moved, 1e-4) == pytest.approx(1e-5)
    assert [rate_at(rates, moved, wanted) for wanted in (1e-9, 1.0)] == [1e-6, 1e-4]


def test_hook_layers(tiny):
    model, _ = load_llm(tiny / "llm")
    assert hook_layers(model) == (2, 3)  # of three layers: 1.5 and 2.7


def test_what_is_printed_can_be_pasted(tiny, capsys):
    assert main(["suggest", str(tiny / "llm"), "--probes", "2", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    config = yaml.safe_load(said)
    assert config["llm"] == "llm"
    assert config["models"]["llm"]["layers"] == 3
    atu = config["method_settings"]["atu"]
    assert atu["grid"]["layer"] == [2, 3]
    rates = config["method_settings"]["npo"]["grid"]["train.learning_rate"]
    assert rates == atu["grid"]["unlearn.learning_rate"]
    assert atu["unlearn"] == {"optimizer": "adamw"}  # the range is of one step of it
    assert 0 < rates["low"] < rates["high"]
    assert math.isfinite(rates["high"])
    assert "# utility_gen: " in said
    assert "no better than guessing" in said
    assert "# utility_rea was not asked: utility_rea/0 has a prompt of " in said


def test_a_benchmark_without_neutral_texts(tiny, tmp_path, capsys):
    (tmp_path / "Utility").mkdir()
    assert main(["suggest", str(tiny / "llm"), "--benchmark", str(tmp_path), "--device", "cpu"]) == 1
    assert "has no two texts in Utility/relearn_unrelated.json" in capsys.readouterr().err
