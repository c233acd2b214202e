"""From a number or a figure to what made it, on records written by hand and by Snakemake."""

import base64
import hashlib
import json
import os

import pandas as pd
import pytest
import yaml

from atu.common.names import label
from atu.common.recipe import record
from atu_pipeline.lineage import (
    LineageError,
    RunStage,
    conditions,
    given_config,
    jobs_behind,
    main,
    provenance_behind,
    read_records,
    recorded_path,
    runs_by_file,
    runs_of_figure,
    runs_of_rows,
    select,
    sources,
    still_same,
)
from conftest import ROOT

RUN = "results/llm/tiny/{}/seed0/atu-0123abcd"
AFTER = RUN + "/evaluations/89abcdef.parquet"
BEFORE = "results/llm/tiny/before/{}-4567cdef.parquet"
TARGETS = ("1_Ada", "2_Bo")


def write_record(directory, output, rule, inputs, start, checksums=None, log=()):
    name = base64.urlsafe_b64encode(output.encode()).decode()
    parts = ["@" + name[i : i + 50] for i in range(0, len(name) - 50, 50)]  # a long name lies in folders
    path = directory.joinpath(".snakemake/metadata", *parts, name[50 * len(parts) :])
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"rule": rule, "input": inputs, "log": list(log), "starttime": start, "endtime": start + 2}
    path.write_text(json.dumps(record | {"input_checksums": checksums or {}}))


@pytest.fixture
def recorded(tmp_path):
    """Two targets with one stage each, a table and a figure."""
    (tmp_path / "probes.json").write_text("[]")
    asked = [BEFORE.format("utility")]
    write_record(tmp_path, asked[0], "evaluate_before", ["probes.json"], 1, log=("logs/before/utility.log",))
    for i, target in enumerate(TARGETS):
        run, log = RUN.format(target), f"logs/{target}.log"
        before, after = BEFORE.format(target), AFTER.format(target)
        old = {"probes.json": "sha256:old"}
        write_record(
            tmp_path, before, "evaluate_before", ["probes.json"], 2 + i, old, log=(f"logs/before/{target}.log",)
        )
        for name in ("weights", "steps.csv"):
            write_record(tmp_path, f"{run}/{name}", "unlearn_last", ["resources/models/llm"], 4 + i, log=(log,))
        write_record(tmp_path, after, "evaluate_after", [f"{run}/weights"], 6 + i)
        write_record(tmp_path, f"{run}/model", "keep_model", [f"{run}/weights", before, after], 8 + i)
        asked += [before, after]
    for path in [*asked, *(f"{RUN.format(target)}/steps.csv" for target in TARGETS)]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    write_record(tmp_path, "results/tables/main.csv", "overall_table", asked, 20)
    write_record(tmp_path, "results/figures/tradeoff.pdf", "plot", ["results/tables/main.csv"], 30)
    sidecar = {"git_commit": "abc1234", "gpu": None, "versions": {"torch": "2.0"}, "wall_seconds": 1.5}
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/1_Ada.json").write_text(json.dumps(sidecar))
    tables = tmp_path / "results/tables"
    tables.mkdir(parents=True)
    (tables / "main.csv").write_text(
        "target,method,stage,metric,value\n1_Ada,atu,0,forget_qa,90.0\n1_Ada,atu,1,forget_qa,20.5\n"
    )
    os.utime(tables / "main.csv", (22, 22))
    config = {
        "llm": "llm",
        "encoder": "encoder",
        "benchmark": "tiny",
        "methods": ["atu"],
        "seeds": [0],
        "all_targets": [],
    }
    config |= {
        "models": {"llm": {"source": "path"}, "encoder": {}, "other": {"source": "hub"}},
        "benchmarks": {"tiny": {}},
    }
    blocks = {"atu": {"method": "atu", "layer": 2}, "ga": {"method": "ga", "epochs": 3}}
    config |= {"method_settings": blocks, "grids": {}}
    beside = {"settings": config, "git_commit": "def5678", "gpu": None, "runs": RUNS}
    (tables / "provenance.json").write_text(json.dumps(beside))
    return tmp_path


def row(target, method, stage, run, files, tau=None):
    """What the tables record of a stage."""
    names = {"target": target, "method": method, "seed": 0, "stage": stage}
    return names | {"tau": tau, "run": run, "files": files}


RUNS = [
    found
    for target in TARGETS
    for found in (
        row(target, "atu", 0, "Before", [BEFORE.format(target), BEFORE.format("utility")]),
        row(target, "atu", 1, "ATU τ=0", [AFTER.format(target)], 0.0),
        row(target, "atu", 1, None, [f"{RUN.format(target)}/steps.csv"]),
    )
]
HELD = runs_by_file({"runs": RUNS})


def test_jobs_of_a_cell(recorded):
    """The chain behind one cell, in order; the other target's jobs play no part."""
    records = read_records(recorded)
    runs = frozenset({RunStage(target="1_Ada", stage="1")})
    jobs = jobs_behind("results/tables/main.csv", records, runs, HELD)
    assert [job.rule for job in jobs] == ["unlearn_last", "evaluate_after", "overall_table"]
    assert jobs[0].outputs == (RUN.format("1_Ada") + "/steps.csv", RUN.format("1_Ada") + "/weights")
    assert jobs[0].recorded["git_commit"] == "abc1234"
    assert not any("2_Bo" in name for job in jobs for name in job.outputs)
    jobs = jobs_behind("results/tables/main.csv", records, frozenset({RunStage(target="2_Bo", stage="0")}), HELD)
    assert [job.rule for job in jobs] == ["evaluate_before", "evaluate_before", "overall_table"]


def test_jobs_of_a_figure(recorded):
    jobs = jobs_behind("results/figures/tradeoff.pdf", read_records(recorded))
    assert [job.rule for job in jobs].count("evaluate_after") == 2
    assert jobs[-1].rule == "plot"


def test_checksums_of_what_came_from_outside(recorded):
    records = read_records(recorded)
    jobs = jobs_behind("results/tables/main.csv", records)
    assert sources(jobs, records) == {"probes.json": "sha256:old", "resources/models/llm": ""}


def rules(directory, path, runs, held=HELD):
    return [job.rule for job in jobs_behind(path, read_records(directory), runs, held)]


def test_conditions():
    assert conditions("method=atu, metric = forget_qa") == {"method": "atu", "metric": "forget_qa"}
    assert conditions("type=FM, loss,run=ATU τ=0") == {"type": "FM, loss", "run": "ATU τ=0"}
    assert conditions(" ") == {}
    for text in ("method", "method=", "method,stage=1", "=atu"):
        with pytest.raises(LineageError, match="is no key=value"):
            conditions(text)
    with pytest.raises(LineageError, match="stage stands there twice"):
        conditions("stage=1,stage=2")


def test_rows_of_a_table(recorded):
    path = recorded / "results/tables/main.csv"
    assert select(path, {"stage": "1.0", "metric": "forget_qa"})["value"].tolist() == [20.5]
    for where, said in (
        ({"epoch": "1"}, "no column epoch"),
        ({"Methods": "atu"}, "did you mean method\\?"),
        ({"target": "3_Cy"}, "target=3_Cy"),
        ({"method": "ATU"}, "did you mean atu\\?"),
        ({"stage": "last"}, "with stage=last; there is 0, 1$"),
        # what no row has is named before what the rest leaves
        ({"stage": "2", "metric": "forget_qa", "value": "90"}, "stage=2, the others given; there is 0$"),
        ({"stage": "1", "value": "90"}, "value=90, the others given; there is 20.5$"),
    ):
        with pytest.raises(LineageError, match=said):
            select(path, where)
    pd.DataFrame({"seed": range(30), "collapsed": [True, False] * 15}).to_csv(recorded / "many.csv")
    assert len(select(recorded / "many.csv", {"collapsed": "False"})) == 15
    with pytest.raises(LineageError, match="8, 9, and 20 more"):
        select(recorded / "many.csv", {"seed": "31"})
    pd.DataFrame({"type": ["FM, loss", "zlib"]}).to_csv(recorded / "types.csv")
    with pytest.raises(LineageError, match="there is 'FM, loss', zlib; did you mean FM, loss"):
        select(recorded / "types.csv", {"type": "fm,loss"})


def test_runs_of_rows(recorded):
    """The jobs are those of the selected rows, however they were selected."""
    path = "results/tables/main.csv"
    rows = pd.DataFrame({"target": "1_Ada", "method": "atu", "seed": 0, "stage": [1.0, 1.0], "tau": 0.2})
    runs = runs_of_rows(rows, path, {})
    assert runs == {RunStage("1_Ada", "atu", "0", "1")}
    assert rules(recorded, path, runs) == ["unlearn_last", "evaluate_after", "overall_table"]
    # a collapse is judged by the base model
    runs = runs_of_rows(rows.assign(collapsed=False), path, {})
    assert rules(recorded, path, runs).count("evaluate_before") == 2
    assert runs_of_rows(pd.DataFrame({"kept": ["neighbor_qa"]}), path, {}) == {RunStage()}
    rates = pd.DataFrame({"method": ["ga"], "variant": ["ga@1e-06"]})
    assert runs_of_rows(rates, path, {}) == {RunStage(method="ga@1e-06")}
    assert rules(recorded, path, frozenset()) == ["overall_table"]


def test_runs_that_rows_call_by_name(recorded):
    """By tau, by epoch or by method alone, as the tables by type of probe do."""
    path = "results/tables/mia.csv"
    taus = {"atu": [0.2, 0.0], "ga": [None] * 3, "icu": [None]}
    shown = [
        row("1_Ada", method, stage, label(method, stage, dict(enumerate(stages, start=1))), [f"{method} {stage}"], tau)
        for method, stages in taus.items()
        for stage, tau in enumerate(stages, start=1)
    ]
    beside = {"runs": [RUNS[0], *shown]}
    asked = [file for each in shown for file in each["files"]]
    write_record(recorded, path, "membership_table", [*asked, BEFORE.format("1_Ada")], 40)
    for file in asked:
        write_record(recorded, file, f"evaluate {file}", [], 30)
    for name, run in (
        ("ATU τ=0", RunStage(method="atu", stage="2")),
        ("ATU τ=0.2 † 50% collapsed", RunStage(method="atu", stage="1")),
        ("GA epoch 3", RunStage(method="ga", stage="3")),
        ("ICU", RunStage(method="icu", stage="1")),
        ("Before", RunStage(stage="0")),
    ):
        assert runs_of_rows(pd.DataFrame({"run": [name, name, None]}), path, beside) == {run}
    held = runs_by_file(beside)
    assert rules(recorded, path, frozenset({RunStage(method="ga", stage="3")}), held) == [
        "evaluate ga 3",
        "membership_table",
    ]
    with pytest.raises(LineageError, match=r"no run ATU τ=0\.3: make the tables again"):
        runs_of_rows(pd.DataFrame({"run": ["ATU τ=0.3"]}), path, beside)


def test_a_stage_that_variants_share_is_of_each(recorded):
    """One file of answers holds a stage of both; the rest of each is its own."""
    path, shared = "results/tables/main.csv", "stages/atu/1.parquet"
    beside = {
        "runs": [
            row("1_Ada", method, stage, f"{method} {stage}", [file], tau)
            for method in ("atu", "atu-long")
            for stage, tau, file in ((1, 0.2, shared), (2, 0.0, f"{method} 2"))
        ]
    }
    asked = [shared, "atu 2", "atu-long 2"]
    write_record(recorded, path, "overall_table", asked, 40)
    for file in asked:
        write_record(recorded, file, f"evaluate {file}", [], 30)
    held = runs_by_file(beside)
    assert held[shared] == {RunStage("1_Ada", "atu", "0", "1"), RunStage("1_Ada", "atu-long", "0", "1")}
    for method in ("atu", "atu-long"):
        for stage, file in (("1", shared), ("2", f"{method} 2")):
            runs = frozenset({RunStage("1_Ada", method, "0", stage)})
            assert rules(recorded, path, runs, held) == [f"evaluate {file}", "overall_table"]


def test_runs_of_a_figure(recorded):
    path, records = "results/figures/tradeoff.pdf", read_records(recorded)
    where = {"method": "atu", "seed": "00", "stage": "1.0"}
    assert runs_of_figure(path, where, records, HELD) == {RunStage(method="atu", seed="0", stage="1")}
    assert runs_of_figure(path, {"stage": "0"}, records, HELD) == {RunStage(stage="0")}
    there = "there are target 1_Ada, 2_Bo; method atu; seed 0; stage 0, 1"
    for where, said in (
        ({"method": "rmu"}, there),
        ({"method": "ATU"}, there + "; did you mean atu\\?"),
        ({"target": "1_Ada", "stage": "2"}, there),
        ({"stage": "last"}, "stage=last is no number"),
        ({"metric": "forget_qa"}, "only target, method, seed, stage"),
        ({"methods": "atu"}, "did you mean method\\?"),
    ):
        with pytest.raises(LineageError, match=said):
            runs_of_figure(path, where, records, HELD)
    with pytest.raises(LineageError, match="not made of several runs"):
        runs_of_figure(RUN.format("1_Ada") + "/model", {"seed": "0"}, records, HELD)


def test_probes_that_the_model_knew(recorded):
    """A table of base evaluations alone is narrowed as the others are."""
    path = "results/tables/known.csv"
    write_record(recorded, path, "known", [BEFORE.format(target) for target in TARGETS], 40)
    runs = runs_of_rows(pd.DataFrame({"target": ["1_Ada"]}), path, {})
    assert rules(recorded, path, runs) == ["evaluate_before", "known"]


def test_paths(recorded, monkeypatch):
    """As the workflow writes it, from the current directory, absolute, through a link; a directory with its slash."""
    name, records = "results/tables/main.csv", read_records(recorded)
    (recorded / "link").symlink_to(recorded)
    for path in (name, f"./{name}", recorded / name, recorded / "link" / name):
        assert recorded_path(str(path), recorded, records) == name
    model = RUN.format("1_Ada") + "/model"
    for inside in ("", "config.json", "parts/1.safetensors"):
        assert recorded_path(f"{model}/{inside}", recorded, records) == model
    with pytest.raises(LineageError, match="no record of how"):  # the card is of another job
        recorded_path(f"{model}/README.md", recorded, records)
    monkeypatch.chdir(recorded / "results")
    assert recorded_path("tables/main.csv", recorded, records) == name
    (recorded / "results/report.html").write_text("")
    for path, said in (
        ("results/tables/mian.csv", "mian.csv: no record of how .*did you mean results/tables/main.csv"),
        ("results/report.html", "report.html: no record of how .*snakemake --report"),
    ):
        with pytest.raises(LineageError, match=said):
            recorded_path(path, recorded, records)
    with pytest.raises(LineageError, match="recorded nothing in"):
        recorded_path(name, recorded / "results", {})


def test_the_config_behind_a_file(recorded):
    """An experiment's own; of what is no table the main tables', or the latest."""

    def found(path):
        return provenance_behind(path, recorded)["git_commit"]

    model = RUN.format("1_Ada") + "/model"
    for i, name in enumerate(("mia", "stages", "tradeoff")):
        folder = recorded / f"results/experiments/{name}/tables"
        folder.mkdir(parents=True)
        (folder / "provenance.json").write_text(json.dumps({"git_commit": name}))
        os.utime(folder / "provenance.json", (i % 2, i % 2))
    assert found("results/experiments/mia/tables/mia.csv") == "mia"
    assert found("results/figures/tradeoff.pdf") == found(model) == "def5678"
    (recorded / "results/tables/provenance.json").unlink()
    assert found(model) == "stages"
    with pytest.raises(LineageError, match=r"tradeoff\.pdf: .*tables/provenance\.json does not exist"):
        found("results/figures/tradeoff.pdf")


def test_mistakes_end_with_a_message(recorded):
    write_record(recorded, "results/tables/lost.csv", "overall_table", [], 20)
    place = ["--directory", str(recorded)]
    for arguments, said in (
        (["results/tables/main.csv", "--where", "method"], "'method' is no key=value"),
        (["results/tables/main.csv", "--where", "stage=last"], "stage=last"),
        (["results/figures/tradeoff.pdf", "--where", "method=rmu"], "no run with method=rmu"),
        (["results/tables/main.csv", "--write-config", "/nodir/x.yaml"], "/nodir/x.yaml: No such file"),
        (["results/tables/lost.csv"], "lost.csv was made, but is gone"),
        (["results/tables/none.csv"], "none.csv: no record"),
    ):
        with pytest.raises(SystemExit, match=said):
            main([*arguments, *place])


def test_threads_and_commits_of_the_jobs(recorded, capsys):
    """Numbers repeat with as many threads; jobs recorded before threads were have none. The last commit counts."""
    for i, target in enumerate(TARGETS):
        known = {"git_commit": ("abc1234", "def5678-dirty")[i], "gpu": None, "versions": {}, "threads": 1 + i}
        (recorded / f"logs/{target}.json").write_text(json.dumps(known))
    place = ["--directory", str(recorded)]
    main(["results/tables/main.csv", *place])
    said = capsys.readouterr().out
    assert "--cores all --set-threads unlearn_last=2 --resources" in said
    assert "git checkout def5678  # and changes that were not committed; earlier jobs ran at abc1234\n" in said
    assert "--forceall -- results/tables/main.csv\n" in said
    main(["results/figures/tradeoff.pdf", "--where", "target=1_Ada", *place])
    assert "--set-threads" not in capsys.readouterr().out


def test_a_job_without_git(recorded, capsys):
    """Its commit is unknown, whatever that of earlier jobs was."""
    for target, commit in zip(TARGETS, ("abc1234", None), strict=True):
        known = {"git_commit": commit, "gpu": None, "versions": {}}
        (recorded / f"logs/{target}.json").write_text(json.dumps(known))
    main(["results/tables/main.csv", "--directory", str(recorded)])
    said = capsys.readouterr().out
    assert "commit unknown (earlier jobs at abc1234)\n" in said
    assert "git checkout" not in said


def test_commands_from_another_directory(recorded, monkeypatch, capsys):
    """Snakemake finds the Snakefile of the current directory alone; so does git."""
    for directory, git, option in (
        (ROOT, "git checkout abc1234", ""),
        (recorded, f"git -C {ROOT} checkout abc1234", f"--snakefile {ROOT}/Snakefile "),
    ):
        monkeypatch.chdir(directory)
        main(["results/figures/tradeoff.pdf", "--directory", str(recorded)])
        said = capsys.readouterr().out
        assert f"  {git}\n" in said
        assert f"-m snakemake {option}--directory" in said


def test_a_file_that_was_written_again(recorded, capsys):
    """By its record, or where it has none by its date."""
    place, table = ["--directory", str(recorded)], recorded / "results/tables/main.csv"
    record(table, {})
    figure = recorded / "results/figures/tradeoff.pdf"
    figure.parent.mkdir()
    figure.write_text("")
    os.utime(figure, (32, 32))
    main(["results/figures/tradeoff.pdf", *place])
    assert "written again" not in capsys.readouterr().out
    os.utime(figure, (100, 100))
    main(["results/figures/tradeoff.pdf", *place])
    assert "tradeoff.pdf: written again after its job (1970-" in capsys.readouterr().out
    table.write_text(table.read_text() + "\n")
    with pytest.raises(SystemExit, match=r"main\.csv is no longer the file that was written"):
        main(["results/tables/main.csv", *place])


def test_help_shows_an_experiment(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "atu lineage results/experiments/" in capsys.readouterr().out


def test_what_is_printed(recorded, capsys):
    where = "method=atu,target=1_Ada,metric=forget_qa,stage=1"
    main(["results/tables/main.csv", "--where", where, "--directory", str(recorded), "--details"])
    said = capsys.readouterr().out
    for text in ("20.5", "unlearn", "2.0 s", "commit abc1234, GPU none; torch 2.0", "layer: 2", "--forceall"):
        assert text in said
    assert "git checkout abc1234" in said
    assert "ga:" not in said  # other methods' settings play no part
    main([RUN.format("1_Ada") + "/model/", "--directory", str(recorded), "-v"])
    assert "layer: 2" in capsys.readouterr().out
    main(["results/figures/tradeoff.pdf", "--directory", str(recorded), "-v"])
    now = hashlib.sha256(b"[]").hexdigest()
    assert f"probes.json sha256:old (changed since: sha256:{now})" in capsys.readouterr().out


def test_the_config_that_was_given(recorded):
    """What the check of the config adds to it is taken out again."""
    ga = {"train": {"learning_rate": [1e-6, 1e-5]}}
    blocks = {"ga": ga, "ga@1e-06": {"train": {"learning_rate": 1e-6}}, "ga@1e-05": {"train": {"learning_rate": 1e-5}}}
    completed = {
        "methods": ["atu", "ga@1e-06", "ga@1e-05"],
        "method_settings": {"atu": {}} | blocks,
        "all_targets": ["1"],
    }
    grids = {"ga": {"ga@1e-06": 1e-6, "ga@1e-05": 1e-5}}
    assert given_config(completed | {"grids": grids}) == {
        "methods": ["atu", "ga"],
        "method_settings": {"atu": {}, "ga": ga},
    }
    main(["results/tables/main.csv", "--write-config", str(recorded / "again.yaml"), "--directory", str(recorded)])
    again = yaml.safe_load((recorded / "again.yaml").read_text())
    assert "all_targets" not in again
    assert again["methods"] == ["atu"]


def test_the_answer_comes_first(recorded, capsys):
    """Value, n, commit and the commands; jobs and settings only when asked for."""
    table = recorded / "results/tables/main.csv"
    table.write_text(
        "target,method,stage,split,metric,value,n\n1_Ada,atu,1,test,forget_qa,20.5,4\n1_Ada,atu,1,dev,forget_qa,30,4\n"
    )
    os.utime(table, (22, 22))
    where = "method=atu,target=1_Ada,metric=forget_qa,stage=1,split=test"
    (recorded / "probes.json").unlink()
    main(["results/tables/main.csv", "--where", where, "--directory", str(recorded)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "20.5 (n=4): target 1_Ada, method atu, stage 1, split test, metric forget_qa"
    assert lines[1] == "commit abc1234"
    assert lines[3] == "Again from raw data:"
    assert not any("layer: 2" in line or "unlearn," in line for line in lines)
    assert len(lines) < 9


def texts_of(directory, ended, checksum=None):
    """A corpus that align read at time 3; by ``ended`` it may have been made again."""
    write_record(directory, "corpus/1_Ada.jsonl", "write_texts", ["resources/models/llm"], ended - 2)
    read = {"corpus/1_Ada.jsonl": checksum} if checksum else {}
    write_record(directory, "predictor", "align", ["corpus/1_Ada.jsonl"], 1, read)
    write_record(directory, "results/tables/main.csv", "overall_table", ["predictor"], 20)
    write_record(directory, "resources/models/llm", "download_model", [], -5)
    (directory / "corpus").mkdir(exist_ok=True)
    (directory / "corpus/1_Ada.jsonl").write_text("[]")


def test_a_job_that_ran_later_is_not_behind_the_number(recorded, capsys):
    place = ["results/tables/main.csv", "--directory", str(recorded), "--details"]
    same = "sha256:" + hashlib.sha256(b"[]").hexdigest()
    texts_of(recorded, ended=1)
    main(place)
    said = capsys.readouterr().out
    assert "write_texts" in said
    assert "Since then" not in said
    for checksum, verdict, followed in (
        ("sha256:old", "and is another now", False),
        (same, "as it was", True),
        (None, "whether it is still the same was not recorded", False),
    ):
        texts_of(recorded, ended=100, checksum=checksum)  # after the table, too
        main(place)
        said = capsys.readouterr().out
        line = next(line for line in said.splitlines() if "made again later" in line)
        assert line.strip().startswith("corpus/1_Ada.jsonl: made again later (")
        assert f"than align read it, {verdict}" in line.replace("and whether", "whether")
        assert "write_texts" not in said
        assert ("download_model" in said) == followed
    texts_of(recorded, ended=10, checksum="sha256:old")  # after align alone: not behind it either
    main(place)
    assert "write_texts," not in capsys.readouterr().out


def test_directories_are_compared_by_the_settings_behind_them(recorded):
    """Hidden states that were deleted and made again: ancient inputs, of which Snakemake keeps no checksum."""
    texts_of(recorded, ended=100)
    for name, recipe in (("corpus/1_Ada.jsonl", {"k": 8}), ("predictor", {"k": 8, "layer": 2})):
        (recorded / f"{name}.recipe.json").write_text(json.dumps({"recipe": recipe}))
    job = read_records(recorded)["predictor"]
    assert still_same("corpus/1_Ada.jsonl", job, recorded) is True
    (recorded / "predictor.recipe.json").write_text(json.dumps({"recipe": {"k": 4}}))
    assert still_same("corpus/1_Ada.jsonl", job, recorded) is False


def test_answers_that_are_gone(recorded, capsys):
    """Those behind the rows that are asked for, and no others."""
    for target in TARGETS:
        (recorded / AFTER.format(target)).unlink()
    main(["results/tables/main.csv", "--where", "target=1_Ada,stage=1", "--directory", str(recorded)])
    said = capsys.readouterr().out
    assert f"  {AFTER.format('1_Ada')}: read then, and gone now\n" in said
    assert AFTER.format("2_Bo") not in said


def test_a_file_from_outside_that_changed(recorded, capsys):
    main(["results/figures/tradeoff.pdf", "--directory", str(recorded)])
    assert "probes.json: changed since it was read (" in capsys.readouterr().out
    (recorded / "probes.json").unlink()
    main(["results/figures/tradeoff.pdf", "--directory", str(recorded)])
    assert "probes.json: read then, and gone now" in capsys.readouterr().out


def test_runs_of_one_tau_by_name():
    taus = {1: 0.2, 2: 0.0, 3: 0.0}
    beside = {"runs": [row("1_Ada", "atu", n, label("atu", n, taus), [f"{n}"], tau) for n, tau in taus.items()]}
    rows = pd.DataFrame({"run": ["ATU τ=0 (stage 3) † 50% collapsed, 2% empty"]})
    assert runs_of_rows(rows, "results/tables/mia.csv", beside) == {RunStage(method="atu", stage="3")}
