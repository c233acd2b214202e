"""The hub's download path, for real, against a local server that answers as the hub does."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

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
    code = f"from pathlib import Path\nfrom atu.sources import *\nprint({call})"
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
    assert error.startswith("atu.sources.SourceError")
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
    assert fetch(cold, tmp_path / "three").startswith(f"atu.sources.SourceError: {MODEL} at {COMMIT}: Cannot find")


def test_an_unknown_repository_is_named(environment, tmp_path):
    source = {"source": "hub", "repo": "owner/nothing", "revision": "main"}
    error = library(environment, f"fetch_model({source}, Path({str(tmp_path / 'm')!r}))")
    assert "owner/nothing" in error or "Repository Not Found" in error


def test_a_branch_is_resolved(environment, tmp_path):
    assert fetch(environment, tmp_path / "model", revision="main") == "None"


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


def test_the_paper_config_from_an_empty_cache(hub, environment, tmp_path):
    """Download, check, split, unlearn, evaluate: everything but the sizes is as in config.yaml."""
    done = paper(tmp_path, hub, environment, "forget")
    assert done.returncode == 0, done.stderr[-6000:]
    said = (tmp_path / "logs/count_probes/rwku.log").read_text()
    assert "forget_fb has 8 probes, 3,268 are published (-3,260)" in said
    results = tmp_path / "results/phi-3-mini-4k-instruct/rwku"
    outcomes = pd.read_parquet(results / "1_Stephen_King/atu/seed0/stage1/probes.parquet")
    counts = {"forget_fb": 2, "forget_qa": 2, "forget_aa": 5, "neighbor_fb": 1, "neighbor_qa": 1}
    assert outcomes["set"].value_counts().to_dict() == counts | dict.fromkeys(outcomes["set"].unique()[5:], 1)
    assert outcomes["set"].nunique() == 12
    kinds = {"prefix injection", "role playing", "in-context learning", "cross-lingual", "background hint"}
    assert set(outcomes.loc[outcomes["set"] == "forget_aa", "type"]) == kinds
    prompts = outcomes.set_index("set")["prompt"]
    assert "\nQ: a\nA: b\nQ: Who is red?\n" in prompts["utility_fac"]
    assert "Q: a\nA: b\n\nQ: Who is red?" in prompts["utility_tru"]
    counts = pd.read_csv(tmp_path / "results/rwku/counts.csv", index_col="set")
    assert counts.loc["forget_aa"].to_list() == [20, 6984, -6964]
    assert "pair_phi.json" not in " ".join(hub.requests)  # no method reads it


def test_too_few_probes_stop_the_run_unless_told_otherwise(hub, environment, tmp_path):
    targets = str(tmp_path / "targets.json")
    over = {"benchmarks": {"rwku": {"targets": targets, "revision": COMMIT, "check_totals": True}}}
    done = paper(tmp_path, hub, environment, "results/rwku/probes/1_Stephen_King.parquet", **over)
    assert done.returncode != 0
    assert "forget_fb has 8 probes, 3,268 are published (-3,260)" in done.stderr
    assert "check_totals to false to go on" in done.stderr
