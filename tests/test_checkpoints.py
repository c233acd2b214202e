"""Checkpoints made elsewhere: what a directory holds, and whether an adapter is one of the base model."""

import json
import re
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from atu.data.sources import SourceError
from atu.engine.checkpoints import check_adapter, checkpoint_kind, expected_shapes, stored_shapes
from atu.engine.models import ModelError, add_lora, load_llm, save_llm
from conftest import build_llm

MAPS = ["q_proj", "v_proj"]


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A LoRA adapter of the tiny model, as a user brings it."""
    folder = tmp_path_factory.mktemp("trained") / "adapter"
    llm, tokenizer = load_llm(tiny / "llm")
    save_llm(add_lora(llm, rank=2, alpha=4, modules=MAPS), tokenizer, folder)
    return folder


@pytest.fixture
def adapter(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "adapter")


def rewrite(folder, **settings):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_what_a_directory_holds(tiny, adapter, tmp_path):
    assert checkpoint_kind(tiny / "llm") == "model"
    assert checkpoint_kind(adapter) == "adapter"
    with pytest.raises(ModelError, match=r"is neither a model \(config.json and model.safetensors\) nor an adapter"):
        checkpoint_kind(tmp_path)
    shutil.copytree(tiny / "llm", adapter, dirs_exist_ok=True)
    with pytest.raises(ModelError, match="holds a whole model and an adapter"):
        checkpoint_kind(adapter)


def test_weights_that_are_no_whole_safetensors(tiny, adapter, tmp_path):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"has no adapter_model.safetensors: only weights in safetensors are read"):
        checkpoint_kind(adapter)
    model = shutil.copytree(tiny / "llm", tmp_path / "model")
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(SourceError, match="truncated or damaged"):
        checkpoint_kind(model)


def test_an_adapter_of_the_base(tiny, adapter):
    """Three layers of two maps, of 32 x 32 and 32 x 16, each with A of [2, 32] and B of [rows, 2]."""
    check_adapter(adapter, tiny / "llm", "owner/model")
    shapes = stored_shapes(adapter / "adapter_model.safetensors")
    assert shapes == expected_shapes(adapter, tiny / "llm")
    place = "base_model.model.model.layers.{}.self_attn.{}_proj.lora_{}.weight"
    rows = {"q": 32, "v": 16}
    expected = {place.format(layer, name, "A"): (2, 32) for layer in range(3) for name in "qv"}
    assert shapes == expected | {place.format(i, name, "B"): (rows[name], 2) for i in range(3) for name in "qv"}


@pytest.mark.parametrize(
    ("named", "repo", "refused"),
    [
        ("owner/other", "owner/model", True),
        ("owner/other", None, False),  # the base is a directory here: nobody knows its name
        ("Owner/Model", "owner/model", False),
        ("/home/me/other", "owner/model", False),
        (None, "owner/model", False),
        ("tests/here", "owner/model", False),  # a directory
    ],
)
def test_the_name_of_the_base(tiny, adapter, tmp_path, monkeypatch, named, repo, refused):
    (tmp_path / "tests/here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    rewrite(adapter, base_model_name_or_path=named)
    if not refused:
        return check_adapter(adapter, tiny / "llm", repo)
    with pytest.raises(ModelError, match=r"is an adapter of owner/other, not of owner/model; .* write owner/model as"):
        check_adapter(adapter, tiny / "llm", repo)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "is an adapter of type IA3, and only LoRA can be merged"),
        ({"auto_mapping": {"parent_library": "evil"}}, "asks for code of evil, and no code that comes with a model"),
        ({"megatron_config": {"a": 1}, "megatron_core": "evil"}, "sets megatron_config, which is not understood"),
        ({"alora_invocation_tokens": [1]}, "sets alora_invocation_tokens"),
        ({"of_a_later_peft": 1}, "sets of_a_later_peft, which is not understood here"),
        ({"init_lora_weights": "pissa"}, "is relative to base weights that pissa has changed"),
        ({"target_modules": ["qkv_proj"]}, "is no adapter of"),
        ({"target_modules": ["q_proj"]}, "layers.0.self_attn.v_proj.lora_A.weight, which the base has no place for"),
        ({"target_modules": [*MAPS, "k_proj"]}, "lacks base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight"),
        ({"r": 4}, "lora_A.weight, (2, 32), and the base asks for (4, 32)"),
    ],
)
def test_adapters_that_do_not_fit(tiny, adapter, settings, message):
    rewrite(adapter, **settings)
    with pytest.raises(ModelError, match=re.escape(message)) as fault:
        check_adapter(adapter, tiny / "llm")
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"use_rslora": True, "rank_pattern": {"q_proj": 3}, "alpha_pattern": {"v_proj": 7}},
        {"modules_to_save": ["lm_head"], "bias": "lora_only"},
        {"layers_to_transform": [1], "init_lora_weights": "gaussian"},
        {"target_modules": ["embed_tokens", "down_proj"], "init_lora_weights": False},
    ],
)
def test_kinds_of_lora_that_fit(tiny, tmp_path, options):
    """... and compute, when they are merged, what they computed when they were trained."""
    llm, _ = load_llm(tiny / "llm")
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=4, task_type="CAUSAL_LM", **({"target_modules": MAPS} | options))
    adapted = get_peft_model(llm, config)
    for name, weight in adapted.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(tmp_path / "own", save_embedding_layers=False)
    check_adapter(tmp_path / "own", tiny / "llm")
    merged, tokenizer = load_llm(tmp_path / "own", base=tiny / "llm")  # whose tokenizer it has
    batch = tokenizer("Ada was a poet", return_tensors="pt")
    with torch.no_grad():
        logits = [llm(**batch).logits for llm in (adapted.eval(), merged, load_llm(tiny / "llm")[0])]
    assert torch.allclose(logits[0], logits[1], atol=1e-4)
    assert not torch.allclose(logits[1], logits[2], atol=1e-2)


def test_another_base_is_refused_where_the_adapter_is_loaded(adapter, tmp_path):
    build_llm(tmp_path / "deep", layers=4)
    with pytest.raises(ModelError, match=r"it lacks base_model\.model\.model\.layers\.3"):
        load_llm(adapter, base=tmp_path / "deep")


def test_bases_of_another_shape(adapter, tmp_path):
    """One with more layers lacks nothing of the adapter, and peft would load it with a warning."""
    build_llm(tmp_path / "deep", layers=4)
    with pytest.raises(ModelError, match=r"it lacks base_model.model.model.layers.3.self_attn.q_proj.*and 3 more"):
        check_adapter(adapter, tmp_path / "deep")
    build_llm(tmp_path / "flat", layers=2)
    with pytest.raises(ModelError, match=r"it has base_model.model.model.layers.2.self_attn.q_proj.*no place for"):
        check_adapter(adapter, tmp_path / "flat")
    build_llm(tmp_path / "phi", family="phi3")
    with pytest.raises(ModelError, match="is no adapter of"):
        check_adapter(adapter, tmp_path / "phi")


def test_a_damaged_adapter(tiny, adapter):
    weights = adapter / "adapter_model.safetensors"
    tensors = load_file(weights)
    tensors["extra"] = torch.zeros(1)
    save_file(tensors, weights)
    with pytest.raises(ModelError, match="it has extra, which the base has no place for"):
        check_adapter(adapter, tiny / "llm")
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ModelError, match=r"adapter_model.safetensors is missing, truncated or damaged"):
        check_adapter(adapter, tiny / "llm")
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(SourceError, match=r"adapter_config.json is not valid JSON"):
        check_adapter(adapter, tiny / "llm")
