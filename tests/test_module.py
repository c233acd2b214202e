"""The workflow in another one, as Snakemake's modules import it."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from conftest import ROOT

IMPORTER = """
configfile: "tiny.json"

module forgetting:
    snakefile: "{snakefile}"
    config: config
    {more}

use rule * from forgetting as forgetting_*

rule mine:
    default_target: True
    input: "results/tables/main.csv"
    output: "mine.txt"
    shell: "wc -l < {{input}} > {{output}}"
"""
pytestmark = pytest.mark.full


def snakemake(workflow, *arguments, snakefile="Snakefile", more=""):
    text = IMPORTER.format(snakefile=ROOT / snakefile, more=more)
    (workflow.directory / "Snakefile").write_text(text)
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=workflow.directory)


@pytest.mark.release
def test_the_tiny_dag_from_another_folder(workflow, finished):
    """Its config says what differs from config.yaml; the numbers are those of a run without a module."""
    config = json.loads(workflow.config.read_text())
    asked = ["forget_qa", "neighbor_qa"]
    config["evaluation"]["before_and_after"] = asked
    workflow.config.write_text(json.dumps(config))
    done = snakemake(workflow, snakefile="workflow/Snakefile")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    found, expected = (pd.read_csv(place.directory / "results/tables/main.csv") for place in (workflow, finished))
    keys = ["stage", "split", "metric"]
    assert int((workflow.directory / "mine.txt").read_text()) == len(found) + 1
    found, expected = (table[table["metric"].isin(asked)] for table in (found, expected))
    assert len(found) == 18
    pd.testing.assert_frame_equal(found.set_index(keys).sort_index(), expected.set_index(keys).sort_index())
    again = snakemake(workflow, "--dry-run", "--rerun-triggers", "mtime", "params", snakefile="workflow/Snakefile")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_a_prefix_is_refused(workflow):
    """Jobs read paths that recipes and tables record as they are."""
    done = snakemake(workflow, "--dry-run", more='prefix: "elsewhere"')
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "config: module: prefix and replace_prefix change paths that results record; leave them out, and give the "
        "importing workflow a --directory of its own"
    )
