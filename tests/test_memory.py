"""A run whose trainings keep their numbers otherwise: what it leaves, and what is refused."""

import json

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from atu.common.recipe import record_path
from atu_pipeline.settings import ConfigError
from test_settings import DEMO, PAPER, check

LORA = {"lora": {"rank": 2}}


@pytest.fixture(scope="module")
def blocks():
    return {
        "atu-lora": {"method": "atu", "unlearn": {"tau": [0.0, -0.5], **LORA}},
        "atu-part": {"method": "atu", "unlearn": {"tau": [-0.5], "layers": "1-1"}},
        "ga-lora": {"method": "ga", **LORA},
    }


@pytest.mark.release
def test_every_method_leaves_a_float32_model(workflow, blocks):
    """Of bf16 weights: adapters merged into the float32 ones, layers that do not train as they were, to the bit."""
    config = json.loads(workflow.config.read_text())
    config |= {"methods": list(blocks), "precision": "bf16"}
    config["memory"] = {"weights": "bf16", "optimizer_state": "8bit", "gradient_checkpointing": True}
    config["method_settings"] = config["method_settings"] | blocks
    training = {"epochs": 1, "warmup_steps": 0, "learning_rate": 1e-3}
    config["method_defaults"] = {"trained": {"other_subjects": 1, "max_tokens": 32, "train": training}}
    config["corpus"] |= {"source": "benchmark"}
    config["evaluation"] |= {"before_and_after": ["forget_qa"], "between": []}
    workflow.config.write_text(json.dumps(config))
    runs = workflow.paths()
    kept = {name: f"{runs.run('1_Ada', name, '0')}/weights" for name in blocks}
    workflow.run(*kept.values())
    before = load_file(workflow.tiny / "llm/model.safetensors")
    for name, path in kept.items():
        after = load_file(workflow.directory / path / "model.safetensors")
        assert {tensor.dtype for tensor in after.values()} == {torch.float32}
        changed = {key for key, tensor in after.items() if not torch.equal(tensor, before[key])}
        layers = {int(key.split(".")[2]) for key in changed if ".layers." in key}
        assert layers == {"atu-lora": {0, 1}, "atu-part": {1}, "ga-lora": {0, 1, 2}}[name]  # the hook is layer 2
        assert all(".layers." in key for key in changed)
        assert (name == "atu-part") or all("q_proj" in key or "v_proj" in key for key in changed)
        recipe = json.loads(record_path(workflow.directory / path).read_text())["recipe"]
        assert recipe["settings"]["memory"] == {"weights": "bf16", "optimizer_state": "8bit"}
    steps = pd.read_csv(workflow.directory / runs.run("1_Ada", "atu-lora", "0") / "steps.csv")
    assert steps["loss"].notna().all()


@pytest.mark.parametrize(
    ("config", "over", "fault"),
    [
        (PAPER, {"memory": "automatic"}, "memory: 'automatic' is neither auto nor a block of settings"),
        (PAPER, {"memory": {"weights": "fp16"}}, "memory.weights: 'fp16' is not one of fp32, bf16, rounded"),
        (DEMO, {"memory": {"weights": "bf16"}}, "memory.weights: bf16, but precision is fp32"),
        (PAPER, {"memory": {"offload": True}}, "memory.offload: true keeps bf16 weights on the GPU; set weights to"),
        (
            PAPER,
            {"method_settings": {"atu": {"unlearn": {"layers": "20-30"}}}},
            "method_settings.atu.unlearn.layers: 20-30 are not all below the hook layer, 29",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(config, over, fault):
    with pytest.raises(ConfigError) as refused:
        check(config, **over)
    (line,) = str(refused.value).splitlines()
    assert line.startswith(fault)


def test_a_run_that_fits_no_gpu_ends_before_its_first_job(workflow):
    over = ("device=cuda", "memory=auto", "precision=bf16", 'hardware={"gpu_memory_gb": 1}')
    done = workflow.run("--dry-run", "--config", *over, check=False)
    assert done.returncode
    assert "config: memory: method_settings.atu needs 2 GB of GPU memory at least, and hardware." in done.stderr
    assert "Traceback" not in done.stderr
