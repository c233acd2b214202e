"""What a model on this disk lacks is refused when the config is read: its config.json and headers say it."""

import json
from pathlib import Path

import pytest

from atu.common.recipe import record
from atu_pipeline.recipes import Recipes
from atu_pipeline.settings import ConfigError, check_methods_fit, fetched_from
from atu_pipeline.settings.fit import outline
from test_settings import DEMO, check

LLAMA = ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]


def header(tensors: dict[str, list[int]]) -> bytes:
    """A safetensors file of which nothing but the header is there."""
    text = json.dumps({"__metadata__": {}} | {name: {"dtype": "F32", "shape": tensors[name]} for name in tensors})
    return len(text).to_bytes(8, "little") + text.encode()


def weights(layers=3, maps=LLAMA, above="model.layers"):
    found = {f"{above}.{layer}.{name}.weight": [4, 4] for layer in range(layers) for name in maps}
    return found | {f"{above}.{layer}.norm.weight": [4] for layer in range(layers)}


def model(folder, config=None, tensors=None):
    """A folder as save_pretrained writes it, without weights."""
    folder.mkdir(parents=True)
    config = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 3} if config is None else config
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(header(weights() if tensors is None else tensors))
    return folder


BLOCKS = {"atu": {"layer": 9}, "ga": {"lora": {"rank": 2, "modules": ["v_proj", "qkv_proj"]}}}


def local(folder, **blocks) -> list[str]:
    """Faults of the demo on a model of one's own."""
    models = {"mine": {"source": "path", "path": str(folder)}}
    return faults(llm="mine", models=models, method_settings=blocks or BLOCKS, methods=list(blocks or BLOCKS))


def faults(**over) -> list[str]:
    try:
        check(DEMO, **over)
    except ConfigError as fault:
        return str(fault).splitlines()
    return []


LAYER = "method_settings.atu.layer: 9 is no layer of the model, which has layers 1 to 3"
MAP = "method_settings.ga.lora.modules: qkv_proj is no linear map of LlamaForCausalLM, which has down_proj, lm_head, "
MAP += "q_proj, v_proj"


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    """What was downloaded and found out lies in the working directory: here nothing."""
    monkeypatch.chdir(tmp_path)


def test_a_model_of_ones_own_is_read_before_the_first_job(tmp_path):
    folder = model(tmp_path / "mine")
    assert local(folder) == [LAYER, MAP]
    fits = {"atu": {"layer": 3}, "ga": {"lora": {"rank": 2, "modules": ["self_attn.q_proj", "lm_head"]}}}
    assert local(folder, **fits) == []  # a head that is tied to the embeddings is no tensor
    assert local(folder, repe={"options": {"layers": [3, 4]}}) == [
        "method_settings.repe.options.layers: 4 is no layer of the model, which has layers 1 to 3"
    ]


def test_layers_that_train_alone_and_maps_that_are_found(tmp_path):
    folder = model(tmp_path / "mine")
    auto = {"rank": 2, "modules": "auto"}
    assert local(folder, ga={"layers": "0-2", "lora": auto}, npo={"layers": "2-2"}) == []
    assert local(folder, ga={"layers": "1-3"}) == [
        "method_settings.ga.layers: 1-3 names layers that the model lacks, which has layers 0 to 2"
    ]
    head = {"rank": 2, "modules": ["q_proj", "lm_head"]}
    assert local(folder, ga={"layers": "0-1", "lora": head}) == [
        "method_settings.ga.lora.modules: lm_head is no linear map of the layers of LlamaForCausalLM, which has "
        "down_proj, q_proj, v_proj"
    ]
    fused = model(tmp_path / "fused", tensors=weights(maps=["self_attn.qkv_proj", "mlp.down_proj"]))
    assert local(fused, ga={"lora": auto}) == []
    other = model(tmp_path / "other", tensors=weights(maps=["self_attn.q_proj", "mlp.down_proj"]))
    assert local(other, ga={"lora": auto}) == [
        "method_settings.ga.lora.modules: auto finds no map that makes queries and values among down_proj, lm_head, "
        "q_proj; name the maps that get an adapter"
    ]
    assert local(other, ga={"lora": auto | {"rank": 0}}) == []  # no adapter is made
    unknown = model(tmp_path / "unknown", config={"architectures": ["LlamaForCausalLM"]})
    assert local(unknown, ga={"layers": "1-3"}) == []  # its depth is left to the first job


def test_what_the_files_do_not_say_is_left_to_the_first_job(tmp_path):
    folder = model(tmp_path / "mine")
    (folder / "model.safetensors").write_bytes(b"\xff" * 20)
    assert local(folder) == [LAYER]
    (folder / "model.safetensors").unlink()
    assert local(folder) == [LAYER]
    for text in ("{", "[]", '{"architectures": []}', '{"num_hidden_layers": "3"}'):
        (folder / "config.json").write_text(text)
        assert local(folder) == []
    (folder / "config.json").unlink()
    assert local(folder) == []


def test_forms_of_a_model_on_disk(tmp_path):
    nested = {"architectures": ["Big"], "num_hidden_layers": 9, "text_config": {"num_hidden_layers": 2}}
    assert outline(model(tmp_path / "nested", nested))["layers"] == 2
    gpt2 = outline(model(tmp_path / "gpt2", {"model_type": "gpt2", "n_layer": 5}, weights(5, ["attn.c_attn"], "h")))
    assert (gpt2["class"], gpt2["layers"], gpt2["modules"]) == ("gpt2", 5, ["h.*.attn.c_attn", "lm_head"])
    shards = model(tmp_path / "shards")
    (shards / "model.safetensors").rename(shards / "a.safetensors")
    (shards / "b.safetensors").write_bytes(header({"lm_head.weight": [9, 4], "model.extra.weight": [4, 4]}))
    index = {"weight_map": {"model.extra.weight": "b.safetensors", "model.layers.0.norm.weight": "a.safetensors"}}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    modules = outline(shards)["modules"]
    assert modules == ["lm_head", "model.extra", *sorted(f"model.layers.*.{name}" for name in LLAMA)]


def downloaded(config):
    """The demo's model where it is downloaded to, without a record of what made it."""
    return model(Path("resources/models", config["llm"] + "-0123abcd"))


def test_a_downloaded_model_is_read_if_it_is_of_this_source():
    config, deep = check(DEMO), {"method_settings": {"atu": {"layer": 9}}}
    folder, name = downloaded(config), config["llm"]
    assert faults(**deep) == []  # nothing says what made it
    record(folder, Recipes(config).model(name))
    assert faults(**deep) == [LAYER]
    assert faults(**deep, seeds=[-1]) == ["seeds.0: -1 is less than the minimum of 0", LAYER]
    assert faults(**deep, models={name: {"file": "other.gguf"}}) == []


def test_a_method_of_an_experiment_is_compared_when_it_is_asked_for():
    config = check(DEMO)
    record(downloaded(config), Recipes(config).model(config["llm"]))
    config["method_settings"]["atu-layer10"]["layer"] = 10
    with pytest.raises(ConfigError, match=r"method_settings\.atu-layer10\.layer: 10 is no layer"):
        check_methods_fit(config, ["atu-layer10"])


def test_what_an_earlier_run_found_out_goes_before_the_files():
    config, deep = check(DEMO), {"method_settings": {"atu": {"layer": 9}}}
    name = config["llm"]
    described = {"class": "A", "layers": 12, "context": 50, "modules": ["q"], "offsets": False}
    described |= {"source": fetched_from(config["models"][name]), "config_sha256": ""}
    record(downloaded(config), Recipes(config).model(name))
    file = Path("results/checks", f"{name}.json")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(described))
    said = [line.split(": ")[0] for line in faults(**deep)]
    assert said == ["corpus.max_new_tokens", "corpus.max_tokens", "method_settings.atu"]
    file.write_text(json.dumps(described | {"source": {}}))
    assert faults(**deep) == [LAYER]
