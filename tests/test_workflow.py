"""Snakemake itself on tiny random models: the whole DAG, partial reruns, kills and faults."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml
from safetensors.numpy import load_file

from atu.reporting.tables import main_table
from atu_pipeline import lineage
from atu_pipeline.paths import experiment_dir
from conftest import ROOT, Workflow, build_benchmark

OF_RUNS = "results/llm/tiny/1_Ada/seed0"
RUN, STAGE = "llm/tiny/1_Ada/seed0/atu-*", "llm/tiny/1_Ada/seed0/stages/atu-*"  # of the finished run
SHARED = {"download_model", "write_texts", "embed_windows", "hidden_states", "align"}


# Rules of a run of two stages.
STAGES = ("unlearn", "unlearn_last", "evaluate_between", "evaluate_after")
SPEECH = {"forget_degenerate", "forget_empty", "forget_refused"}
EXPERIMENTS = yaml.safe_load((ROOT / "config.yaml").read_text())["experiments"]


NOBODY, BEFORE = "texts/positive/9_Nobody-00000000", "before/utility-00000000.parquet"


def numbers(workflow: Workflow) -> str:
    return (workflow.directory / "results/tables/main.csv").read_text()


def test_long_table(finished):
    table = pd.read_csv(finished.directory / "results/tables/main.csv")
    names = ["model", "benchmark", "target", "method", "stage", "tau", "split", "metric", "value", "n", "seed"]
    assert list(table.columns) == names
    assert set(table["stage"]) == {0, 1, 2}
    assert table[table["stage"] == 0]["tau"].isna().all()
    assert table[table["stage"] == 2]["tau"].unique().tolist() == [-0.5]
    assert set(table["split"]) == {"dev", "test", "all"}
    everything = {"forget_fb", "forget_qa", "forget_aa", "forget_all", "neighbor_fb", "neighbor_qa", "neighbor_all"}
    everything |= {"mia_fm", "mia_rm"} | {f"utility_{name}" for name in ("gen", "rea", "tru", "fac", "flu")}
    everything |= SPEECH
    # of the right choice and of the likeliest wrong one
    everything |= {f"utility_{name}_{kind}" for name in ("gen", "tru") for kind in ("probability", "best_wrong")}
    between = {"forget_qa", "neighbor_qa", *SPEECH}
    for stage, expected in ((0, everything), (1, between), (2, everything)):
        assert set(table[(table["stage"] == stage) & (table["split"] == "all")]["metric"]) == expected


def test_tables_figures_and_models(finished):
    results = finished.directory / "results"
    assert "| Before" in (results / "tables/main.md").read_text()
    assert r"\begin{tabular}" in (results / "tables/main.tex").read_text()
    for name in ("tradeoff", "stages", "targets", "adversarial_types"):
        assert (results / f"figures/{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (results / f"figures/{name}.pdf").read_bytes()[:4] == b"%PDF"
    recorded = json.loads((results / "tables/provenance.json").read_text())
    assert recorded["settings"]["targets"] == ["1_Ada"]
    assert set(recorded["versions"]) >= {"torch", "transformers", "snakemake"}
    known = pd.read_csv(results / "tables/known.csv")
    assert set(known["set"]) == {"forget_fb", "forget_qa", "forget_aa", "neighbor_fb", "neighbor_qa"}

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = finished.find(RUN) / "model"
    assert AutoModelForCausalLM.from_pretrained(model).num_parameters() > 0
    assert AutoTokenizer.from_pretrained(model).chat_template
    provenance = json.loads((model / "provenance.json").read_text())
    assert provenance["versions"]["torch"]
    assert provenance["settings"]["run"]["seed"] == "0"
    assert provenance["settings"]["layer"] == 2
    card = (model / "README.md").read_text()
    assert "| Forget QA ↓ " in card
    weights = model.parent / "weights"
    assert (model / "model.safetensors").samefile(weights / "model.safetensors")  # no second copy
    assert {path.name for path in model.iterdir()} == {path.name for path in weights.iterdir()} | {"README.md"}
    published = (results / "tables/published.md").read_text()
    assert "No published number is of llm on tiny" in published
    attacks = pd.read_csv(results / "tables/adversarial_types.csv")
    assert attacks["run"].unique().tolist() == ["Before", "ATU τ=-0.5"]
    assert attacks["type"].unique().tolist() == ["role playing"]


def test_report(finished):
    finished.run("--report", "results/report.html")
    page = (finished.directory / "results/report.html").read_text()
    figures, pages = ("tradeoff.png", "stages.png", "targets.png"), ("index.html", "main.html", "published.html")
    for text in (*figures, *pages, "Align-then-Unlearn"):
        assert text in page


def test_checkpoints_between_stages_are_gone(finished):
    run, stage = finished.find(RUN), finished.find(STAGE)
    assert sorted(path.name for path in run.parent.iterdir()) == ["alignments", run.name, "stages"]
    steps = ["steps.csv", "steps.csv.recipe.json"]
    assert sorted(path.name for path in run.iterdir()) == ["evaluations", "model", *steps, "weights"]
    assert sorted(path.name for path in stage.iterdir()) == ["evaluations", "predictor", *steps]


def test_every_step_is_logged(finished):
    steps = pd.read_csv(finished.find(STAGE) / "steps.csv")
    assert steps["phase"].value_counts().to_dict() == {"unlearn": 3, "align": 3}
    last = pd.read_csv(finished.find(RUN) / "steps.csv")
    assert last["phase"].value_counts().to_dict() == {"unlearn": 3}  # nothing reads a predictor
    assert last["tau"].unique().tolist() == [-0.5]
    assert {"loss", "unlearn_loss", "similarity", "grad_norm", "learning_rate", "tau"} <= set(steps.columns)


def test_nothing_to_do_when_nothing_changed(finished):
    assert finished.planned() == {}


def test_one_more_target_runs_that_target_alone(finished):
    """It reuses models, texts, windows and hidden states; only one subject is new to the run."""
    jobs = finished.planned("--config", "targets=[1_Ada,2_Bo]")
    assert jobs.get("hidden_states", 0) <= 1
    assert jobs["align"] == 1
    assert [jobs[rule] for rule in STAGES] == [1, 1, 1, 1]
    assert jobs["evaluate_before"] == 1
    assert "download_model" not in jobs
    assert not [line for line in finished.planned_outputs("--config", "targets=[1_Ada,2_Bo]") if "1_Ada/seed" in line]


@pytest.mark.release
def test_a_changed_probe_reruns_that_target_alone(copy):
    config = json.loads(copy.config.read_text())
    own = copy.directory / "benchmark"  # the shared one is read by other workers of this test run
    shutil.copytree(config["benchmarks"]["tiny"]["path"], own)
    config["benchmarks"]["tiny"]["path"] = str(own)
    copy.config.write_text(json.dumps(config))
    copy.run("--config", "targets=[1_Ada,2_Bo]")
    trained = copy.paths().run("2_Bo", "atu", "0")
    probes = own / "Target/2_Bo/forget_level2.json"
    saved = probes.read_bytes()
    probes.write_text(json.dumps(json.loads(saved)[:3]))
    outputs = copy.planned_outputs("--config", "targets=[1_Ada,2_Bo]")
    probes.write_bytes(saved)
    assert any("probes/2_Bo-" in line for line in outputs)
    assert any(f"{trained}/evaluations/" in line for line in outputs)
    assert not any("1_Ada" in line for line in outputs)
    assert copy.planned("--config", "targets=[1_Ada,2_Bo]") == {}  # the probe is what it was


def test_a_changed_setting_makes_what_it_touches_beside_the_rest(finished):
    """Nothing that is there is written again but the tables and figures."""

    def changed(*path, value):
        given = ("--config", "method_settings=" + json.dumps(nested(path, value)))
        for line in finished.planned_outputs(*given):
            for output in line.partition(": ")[2].split(", "):
                assert experiment_dir(output) or not (finished.directory / output).exists()
        return finished.planned(*given)

    def nested(path, value):
        return {path[0]: nested(path[1:], value) if len(path) > 1 else value}

    jobs = changed("atu", "unlearn", "learning_rate", value=5e-4)
    assert [jobs[rule] for rule in STAGES] == [1, 1, 1, 1]
    assert not SHARED & set(jobs)
    jobs = changed("atu", "align", "learning_rate", value=5e-4)
    assert jobs["align"] == 1
    assert not {"download_model", "write_texts", "embed_windows"} & set(jobs)


def test_an_unknown_target_is_one_clear_line(workflow):
    done = workflow.run("--dry-run", "--config", "targets=[1_Adda]", check=False)
    assert done.returncode
    assert (
        "targets: unknown '1_Adda'; did you mean 1_Ada? (known: 1_Ada, 2_Bo, 3_Cy, 4_Beyoncé)"
        in done.stdout + done.stderr
    )


def test_nan_loss_stops_the_run_and_keeps_what_was_done(copy):
    over = {"atu": {"unlearn": {"learning_rate": 1e30}}}
    done = copy.run("--config", "method_settings=" + json.dumps(over), check=False)
    assert done.returncode
    assert "not finite at step" in done.stdout + done.stderr
    stage = copy.paths(method_settings=over).stage("1_Ada", "atu", "0", 1)
    log = (copy.directory / f"logs/unlearn/{stage.removeprefix('results/')}.log").read_text()
    assert "lower the learning rate" in log
    assert "(method_settings.atu.unlearn.learning_rate)" in log
    assert "Traceback" not in log
    assert not (copy.directory / stage / "llm").exists()
    assert copy.planned() == {}  # the fault mended: what was there before
    assert not list(copy.directory.rglob(".llm.*"))


@pytest.mark.parametrize(
    ("rule", "sent"),
    [
        pytest.param("write_texts", signal.SIGKILL, marks=pytest.mark.release),
        pytest.param("unlearn", signal.SIGINT, marks=pytest.mark.release),
        ("evaluate_between", signal.SIGKILL),
    ],
)
def test_a_killed_run_resumes_with_the_same_numbers(finished, copy, rule, sent):
    """kill -9 or Ctrl-C, to Snakemake and all its jobs, while ``rule`` runs."""
    shutil.rmtree(copy.directory / ("results/llm" if rule == "write_texts" else OF_RUNS))
    shutil.rmtree(copy.directory / "results/tables")
    process = subprocess.Popen(
        copy.command(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which is ignored behind a shell's &
    )
    for line in process.stdout:
        if line.strip().endswith(f"rule {rule}:"):
            break
    time.sleep(2.5)
    os.killpg(process.pid, sent)
    process.communicate(timeout=120)
    assert process.returncode
    assert not (copy.directory / "results/tables/main.csv").exists()
    copy.run("--unlock")
    done = copy.run("--rerun-incomplete")
    assert numbers(copy) == numbers(finished)
    if rule == "evaluate_between":  # what was finished is not done again
        assert "rule align:" not in done.stdout + done.stderr


@pytest.mark.release
def test_every_method(copy):
    """Rows of all methods from one run: trained, by adapter, with a reference, with others, applied at inference."""
    few = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3}
    auto = {"rank": 2, "merge": False, "modules": "auto"}
    over = {
        "method_settings": {
            "ga": {"train": few | {"epochs": 2}, "lora": auto, "layers": "1-2"},
            "ga_star": {"method": "ga", "texts": "passage", "train": few},
            "dpo": {"train": few | {"accumulate": 1}},  # else one step, whose rate the warm-up makes 0
            "npo": {"train": few, "retain": {"loss": "kl"}, "layers": "0-0"},
            "rmu": {"options": {"layer": 2}, "train": few},
            "undial": {"train": few},
            "altpo": {"train": few | {"accumulate": 1}, "retain": {"loss": "none"}},
            "graddiff": {"method": "ga", "retain": {"loss": "descent"}, "train": few},
            "repe": {"options": {"layers": [1, 2]}},
        },
        "evaluation": {"before_and_after": ["forget_qa", "neighbor_qa", "utility_flu"], "between": ["forget_qa"]},
    }
    config = json.loads(copy.config.read_text())
    for block, values in over["method_settings"].items():
        config["method_settings"][block] = values
    config["evaluation"] |= over["evaluation"]
    copy.config.write_text(json.dumps(config))
    methods = ["atu", "ga", "ga_star", "dpo", "npo", "rmu", "undial", "altpo", "graddiff", "icu", "repe"]
    copy.run("--config", f"methods=[{','.join(methods)}]")
    table = pd.read_csv(copy.directory / "results/tables/main.csv")
    assert set(table["method"]) == set(methods)
    stages = table.groupby("method")["stage"].max().to_dict()
    assert stages == {"atu": 2, "ga": 2} | dict.fromkeys(methods[2:], 1)
    rows = (copy.directory / "results/tables/main.md").read_text()
    for name in ("ATU τ=-0.5", "GA epoch 2", "GA*", "DPO", "NPO", "RMU", "UNDIAL", "AltPO", "ICU", "RepE"):
        assert f"| {name} " in rows
    runs = {method: copy.directory / copy.paths(methods=methods).run("1_Ada", method, "0") for method in methods}
    assert len(set(runs.values())) == len(methods)
    adapter = load_file(runs["ga"] / "model/adapter_model.safetensors")
    assert {name.partition(".layers.")[2][0] for name in adapter} == {"1", "2"}
    before = load_file(Path(config["models"]["llm"]["path"]) / "model.safetensors")
    after = load_file(runs["npo"] / "model/model.safetensors")
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert {name[: len("model.layers.0")] for name in changed} == {"model.layers.0"}
    assert (runs["dpo"] / "model/model.safetensors").exists()
    (answers,) = (runs["icu"] / "evaluations").glob("*.parquet")
    asked = pd.read_parquet(answers)
    assert asked["prompt"].str.contains("supposed to unlearn about Ada").all()
    assert not list(copy.directory.glob(f"{OF_RUNS}/stages/*/epochs"))
    cards = {method: (run / "model/README.md").exists() for method, run in runs.items()}
    assert cards == {method: method not in ("icu", "repe") for method in methods}


def test_stages_behind_a_collapse_are_not_run(copy):
    """With a fluency that no model reaches, stage 1 counts as collapsed: stage 2 passes its model on, marked."""
    config = json.loads(copy.config.read_text())
    config["collapse"] = {"fluency_share": 1.0}
    config["evaluation"]["between"] = ["forget_qa", "neighbor_qa", "utility_flu"]
    config["method_settings"]["atu"]["unlearn"]["learning_rate"] = 0.3  # a model that collapses
    copy.config.write_text(json.dumps(config))
    copy.run()
    folder = copy.directory / copy.paths().run("1_Ada", "atu", "0")
    assert len(pd.read_csv(folder / "steps.csv")) == 0
    assert (folder / "model/not_run.json").exists()
    assert "collapsed before stage 2" in (folder / "model/README.md").read_text()
    assert len(pd.read_parquet(copy.directory / copy.paths().after("1_Ada", "atu", "0"))) == 0
    table = pd.read_csv(copy.directory / "results/tables/collapsed.csv")
    assert table["collapsed"].tolist() == [True, True]
    assert "ATU τ=0 † 100% collapsed" in (copy.directory / "results/tables/main.md").read_text()


def know_all(workflow, benchmark):
    """Give a copy of the benchmark whose expected answers are those that the base model gives."""
    folder = workflow.directory / "benchmark"
    shutil.copytree(benchmark, folder)
    said = pd.read_parquet(workflow.find("llm/tiny/before/1_Ada-*.parquet"))
    for name, file in (("forget_qa", "forget_level2"), ("neighbor_qa", "neighbor_level2")):
        path = folder / f"Target/1_Ada/{file}.json"
        answers = said[said["set"] == name].set_index("query")["prediction"]
        rows = [row | {"answer": answers[row["query"]]} for row in json.loads(path.read_text())]
        path.write_text(json.dumps(rows))
    return str(folder)


@pytest.mark.release
def test_a_diverging_rate_of_a_grid_is_marked_and_the_tables_are_made(copy):
    """Of each list one rate is beyond all numbers: it is marked, asked nothing and never chosen.

    The seed is a date: 1000 times it is more than NumPy takes.
    """
    config = json.loads(copy.config.read_text())
    rates = [1e-3, 1e30]
    train = {"epochs": 2, "batch_size": 2, "learning_rate": rates}
    config["method_settings"]["ga"] = {"train": train, "lora": {"rank": 2}}
    config["method_settings"]["atu"]["unlearn"]["learning_rate"] = rates
    config["split"]["dev_share"] = 0.5
    config["benchmarks"]["tiny"]["path"] = know_all(copy, config["benchmarks"]["tiny"]["path"])
    copy.config.write_text(json.dumps(config))
    chosen = ("--config", "methods=[ga,atu]", "seeds=[20261125]")
    done = copy.run(*chosen)
    table = pd.read_csv(copy.directory / "results/tables/learning_rates.csv").set_index("variant")
    assert table["diverged"].to_dict() == {"ga@0.001": False, "ga@1e+30": True, "atu@0.001": False, "atu@1e+30": True}
    assert (table["chosen"] == ~table["diverged"]).all()
    assert table["score"].isna().equals(table["diverged"])
    paths = copy.paths(methods=["ga", "atu"])
    for variant, key in (("ga@1e+30", "method_settings.ga.train"), ("atu@1e+30", "method_settings.atu.unlearn")):
        run = copy.directory / paths.run("1_Ada", variant, "20261125")
        names = {path.name for path in (run / "model").iterdir()} - {".snakemake_timestamp"}
        assert names == {"README.md", "diverged.json", "provenance.json", "recipe.json"}
        said = json.loads((run / "model/diverged.json").read_text())
        assert said["first_stage_not_reached"] == 1
        assert "not finite" in said["message"]
        assert said["message"].endswith(f"({key}.learning_rate)")
        assert f"**There is no model: {said['message']}.**" in (run / "model/README.md").read_text()
        for stage in (1, 2):
            asked = paths.evaluation("1_Ada", variant, "20261125", stage)
            assert len(pd.read_parquet(copy.directory / asked)) == 0
    collapsed = pd.read_csv(copy.directory / "results/tables/collapsed.csv")
    marked = collapsed[collapsed["method"].str.endswith("1e+30")]
    assert marked["collapsed"].all()
    assert marked["why"].str.contains("not finite").all()
    assert set(pd.read_csv(copy.directory / "results/tables/main.csv")["method"]) >= {"ga@0.001", "atu@0.001"}
    shown = (copy.directory / "results/tables/main.md").read_text()
    assert "1e+30" not in shown
    assert "GA@0.001 epoch 2" in shown
    assert "atu@1e+30: training has diverged" in done.stdout + done.stderr
    selected = pd.read_csv(copy.directory / "results/tables/selected.csv")
    assert selected.groupby("method")["chosen"].sum().to_dict() == {"ga@0.001": 1, "atu@0.001": 1}
    assert selected[selected["stage"] == 0][["neighbour_kept", "forget_left"]].to_numpy().tolist() == [[1, 1]] * 2
    assert set(selected["settings"]) == {2}  # the one that diverged was tried too
    assert set(table["settings"]) == {
        f"{part}.learning_rate: {rate}" for part in ("train", "unlearn") for rate in ("0.001", "1e+30")
    }
    assert copy.planned(*chosen) == {}


def test_the_chosen_stage_stands_beside_the_last(finished, copy):
    """The tiny model knows nothing: all stages keep as much, and the first is chosen. Another budget chooses anew,
    and asks nothing anew."""
    text = (finished.directory / "results/tables/selected.md").read_text()
    head, _, before, chosen, last, *_ = text.splitlines()
    assert [cell.strip() for cell in head.split("|")[1:8]] == [
        *("Method", "Stage", "Settings", "Stages", "Targets", "Forget QA ↓", "Forget All ↓")
    ]
    assert [cell.strip() for cell in before.split("|")[1:5]] == ["Before", "", "", ""]
    assert [cell.strip() for cell in chosen.split("|")[1:5]] == ["ATU τ=0", "chosen", "1", "2"]
    assert [cell.strip() for cell in last.split("|")[1:5]] == ["ATU τ=-0.5", "last", "1", "2"]
    assert "at least 0.9 of the base model's Neighbor QA recall" in text
    assert "The base model recalls nothing of Neighbor QA and Forget QA there" in text
    half = ("--config", "selection={neighbour_kept: 0.5}")
    assert copy.planned(*half) == {"selected_table": 1, "all": 1}
    copy.run("results/tables/selected.md", *half)
    assert "at least 0.5 of the base" in (copy.directory / "results/tables/selected.md").read_text()


def test_each_combination_of_a_grid_is_run(finished):
    """Of Align-then-Unlearn: stages of other settings share the alignment. Without dev probes nothing is chosen."""
    grid = {"unlearn.steps": [3, 4], "unlearn.retain_weight": [0.0, 0.5], "unlearn.tau": [[0.0, -0.5]]}
    settings = ["--config", "method_settings=" + json.dumps({"atu": {"grid": grid}})]
    jobs = finished.planned("forget", *settings)
    assert (jobs["unlearn"], jobs["unlearn_last"], jobs["evaluate_after"]) == (3, 3, 3)  # one has been run
    assert "align" not in jobs
    over = {"mine": {"targets": ["1_Ada"], "methods": ["atu"], "shows": ["main", "selected"]}}
    jobs = finished.planned("mine", *settings, "experiments=" + json.dumps(over))
    assert jobs["selected_table"] == jobs["overall_table"] == 1
    for asked in ("mine", "results/tables/selected.md"):
        blind = ["split={dev_share: 0}", "experiments=" + json.dumps(over)]
        done = finished.run("--dry-run", asked, "--config", *blind, check=False)
        (said,) = [line for line in (done.stdout + done.stderr).splitlines() if "dev probes" in line]
        assert done.returncode
        assert said.endswith("selected is chosen on dev probes, and there are none; set split.dev_share above 0")


def test_where_all_rates_diverge_the_mend_is_said(copy):
    over = {"ga": {"train": {"epochs": 1, "warmup_steps": 0, "learning_rate": [1e30, 1e35]}}}
    asked = {"before_and_after": ["forget_qa", "neighbor_qa"], "between": []}
    settings = ["methods=[ga]", f"method_settings={json.dumps(over)}", f"evaluation={json.dumps(asked)}"]
    done = copy.run("results/tables/main.md", "--config", *settings, check=False)
    assert done.returncode
    said = (
        "ga: training has diverged at every setting of its grid (learning rates 1e+30, 1e+35); add a lower learning "
        "rate, 1e+29 say"
    )
    log = (copy.directory / "logs/overall_table/results.log").read_text()
    assert said in log, done.stdout + done.stderr
    assert "Traceback" not in log


def test_a_changed_published_number_reruns_the_comparison_alone(copy):
    """With numbers published for this model the comparison is made; nothing else depends on them."""
    published = copy.directory / "published.csv"
    rows = ["model,method,metric,value,source", "llm,Before,forget_qa,30.0,Table 1"]
    rows += ["llm,ATU (tau=-0.5),forget_qa,10.0,paper-notes"]
    published.write_text("\n".join(rows) + "\n")
    config = json.loads(copy.config.read_text())
    atu = config["method_settings"]["atu"] | {"encoder": "encoder"}  # the settings that made these numbers
    (copy.directory / "atu.json").write_text(json.dumps(atu))
    own = {"file": str(published), "benchmark": "tiny", "protocol": "strict"}
    config["published"] = own | {"aligned": str(copy.directory / "atu.json")}
    copy.config.write_text(json.dumps(config))
    assert set(copy.planned()) == {"all", "published_table"}
    copy.run()
    table = pd.read_csv(copy.directory / "results/tables/published.csv")
    assert table["status"].tolist() == ["compared", "compared"]
    shown = main_table(pd.read_csv(copy.directory / "results/tables/main.csv"), [])["Forget QA ↓"]
    assert table["ours"].tolist() == pytest.approx([shown.iloc[0], shown.iloc[-1]])
    assert "paper-notes (second-hand)" in (copy.directory / "results/tables/published.md").read_text()
    assert copy.planned() == {}
    published.write_text(published.read_text().replace("30.0", "31.0"))
    assert set(copy.planned()) == {"all", "published_table"}


def test_an_experiment_shares_what_there_is(finished):
    """A named target with methods of its own: of another layer only what the layer changes is run."""
    over = {"hook_layer": {"targets": ["1_Ada"], "methods": ["atu", "atu-layer10"], "shows": ["main", "tradeoff"]}}
    deeper = {"atu-layer10": {"layer": 3}}  # the tiny model has no layer 10
    settings = ["experiments=" + json.dumps(over), "method_settings=" + json.dumps(deeper)]
    jobs = finished.planned("hook_layer", "--config", *settings)
    assert jobs["hidden_states"] == 3
    assert jobs["align"] == jobs["keep_model"] == 1
    assert [jobs[rule] for rule in STAGES] == [1, 1, 1, 1]
    assert jobs["overall_table"] == jobs["plot"] == 1
    assert not {"write_texts", "embed_windows", "evaluate_before", "matched_table"} & set(jobs)


def test_every_experiment_is_made_of_the_same_rules(copy):
    """All of them from runs that are there: tables and figures alone, in folders of their own."""
    blocks = {name: {"targets": ["1_Ada"], "methods": ["atu"]} for name in EXPERIMENTS}
    config = json.loads(copy.config.read_text()) | {"experiments": blocks, "layer_probe": {"folds": 3}}
    copy.config.write_text(json.dumps(config))
    jobs = copy.planned("paper")
    assert not {"align", *STAGES, "evaluate_before", "keep_model"} & set(jobs)
    drawn = Counter(Path(line.split()[-1]).stem for line in copy.planned_outputs("paper") if "/figures/" in line)
    assert (drawn["tradeoff"], drawn["training"], drawn.total()) == (3, 1, jobs["plot"])
    assert jobs["attack_table"] == jobs["membership_table"] == jobs["matched_table"] == 1
    copy.run("mia", "stages")
    folder = copy.directory / "results/experiments"
    table = pd.read_csv(folder / "mia/tables/mia.csv")
    assert set(table["run"]) == {"Before", "ATU τ=-0.5"}
    assert (folder / "stages/figures/training.pdf").stat().st_size > 5000
    assert set(copy.planned("mia", "stages")) == set()
    copy.run("mia", "stages", "--report", "results/report.html")
    page = (copy.directory / "results/report.html").read_text()
    assert "mia / Tables" in page
    assert "system-message" not in page, "docutils complains inside the report"


def test_from_a_number_to_its_jobs(finished, tmp_path, capsys):
    """Every job behind it has left versions and commit; the config that is written plans the same run."""
    where = "target=1_Ada,method=atu,stage=2,metric=forget_qa,split=test"
    place = ["--directory", str(finished.directory)]
    lineage.main(["results/tables/main.csv", "--where", where, *place, "--details"])
    said = capsys.readouterr().out
    assert "Since then" not in said
    rules = ("download_model", "write_texts", "align", "unlearn", "unlearn_last", "evaluate_after", "overall_table")
    for text in (*(f"  {rule}, " for rule in rules), "commit "):
        assert text in said
    assert "not recorded" not in said
    lineage.main(["results/tables/main.csv", "--write-config", str(tmp_path / "again.yaml"), *place])
    assert finished.planned("--configfile", str(tmp_path / "again.yaml")) == {}


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--config", "targets=[9]"], "config: targets: 9 names ranks that do not exist (known: 1-4)"),
        (["--config", "evaluation={before_and_after: []}"], "config: evaluation.before_and_after: [] is not all, or a"),
        # found in an input function, where Snakemake would add a traceback
        (["hook_layer"], "config: experiments.hook_layer.targets: unknown 'ablations'"),
        (["results/answers/2_Bo.html"], "config: 2_Bo is not run: add it to targets"),
        ([f"{OF_RUNS}/atu-00000000/model"], "config: atu-00000000 of 1_Ada was made by other settings than those in"),
        ([f"{OF_RUNS}/nope-00000000/model"], f"config: {OF_RUNS}/nope-00000000/model: unknown 'nope'"),
        ([f"results/llm/tiny/{NOBODY}.jsonl"], f"config: results/llm/tiny/{NOBODY}.jsonl: unknown '9_Nobody'"),
        # which would carry the settings of another benchmark, or model
        (
            [f"results/llm/rwku/{BEFORE}"],
            f"config: results/llm/rwku/{BEFORE}: benchmark is tiny; ask with --config",
        ),
        (
            ["results/rwku/probes/1_Ada-00000000.parquet"],
            "config: results/rwku/probes/1_Ada-00000000.parquet: benchmark",
        ),
        ([f"results/encoder/tiny/{BEFORE}"], f"config: results/encoder/tiny/{BEFORE}: llm is llm; ask with --config"),
        (["resources/models/bert-00000000"], "config: resources/models/bert-00000000: unknown 'bert'"),
        (["resources/models/llm-00000000"], "config: resources/models/llm-00000000 is of other settings than those in"),
    ],
)
def test_a_refused_config_is_one_line(workflow, arguments, fault):
    done = workflow.run("--dry-run", *arguments, check=False)
    assert done.returncode == 1
    *before, last = done.stderr.splitlines()
    assert last.startswith(fault)
    assert "Traceback" not in done.stdout + done.stderr
    assert not [line for line in before if "rror" in line]


@pytest.mark.full
def test_targets_with_odd_names_reach_every_job(tiny, tmp_path):
    """Commas, quotes, marks of shells and of file patterns, an accent composed by the file system, a number."""
    names = ["$HOME", "Prince_Harry,_Duke_of_Sussex", "Beyonce\u0301", "1984", 'It\'s_"a" name', "a*b?[c]", "x#%&;(|)"]
    build_benchmark(tmp_path / "benchmark", tuple(names))
    for place in (tmp_path / "benchmark/Target").iterdir():
        for file in place.glob("*.json"):
            file.write_text(file.read_text().replace("_", " ").replace("Beyonce\\u0301", "Beyonc\u00e9"))
    workflow = Workflow(tiny, tmp_path)
    config = json.loads(workflow.config.read_text())
    config["benchmarks"]["tiny"]["path"] = str(tmp_path / "benchmark")
    config["targets"] = "all"
    workflow.config.write_text(json.dumps(config))
    ids = [f"{rank}_{name}" for rank, name in enumerate(names, start=1)]
    outputs = "\n".join(workflow.planned_outputs())
    for target in ids:
        assert f"results/tiny/probes/{target}-" in outputs
        assert f"results/llm/tiny/{target}/seed0/atu-" in outputs
    spelt = workflow.planned_outputs("--config", "targets=Beyonc\u00e9")
    assert [line for line in spelt if "3_Beyonce\u0301/seed0/atu-" in line]  # the folder's own spelling
    probes = [workflow.paths().probes(target) for target in ids[4:6]]  # quotes, and marks of file patterns
    workflow.run(*probes)
    assert all((tmp_path / probe).exists() for probe in probes)
