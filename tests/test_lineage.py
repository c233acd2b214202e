"""From a number or a figure to what made it, on records written by hand and by Snakemake."""

import base64
import hashlib
import json

import pytest
import yaml

from lineage import LineageError, given_config, jobs_behind, main, read_records, select, sources

RUN = "results/llm/tiny/{}/atu/seed0"
BEFORE = "results/llm/tiny/before/{}.parquet"
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
        stage, log = RUN.format(target) + "/stage1", f"logs/{target}.log"
        before, model = BEFORE.format(target), RUN.format(target) + "/model"
        old = {"probes.json": "sha256:old"}
        write_record(
            tmp_path, before, "evaluate_before", ["probes.json"], 2 + i, old, log=(f"logs/before/{target}.log",)
        )
        for name in ("llm", "steps.csv"):
            write_record(tmp_path, f"{stage}/{name}", "unlearn", ["resources/models/llm"], 4 + i, log=(log,))
        write_record(tmp_path, model, "keep_model", [f"{stage}/llm"], 6 + i)
        write_record(tmp_path, f"{stage}/probes.parquet", "evaluate_after", [model], 8 + i)
        asked += [before, f"{stage}/probes.parquet"]
    write_record(tmp_path, "results/tables/main.csv", "overall_table", asked, 20)
    write_record(tmp_path, "results/figures/tradeoff.pdf", "plot_tradeoff", ["results/tables/main.csv"], 30)
    sidecar = {"git_commit": "abc1234", "gpu": None, "versions": {"torch": "2.0"}, "wall_seconds": 1.5}
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/1_Ada.json").write_text(json.dumps(sidecar))
    tables = tmp_path / "results/tables"
    tables.mkdir(parents=True)
    (tables / "main.csv").write_text(
        "target,method,stage,metric,value\n1_Ada,atu,0,forget_qa,90.0\n1_Ada,atu,1,forget_qa,20.5\n"
    )
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
    config |= {"method_settings": {"atu": {"layer": 2}, "ga": {"epochs": 3}}, "grids": {}}
    (tables / "provenance.json").write_text(json.dumps({"settings": config, "git_commit": "def5678", "gpu": None}))
    return tmp_path


def test_jobs_of_a_cell(recorded):
    """The chain behind one cell, in order; the other target's jobs play no part."""
    records = read_records(recorded)
    where = {"target": "1_Ada", "stage": "1", "metric": "forget_qa"}
    jobs = jobs_behind("results/tables/main.csv", records, where)
    assert [job.rule for job in jobs] == ["unlearn", "keep_model", "evaluate_after", "overall_table"]
    assert jobs[0].outputs == (RUN.format("1_Ada") + "/stage1/llm", RUN.format("1_Ada") + "/stage1/steps.csv")
    assert jobs[0].recorded["git_commit"] == "abc1234"
    assert not any("2_Bo" in name for job in jobs for name in job.outputs)
    jobs = jobs_behind("results/tables/main.csv", records, {"target": "2_Bo", "stage": "0"})
    assert [job.rule for job in jobs] == ["evaluate_before", "evaluate_before", "overall_table"]


def test_jobs_of_a_figure(recorded):
    jobs = jobs_behind("results/figures/tradeoff.pdf", read_records(recorded), {})
    assert [job.rule for job in jobs].count("evaluate_after") == 2
    assert jobs[-1].rule == "plot_tradeoff"
    with pytest.raises(LineageError, match="no record"):
        jobs_behind("results/figures/other.pdf", read_records(recorded), {})


def test_checksums_of_what_came_from_outside(recorded):
    records = read_records(recorded)
    jobs = jobs_behind("results/tables/main.csv", records, {})
    assert sources(jobs, records) == {"probes.json": "sha256:old", "resources/models/llm": ""}


def test_rows_of_a_table(recorded):
    path = recorded / "results/tables/main.csv"
    assert select(path, {"stage": "1", "metric": "forget_qa"})["value"].tolist() == [20.5]
    with pytest.raises(LineageError, match="no column epoch"):
        select(path, {"epoch": "1"})
    with pytest.raises(LineageError, match="target=3_Cy"):
        select(path, {"target": "3_Cy"})
    with pytest.raises(LineageError, match="only target, method, seed, stage"):
        select(recorded / "results/figures/tradeoff.pdf", {"metric": "forget_qa"})


def test_what_is_printed(recorded, capsys):
    where = "method=atu,target=1_Ada,metric=forget_qa,stage=1"
    main(["results/tables/main.csv", "--where", where, "--directory", str(recorded)])
    said = capsys.readouterr().out
    for text in ("20.5", "unlearn", "2.0 s", "commit abc1234, GPU none; torch 2.0", "layer: 2", "--forceall"):
        assert text in said
    assert "git checkout abc1234" in said
    assert "ga:" not in said  # other methods' settings play no part
    main(["results/figures/tradeoff.pdf", "--directory", str(recorded)])
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
