"""The hub's download path, for real, against a local server that answers as the hub does."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from atu.engine.models import add_lora, load_llm, name_base, save_llm
from atu.reporting.cards import model_card
from conftest import ROOT, build_encoder, build_llm
from hub import COMMIT, NAMES, StubHub, build_rwku

MODEL, RWKU = "owner/model", "jinzhuoran/RWKU"
TARGETS = [f"{rank}_{name.replace(' ', '_')}" for rank, name in enumerate(NAMES, start=1)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    build_llm(folder / "model", layers=30, family="phi3")
    build_encoder(folder / "encoder")
    build_rwku(folder / "rwku")
    (folder / "source").mkdir()
    (folder / "source/eval.py").write_text(
        'import not_installed\nshots = """\nQ: a\nA: b\n"""\ntwo, = ("x",)\nTRUTH = "Q: a\\nA: b"\nnumber = 3\n'
    )
    return folder


@pytest.fixture
def hub(folders):
    stub = StubHub()
    stub.repos = {
        f"models/{MODEL}": folders / "model",
        "models/owner/encoder": folders / "encoder",
        f"datasets/{RWKU}": folders / "rwku",
        "models/owner/source": folders / "source",
    }
    yield stub
    stub.close()


@pytest.fixture
def environment(hub, tmp_path):
    """A machine with an empty cache that knows the stub as its hub."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return kept | own | {"PYTHONPATH": str(ROOT / "workflow")}


def library(environment: dict, call: str) -> str:
    """Run a call of the library in a process of its own; its output, or the last line of its error."""
    code = f"from pathlib import Path\nfrom atu.data.sources import *\nprint({call})"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def fetch(environment: dict, directory: Path, revision: str = COMMIT) -> str:
    source = {"source": "hub", "repo": MODEL, "revision": revision}
    return library(environment, f"fetch_model({source}, Path({str(directory)!r}))")


@pytest.mark.parametrize("fault", [None, "429", "cut"])
def test_a_model_arrives_whole(hub, environment, folders, tmp_path, fault):
    """... also if the hub is busy at first, or the connection ends in the middle."""
    hub.faults["model.safetensors"] = [fault] if fault else []
    assert fetch(environment, tmp_path / "model") == "None"
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "model" / file).read_bytes() == (folders / "model" / file).read_bytes()
    assert hub.requests["model.safetensors"] == (2 if fault else 1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [("404", "404"), ("truncate", "model.safetensors"), ("corrupt", "model.safetensors came with a wrong checksum")],
)
def test_a_damaged_model_is_refused_and_the_next_try_mends_it(hub, environment, folders, tmp_path, fault, message):
    hub.faults["model.safetensors"] = [fault] * 6 if fault == "truncate" else [fault]
    error = fetch(environment, tmp_path / "model")
    assert error.startswith("atu.data.sources.SourceError")
    assert message in error
    assert not (tmp_path / "model").exists()
    hub.faults.clear()
    assert fetch(environment, tmp_path / "model") == "None"
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert weights == (folders / "model/model.safetensors").read_bytes()


def test_offline_with_a_warm_cache(hub, environment, folders, tmp_path):
    assert fetch(environment, tmp_path / "one") == "None"
    hub.close()
    assert fetch(environment | {"HF_HUB_OFFLINE": "1"}, tmp_path / "two") == "None"
    cold = environment | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}
    assert fetch(cold, tmp_path / "three").startswith(f"atu.data.sources.SourceError: {MODEL} at {COMMIT}: Cannot find")


def test_an_unknown_repository_is_named(environment, tmp_path):
    source = {"source": "hub", "repo": "owner/nothing", "revision": "main"}
    error = library(environment, f"fetch_model({source}, Path({str(tmp_path / 'm')!r}))")
    assert "owner/nothing" in error or "Repository Not Found" in error


def test_only_what_is_read_is_fetched(hub, environment, folders, tmp_path):
    """Weights of other forms, and of Meta's and Mistral's own, stay where they are; shards come by their index."""
    import torch
    from safetensors.torch import save_file

    from atu.engine.models import load_llm

    repo = shutil.copytree(folders / "model", tmp_path / "repo")
    llm, _ = load_llm(repo)
    (repo / "model.safetensors").unlink()
    llm.save_pretrained(repo, max_shard_size="500KB")
    shards = sorted(path.name for path in repo.glob("model-*.safetensors"))
    assert len(shards) > 1
    extra = {"w": torch.zeros(8)}
    others = ("original", "onnx", "gguf")
    for name in ("consolidated.safetensors", "model.fp16.safetensors", *(f"{name}/w.safetensors" for name in others)):
        (repo / name).parent.mkdir(exist_ok=True)
        save_file(extra, repo / name)
    others = ("original/params.json", "original/tokenizer.model", "original/consolidated.00.pth", "onnx/config.json")
    others += ("consolidated.00.pth", "pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.Q4_K_M.gguf")
    others += ("onnx/model.onnx", "tf_model.h5", "flax_model.msgpack", "modeling_own.py", "README.md")
    for name in others:
        (repo / name).write_text("{}")
    hub.repos[f"models/{MODEL}"] = repo
    assert fetch(environment, tmp_path / "one") == "None"
    plain = {path.name for pattern in ("*.json", "*.jinja", "*.txt", "*.model") for path in repo.glob(pattern)}
    assert {path.name for path in (tmp_path / "one").iterdir()} == plain | set(shards)
    assert set(hub.requests) == plain | set(shards)
    assert torch.equal(load_llm(tmp_path / "one")[0].lm_head.weight, llm.lm_head.weight)
    # where one file has all weights, it is what transformers reads: no shard is fetched, nor an index that names them
    shutil.copy(folders / "model/model.safetensors", repo)
    hub.requests.clear()
    fresh = environment | {"HF_HOME": str(tmp_path / "fresh")}
    assert fetch(fresh, tmp_path / "two") == "None"
    assert hub.requests["model.safetensors"] == 1
    assert not set(shards) & set(hub.requests)
    assert not list((tmp_path / "two").glob("*.index.json"))
    assert torch.equal(load_llm(tmp_path / "two")[0].lm_head.weight, llm.lm_head.weight)


def test_an_encoder_brings_its_modules(hub, environment, folders, tmp_path):
    repo = shutil.copytree(folders / "encoder", tmp_path / "repo")
    (repo / "openvino").mkdir()
    (repo / "openvino/config.json").write_text("{}")
    hub.repos["models/owner/encoder"] = repo
    source = {"source": "hub", "repo": "owner/encoder", "revision": COMMIT}
    assert library(environment, f"fetch_model({source}, Path({str(tmp_path / 'encoder')!r}))") == "None"
    assert (tmp_path / "encoder/1_Pooling/config.json").exists()
    assert not (tmp_path / "encoder/openvino").exists()
    from atu.alignment.encoder import embed_target, load_encoder

    assert embed_target(load_encoder(tmp_path / "encoder", "cpu"), ["Ada"]).shape == (16,)


def test_damage_in_what_is_not_read_does_not_matter(hub, environment, folders, tmp_path):
    """Another program has left more of the repository in the cache; it is not even looked at."""
    repo = shutil.copytree(folders / "model", tmp_path / "repo")
    (repo / "consolidated.safetensors").write_bytes(b"1" * 100)
    hub.repos[f"models/{MODEL}"] = repo
    hub.faults["consolidated.safetensors"] = ["corrupt"]
    library(environment, f"download({MODEL!r}, 'model', {COMMIT!r}, ['*'])")
    (cached,) = (tmp_path / "hf").rglob("snapshots/*/consolidated.safetensors")
    cached.resolve().write_bytes(b"2" * 100)
    assert fetch(environment, tmp_path / "model") == "None"
    assert cached.exists()


GATED = "{repo} at {commit} is gated"


@pytest.mark.parametrize(
    ("access", "token", "expected"),
    [
        (
            "gated",
            None,
            (GATED, "accept its terms at {url}/{repo} and set HF_TOKEN to a token", "{url}/settings/tokens"),
        ),
        ("gated", "other", (GATED, "the account of HF_TOKEN may not read it: accept its terms at {url}/{repo}")),
        ("private", None, ("{url} has no model {repo} (correct its repo), or it is private: set HF_TOKEN",)),
        ("private", "other", ("has no model {repo} (correct its repo), or the account of HF_TOKEN may not read it",)),
        ("gated", "wrong", ("{repo} at {commit}: the hub refuses HF_TOKEN", "correct or unset it")),
        ("open", "wrong", ("{repo} at {commit}: the hub refuses HF_TOKEN", "correct or unset it")),
        ("gated", "reader", ("None",)),
        ("private", "reader", ("None",)),
    ],
)
def test_models_that_are_not_for_everybody(hub, environment, tmp_path, access, token, expected):
    names = {"url": hub.url, "repo": MODEL, "commit": COMMIT}
    getattr(hub, access, set()).add(f"models/{MODEL}")
    said = fetch(environment | ({"HF_TOKEN": token} if token else {}), tmp_path / "model")
    for part in expected:
        assert part.format(**names) in said
    assert said.count("HF_TOKEN") >= (token != "reader")


def test_what_else_goes_wrong_on_the_way_is_one_line(hub, environment, tmp_path):
    assert f"{MODEL} has no revision {'1' * 40}: correct its revision" in fetch(environment, tmp_path / "a", "1" * 40)
    cold = environment | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cold")}
    assert "HF_HUB_OFFLINE forbids the network: unset it" in fetch(cold, tmp_path / "b")
    hub.proxy = True
    said = fetch(environment, tmp_path / "c")
    assert f"{hub.url} does not answer as the hub does" in said
    assert "HTTPS_PROXY" in said
    hub.proxy = False
    hub.faults["config.json"] = ["html"] * 6
    assert "SourceError" in fetch(environment, tmp_path / "d")
    hub.faults.clear()
    url = f"{hub.url}/owner/source/resolve/{COMMIT}/eval.py"
    hub.faults["eval.py"] = ["html"]
    assert "is no Python file" in library(environment, f"fetch_literal({url!r}, 'shots', {'0' * 64!r})")


def test_a_full_disk_is_named(hub, environment, small_disk):
    place, resize = small_disk
    resize("64k")
    full = environment | {"HF_HOME": str(place / "hf")}
    assert f"no space left on the disk of {place}/hf" in fetch(full, place / "model")
    assert f"no space left on the disk of {place}: free some" in fetch(environment, place / "model")


def test_which_faults_are_worth_another_try(hub, environment, tmp_path):
    source = {"source": "hub", "repo": MODEL, "revision": COMMIT}
    lines = (
        "try:",
        f"    fetch_model({source}, Path({str(tmp_path / 'model')!r}))",
        "except SourceError as error:",
        "    print(error.passing)",
    )
    call = f"exec({chr(10).join(lines)!r})"
    hub.gated.add(f"models/{MODEL}")
    assert library(environment, call).splitlines()[0] == "False"
    hub.gated.clear()
    hub.faults["model.safetensors"] = ["corrupt"]
    assert library(environment, call).splitlines()[0] == "True"


def test_a_branch_is_resolved(environment, tmp_path):
    assert fetch(environment, tmp_path / "model", revision="main") == "None"


def test_memory_does_not_grow_with_a_dataset(hub, environment, tmp_path):
    """Its files have hundreds of megabytes; here the second has 60 more than the first."""
    people, text = [f"{rank}_Ada_{rank}" for rank in range(1, 61)], "by the sea in Rome. " * 500
    hub.repos["datasets/owner/large"] = repo = tmp_path / "large"
    (repo / "All").mkdir(parents=True)
    card = {"configs": [{"config_name": "large", "data_files": [{"split": "train", "path": ["All/large.json"]}]}]}
    (repo / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    source = {"repo": "owner/large", "revision": COMMIT}
    tables = {"positive_phi": {"dataset": "large", "split": "train"}}
    peaks = []
    for number in (40, 140):  # texts of each
        rows = ({"id": str(i), "text": text, "subject": f"Ada {rank}"} for rank in range(1, 61) for i in range(number))
        (repo / "All/large.json").write_text("[" + ", ".join(map(json.dumps, rows)) + "]")
        folder = tmp_path / str(number)
        folder.mkdir()
        lines = (
            f"fetch_tables({source}, {tables}, {people}, Path({str(folder)!r}), True)",
            "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))",
        )
        said = library(environment | {"HF_HOME": f"{folder}-hf"}, f"exec({chr(10).join(lines)!r})")
        peaks.append(int(said.split()[1]) / 1024)
        written = (folder / "Target" / people[-1] / "positive_phi.json").read_text()
        assert written.count(text) == number
    assert peaks[1] - peaks[0] < 25  # MB


def test_a_primer_is_parsed_not_run(hub, environment, tmp_path):
    url = f"{hub.url}/owner/source/resolve/{COMMIT}/eval.py"
    text = "\nQ: a\nA: b\n"
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    call = f"repr(fetch_literal({url!r}, 'shots', {sha256!r}))"
    hub.faults["eval.py"] = ["429"]
    assert library(environment, call) == repr(text)
    hub.close()
    assert library(environment, call) == repr(text)  # from the cache


def test_another_primer_than_the_pinned_one_is_refused(hub, environment):
    url = f"{hub.url}/owner/source/resolve/{COMMIT}/eval.py"
    assert "not the text that was pinned" in library(environment, f"fetch_literal({url!r}, 'shots', {'0' * 64!r})")
    error = library(environment, f"fetch_literal({url!r}, 'nothing', {'0' * 64!r})")
    assert "has no string nothing (it has shots, TRUTH)" in error


def paper(directory: Path, hub: StubHub, environment: dict, *arguments: str, **over) -> subprocess.CompletedProcess:
    """Snakemake with the paper's config, its sizes alone overridden."""
    (directory / "targets.json").write_text(json.dumps(TARGETS))
    url = f"{hub.url}/owner/source/resolve/{COMMIT}/eval.py"
    primers = {
        primer: {"url": url, "name": name, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        for primer, name, text in (("triviaqa", "shots", "\nQ: a\nA: b\n"), ("truthfulqa", "TRUTH", "Q: a\nA: b"))
    }
    config = {
        "targets": ["Stephen King"],
        "models": {
            "phi-3-mini-4k-instruct": {"source": "hub", "repo": MODEL, "revision": COMMIT},
            "all-mpnet-base-v2": {"source": "hub", "repo": "owner/encoder", "revision": COMMIT},
        },
        "benchmarks": {
            "rwku": {
                "targets": str(directory / "targets.json"),
                "revision": COMMIT,
                "primers": primers,
                "check_totals": False,
            }
        },
        "method_settings": {
            "atu": {
                "k": 2,
                "predictor": {"width": 16, "layers": 1, "heads": 2},
                "align": {"steps": 4, "steps_between": 2, "batch_size": 2},
                "unlearn": {"tau": [0.2], "steps": 2, "batch_size": 2},
            }
        },
        "evaluation": {"max_new_tokens": 8},
        "threads": 1,
    } | over
    file = directory / "small.json"
    file.write_text(json.dumps(config))
    base = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    command = [*base, "--directory", str(directory), "--configfile", str(file), "--show-failed-logs", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.release
def test_the_paper_config_from_an_empty_cache(hub, environment, tmp_path):
    """Download, check, split, unlearn, evaluate: everything but the sizes is as in config.yaml."""
    done = paper(tmp_path, hub, environment, "forget")
    assert done.returncode == 0, done.stderr[-6000:]
    (log,) = (tmp_path / "logs/count_probes/rwku").glob("counts-*.log")
    said = log.read_text()
    assert "forget_fb has 8 probes, 3,268 are published (-3,260)" in said
    results = tmp_path / "results/phi-3-mini-4k-instruct/rwku"
    (answers,) = results.glob("1_Stephen_King/seed0/atu-*/evaluations/*.parquet")
    predictions = pd.read_parquet(answers)
    counts = {"forget_fb": 2, "forget_qa": 2, "forget_aa": 5, "neighbor_fb": 1, "neighbor_qa": 1}
    assert predictions["set"].value_counts().to_dict() == counts | dict.fromkeys(predictions["set"].unique()[5:], 1)
    assert predictions["set"].nunique() == 12
    kinds = {"prefix injection", "role playing", "in-context learning", "cross-lingual", "background hint"}
    assert set(predictions.loc[predictions["set"] == "forget_aa", "type"]) == kinds
    prompts = predictions.set_index("set")["prompt"]
    assert "\nQ: a\nA: b\nQ: Who is red?\n" in prompts["utility_fac"]
    assert "Q: a\nA: b\n\nQ: Who is red?" in prompts["utility_tru"]
    (file,) = (tmp_path / "results/rwku").glob("counts-*.csv")
    counts = pd.read_csv(file, index_col="set")
    assert counts.loc["forget_aa"].to_list() == [20, 6984, -6964]
    assert "pair_phi.json" not in " ".join(hub.requests)  # no method reads it


def test_names_with_commas_and_accents_on_the_command_line(hub, environment, tmp_path):
    """... which need not compose an accent as the list of targets does, nor have brackets."""
    composed, harry = "24_Beyonc\u00e9", "10_Prince_Harry,_Duke_of_Sussex"
    file = tmp_path / "known.json"
    block = {"rwku": {"targets": str(file), "revision": COMMIT, "check_totals": False}}

    listed = "24_Beyonce\u0301"
    file.write_text(json.dumps([harry, listed, "3_Bo", "4_Cy", "5_Di"], ensure_ascii=False))
    asked = ("forget", "--dry-run", "--config")
    for given in (
        f"targets={composed},{harry}",
        f'targets=["{harry}","{composed}"]',
        "targets=10,24",
        "targets=[Beyonc\u00e9,10]",
    ):
        said = paper(tmp_path, hub, environment, *asked, given, benchmarks=block).stdout
        found = set(re.findall(r"results/rwku/probes/([^/]+?)-\w+\.parquet", said))
        assert found == {harry, listed}, given
    said = paper(tmp_path, hub, environment, *asked, f"targets=[{harry},3]", benchmarks=block).stderr
    assert f"'10_Prince_Harry' is a name cut at its comma; write it in quotes: [\"{harry}\"]" in said


def test_too_few_probes_stop_the_run_unless_told_otherwise(hub, environment, tmp_path):
    targets = str(tmp_path / "targets.json")
    over = {"benchmarks": {"rwku": {"targets": targets, "revision": COMMIT, "check_totals": True}}}
    planned = paper(tmp_path, hub, environment, "before", "--dry-run", **over).stdout
    (probes,) = set(re.findall(r"results/rwku/probes/1_Stephen_King-\w+\.parquet", planned))
    done = paper(tmp_path, hub, environment, probes, **over)
    assert done.returncode != 0
    assert "forget_fb has 8 probes, 3,268 are published (-3,260)" in done.stderr
    assert "check_totals to false to go on" in done.stderr


def test_an_adapter_kept_apart_loads_from_the_hub(hub, environment, folders, tmp_path):
    """The card's code as it stands, beside the adapter, on a machine that has nothing but the hub."""
    assert fetch(environment, tmp_path / "base") == "None"
    llm, tokenizer = load_llm(tmp_path / "base")
    trained = add_lora(llm, rank=2, alpha=16, modules=["qkv_proj"])
    torch.manual_seed(0)
    for name, weight in trained.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    save_llm(trained, tokenizer, tmp_path / "adapter")
    name_base(tmp_path / "adapter", MODEL, COMMIT)
    run = {"llm": "llm", "benchmark": "tiny", "target": "1_Ada", "method": "ga", "seed": "0"}
    known = {"settings": {"run": run}, "git_commit": None, "versions": {}}
    card = model_card(run, known, pd.DataFrame(), {"base_model": MODEL, "revision": COMMIT}, None, adapter=True)
    code = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1]
    code += 'print(llm.eval()(**tokenizer("Ada was a poet", return_tensors="pt")).logits.sum().item())'
    shutil.move(tmp_path / "base", tmp_path / "gone")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "adapter", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = trained.eval()(**tokenizer("Ada was a poet", return_tensors="pt")).logits.sum().item()
    assert float(done.stdout.split()[-1]) == pytest.approx(expected, abs=1e-2)
