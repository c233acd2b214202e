"""The published tables, each on its own model, from a hub of this machine under the paper's config."""

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from atu.common.names import display_name
from atu.data.protocol import PROTOCOLS, protocol_of
from atu.data.publications import read_published
from atu.reporting.tables import HEADINGS
from atu_pipeline.lineage import jobs_behind, read_records
from atu_pipeline.records import read_jobs
from conftest import ROOT, build_encoder, shared_folder, tiny_llm
from hub import COMMIT, NAMES, WRITERS, StubHub, build_rwku
from test_protocol import llama3_like, phi3_like
from test_settings import PAPER, merge

LLAMA3, PHI3, ENCODER = "llama-3-8b-instruct", "phi-3-mini-4k-instruct", "all-mpnet-base-v2"
TABLES = {"main_table": PHI3, "rwku_phi3": PHI3, "rwku_llama3": LLAMA3}
TARGET, *_ = TARGETS = [f"{rank}_{name.replace(' ', '_')}" for rank, name in enumerate(NAMES, start=1)]
# Not all twelve rows on both models: a row is four jobs of some seconds. Here is what is applied and what trains, in
# full and as LoRA, on each kind of text, each with its published row; what the tables of Phi-3 share is made once.
ROWS = {
    LLAMA3: {"ga": "GA (Full)", "dpo-lora": "DPO (LoRA)", "rt": "RT (Full)"},
    PHI3: {"icu": "ICU", "repe": None, "ga_star": "GA* (Full)", "ga-lora": "GA (LoRA)"},  # RepE: of Llama-3 alone
}
ATU = {"ATU (tau=0.5)", "ATU (tau=0.35)", "ATU (tau=0.2)"}
NOWHERE = "http://127.0.0.1:9"  # nothing answers there
PRIMERS = {"triviaqa": ("shots", "\nQ: a\nA: b\n"), "truthfulqa": ("TRUTH", "Q: a\nA: b")}


def build_llm(directory: Path, family: str, tokenizer: PreTrainedTokenizerFast) -> None:
    """A model of a few thousand weights in the form of a real one, with a tokenizer that adds BOS."""
    sizes = {"max_position_embeddings": 4096, "pad_token_id": tokenizer.eos_token_id}
    tiny_llm(tokenizer, family, **sizes).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def build_hub(folder: Path) -> None:
    """The repositories of the paper's config, each in a folder of its name, and the source of the primers."""
    repos = {name: folder / PAPER["models"][name]["repo"] for name in (LLAMA3, PHI3, ENCODER)}
    build_llm(repos[LLAMA3], "llama", llama3_like())
    build_llm(repos[PHI3], "phi3", phi3_like())
    build_encoder(repos[ENCODER])
    build_rwku(folder / PAPER["benchmarks"]["rwku"]["repo"])
    (folder / "owner/source").mkdir(parents=True)
    lines = [f"{name} = {text!r}" for name, text in PRIMERS.values()]
    (folder / "owner/source/eval.py").write_text("\n".join(lines))


def hub_of(folder: Path) -> StubHub:
    hub = StubHub()
    repos = [PAPER["models"][name]["repo"] for name in (LLAMA3, PHI3, ENCODER)]
    hub.repos = {f"models/{repo}": folder / repo for repo in [*repos, "owner/source"]}
    dataset = PAPER["benchmarks"]["rwku"]["repo"]
    hub.repos[f"datasets/{dataset}"] = folder / dataset
    return hub


def published_settings(directory: Path, atu: dict) -> dict[str, str]:
    """Files that have the published settings as small as the runs are, beside which published numbers then stand."""
    with (ROOT / PAPER["published"]["trained"]).open(newline="") as file:
        rows = [row | {"epochs": "1", "warmup_steps": "0"} for row in csv.DictReader(file)]
    pd.DataFrame(rows).to_csv(directory / "settings.csv", index=False)
    (directory / "atu.yaml").write_text(json.dumps(atu | {"encoder": ENCODER}))
    return {"trained": str(directory / "settings.csv"), "aligned": str(directory / "atu.yaml")}


def small(directory: Path, url: str) -> dict:
    """What differs from the paper's config: sizes, what the stub has, and where a test runs."""
    (directory / "targets.json").write_text(json.dumps(TARGETS))
    source = {"url": f"{url}/owner/source/resolve/{COMMIT}/eval.py"}
    primers = {
        primer: source | {"name": name, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        for primer, (name, text) in PRIMERS.items()
    }
    benchmark = {"revision": COMMIT, "targets": str(directory / "targets.json"), "check_totals": False}
    own = {"main_table": [*ROWS[PHI3], "atu", "atu-tau035"], "rwku_phi3": [*ROWS[PHI3]], "rwku_llama3": [*ROWS[LLAMA3]]}
    atu = {
        "layer": 1,
        "k": 2,
        "other_subjects": 1,
        "predictor": {"width": 16, "layers": 1, "heads": 2},
        "align": {"steps": 4, "steps_between": 2, "batch_size": 2},
        "unlearn": {"tau": [0.5, 0.2], "steps": 2, "batch_size": 2},
    }
    return {
        "targets": [TARGET],
        "published": published_settings(directory, atu),
        "models": {name: {"revision": COMMIT} for name in (LLAMA3, PHI3, ENCODER)},
        "benchmarks": {"rwku": benchmark | {"primers": primers}},
        "method_defaults": {"trained": {"train": {"epochs": 1, "warmup_steps": 0}}},
        "method_settings": {
            "atu": atu,
            "atu-tau035": {"unlearn": {"tau": [0.5, 0.35]}},
            "ga_star": {"train": {"epochs": 1}},
            "repe": {"options": {"layers": [1]}},
        },
        "experiments": {name: {"targets": [TARGET], "methods": methods} for name, methods in own.items()},
        "evaluation": {"between": ["forget_qa"], "max_new_tokens": 8},  # between: ATU at 0.5
        "threads": 1,
        "device": "cpu",
        "precision": "fp32",
    }


def snakemake(directory: Path, config: dict, *arguments: str, url: str = NOWHERE, token: str | None = None):
    """Snakemake with a config laid over the paper's, on a machine with an empty cache that knows a stub as its hub."""
    (directory / "small.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "snakemake", *arguments, "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    command += ["--directory", str(directory), "--configfile", str(directory / "small.json")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_ENDPOINT": url, "HF_HOME": str(directory / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment |= {"HF_TOKEN": token} if token else {}
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="session")
def repositories(tmp_path_factory) -> Path:
    return shared_folder(tmp_path_factory, "repositories", build_hub)


@pytest.fixture(scope="session")
def tables(repositories, tmp_path_factory) -> Path:
    """A folder in which one run made all tables, and what it printed (said.txt); tests only look at it."""

    def build(folder: Path) -> None:
        hub = hub_of(repositories)
        done = snakemake(folder, small(folder, hub.url), *TABLES, "before", "--show-failed-logs", url=hub.url)
        hub.close()
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
        (folder / "said.txt").write_text(done.stdout)

    return shared_folder(tmp_path_factory, "published_tables", build)


def runs_of(tables: Path, experiment: str) -> dict[str, Path]:
    """The folder of each run of an experiment, by the name of its block."""
    made = json.loads((tables / f"results/experiments/{experiment}/tables/provenance.json").read_text())
    ends = [run for run in made["runs"] if run["stage"] == 1 and not run["method"].startswith("atu")]
    return {run["method"]: tables / Path(run["files"][0]).parents[1] for run in ends}


def changed_maps(tables: Path, experiment: str, block: str) -> set[str]:
    """What a kept model has otherwise than the base model: names of modules without those around them."""
    (base,) = tables.glob(f"resources/models/{TABLES[experiment]}-*/model.safetensors")
    kept = load_file(runs_of(tables, experiment)[block] / "model/model.safetensors")
    return {name.split(".")[-2] for name, weights in load_file(base).items() if not torch.equal(weights, kept[name])}


@pytest.mark.parametrize("name", TABLES)
def test_published_numbers_of_its_own_model_stand_beside_ours(tables, name):
    folder, model = tables / f"results/experiments/{name}/tables", TABLES[name]
    ours = pd.read_csv(folder / "main.csv").query("split == 'test'")
    assert set(ours["model"]) == {model}
    known = pd.DataFrame(read_published(ROOT / "workflow/benchmarks/published.csv")).query("model == @model")
    found = pd.read_csv(folder / "published.csv")
    keys = ["published_row", "metric"]
    theirs = known.rename(columns={"method": "published_row", "value": "published"})[[*keys, "published"]]
    pd.testing.assert_frame_equal(found[[*keys, "published"]], theirs.reset_index(drop=True))
    blocks = {row: (block, 1) for block, row in ROWS[model].items() if row}
    rows = {"Before", *blocks} | (ATU if name == "main_table" else set())
    compared = found[found["status"] == "compared"]
    assert set(compared["published_row"]) == rows
    assert set(found.loc[found["status"] == "not run", "published_row"]) == set(known["method"]) - rows
    unasked = found[found["status"] == "not asked"]  # between the stages of ATU one set is asked
    assert set(unasked["published_row"]) <= {"ATU (tau=0.5)"}
    called = compared.groupby("published_row")["run"].unique().map(list).to_dict()
    assert {row: called[row] for row in blocks} == {row: [display_name(block)] for row, (block, _) in blocks.items()}
    blocks |= {"Before": (next(iter(ROWS[model])), 0)}
    blocks |= {"ATU (tau=0.5)": ("atu", 1), "ATU (tau=0.2)": ("atu", 2), "ATU (tau=0.35)": ("atu-tau035", 2)}
    for row in compared.itertuples():
        mine = ours.set_index(["method", "stage", "metric"]).loc[(*blocks[row.published_row], row.metric)]
        assert mine["value"] == pytest.approx(row.ours)
        tau = re.search(r"tau=([\d.]+)", row.published_row)
        assert not tau or mine["tau"] == float(tau[1])
    page = (folder / "published.md").read_text(encoding="utf-8")
    assert protocol_of("rwku").sentence in page
    assert all((f"| {display_name(block)} " in page) == bool(row) for block, row in ROWS[model].items())


@pytest.mark.parametrize("name", TABLES)
def test_each_model_reads_the_texts_that_are_for_it(tables, name):
    """... as Snakemake has recorded what the training of each run read."""
    own = WRITERS["_phi" if TABLES[name] == PHI3 else ""]
    records = read_records(tables)
    read = {}
    for block, folder in runs_of(tables, name).items():
        made = (folder / ("weights" if (folder / "weights").exists() else "intervention")).relative_to(tables)
        (trained,) = [
            job for job in jobs_behind(made.as_posix(), records) if job.rule in ("train", "find_intervention")
        ]
        if block == "icu":
            assert not [path for path in trained.inputs if path.endswith(".jsonl")]
            continue
        (read[block],) = (tables / path for path in trained.inputs if path.endswith(".jsonl"))
    kinds = {"ga": "positive", "ga_star": "passage", "dpo": "pair", "rt": "reject", "repe": "reject"}
    assert {block: path.parent.name for block, path in read.items()} == {
        block: kinds[block.removesuffix("-lora")] for block in read
    }
    for block, path in read.items():
        said = [other for other in WRITERS.values() if other in path.read_text(encoding="utf-8")]
        assert said == ([] if block == "ga_star" else [own])  # passages are nobody's


def test_adapters_are_on_the_maps_that_make_queries_and_values(tables):
    assert changed_maps(tables, "rwku_phi3", "ga-lora") == {"qkv_proj"}
    assert changed_maps(tables, "rwku_llama3", "dpo-lora") == {"q_proj", "v_proj"}
    assert changed_maps(tables, "rwku_llama3", "ga") > {"q_proj", "v_proj", "o_proj", "lm_head"}


def test_the_unmodified_models_are_printed(tables):
    """A table of both models by both protocols, with what was published and what others found; and what it is of."""
    said = (tables / "said.txt").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if line[:1] == "|"]
    header, _, *rows = lines
    shown = pd.DataFrame(rows, columns=header)
    columns = ["Model", "Protocol", "Metric", "Value", "Published by others", "Found by others"]
    shown = shown[columns].set_index(columns[:3])
    keys = [(model, protocol) for model in (LLAMA3, PHI3) for protocol in PROTOCOLS]
    assert list(dict.fromkeys(key[:2] for key in shown.index)) == keys
    beside = {LLAMA3: ["76.4", "70.7"], PHI3: ["47.4", "44.9"]}  # RWKU's tables 1 and 2; its issue 3
    ours = pd.read_csv(tables / "results/tables/before.csv").set_index(["model", "protocol", "metric"])["value"]
    for model, protocol in keys:
        value = f"{ours[model, protocol, 'forget_qa']:.1f}"
        assert shown.loc[(model, protocol, HEADINGS["forget_qa"])].tolist() == [value, *beside[model]]
        start = f"The base model {model} on rwku, asked by the protocol {protocol}"
        (paragraph,) = [line for line in said.splitlines() if line.startswith(start)]
        assert protocol_of(protocol).sentence in paragraph
    for name in ("rwku_llama3", "rwku_phi3"):  # the same answers
        table = pd.read_csv(tables / f"results/experiments/{name}/tables/main.csv").query("stage == 0")
        of_qa = table.query("metric == 'forget_qa' and split == 'test'")["value"].unique().tolist()
        assert of_qa == [ours[TABLES[name], "rwku", "forget_qa"]]


def test_nothing_is_planned_again(tables):
    config = json.loads((tables / "small.json").read_text())
    done = snakemake(tables, config, *TABLES, "before", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert {job.rule for job in read_jobs(done.stdout.splitlines())[0]} == {"before"}  # which prints, and makes nothing


def told(done: subprocess.CompletedProcess) -> str:
    """The last thing that was said of a run that was refused."""
    assert done.returncode
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "over", "said"),
    [
        (
            "rwku_llama3",
            {"experiments": {"rwku_llama3": {"overrides": {"evaluation": {"protocol": "rvku"}}}}},
            "experiments.rwku_llama3.overrides: evaluation.protocol: 'rvku' is not one of",
        ),
        (
            "rwku_phi3",
            {"method_settings": {"ga-lora": {"train": {"learning_rate": 2e-5}}}},
            "method_settings.ga-lora.train.learning_rate: 2e-05, but experiments.rwku_phi3 runs ga-lora as "
            "scripts/lora/run_ga_lora.sh does, with 1e-05; set that, or call the experiment other than rwku_...",
        ),
        (
            "elsewhere",
            {
                "models": {"adapter": {"source": "path", "path": "adapter"}},
                "method_settings": {"external-lora": {"method": "external", "model": "adapter", "forgot": [TARGET]}},
                "experiments": {"elsewhere": {"targets": [TARGET], "methods": ["external-lora"], "shows": ["main"]}},
            },
            f"method_settings.external-lora.model: adapter is an adapter of {PAPER['models'][LLAMA3]['repo']}, not of "
            f"{PAPER['models'][PHI3]['repo']}; name the base model that it was trained on",
        ),
    ],
)
def test_other_settings_than_the_published_are_refused_before_any_job(tmp_path, name, over, said):
    (tmp_path / "adapter").mkdir()
    base = {"base_model_name_or_path": PAPER["models"][LLAMA3]["repo"]}
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps(base))
    config = merge(small(tmp_path, NOWHERE), over)
    assert said in told(snakemake(tmp_path, config, name, "--dry-run"))
    others = [other for other in TABLES if other != name]
    assert snakemake(tmp_path, config, *others, "--dry-run").returncode == 0


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "is gated: accept its terms at {url}/{repo} and set HF_TOKEN to a token of that account"),  # 401
        ("other", "is gated, and the account of HF_TOKEN may not read it: accept its terms at {url}/{repo}"),  # 403
    ],
)
def test_a_gated_model_is_told_in_one_line(repositories, tmp_path, token, said):
    hub, repo = hub_of(repositories), PAPER["models"][LLAMA3]["repo"]
    hub.gated.add(f"models/{repo}")
    config = small(tmp_path, hub.url)
    done = snakemake(tmp_path, config, "rwku_llama3", "--until", "download_model", url=hub.url, token=token)
    hub.close()
    assert done.returncode
    (line,) = {line.strip() for line in done.stderr.splitlines() if "SourceError" in line}
    assert said.format(url=hub.url, repo=repo) in line
