"""The library, made importable to the jobs' scripts."""

import os
from pathlib import Path

from atu.common.runtime import COMMIT, code_version
from atu.data.probe_sets import kind_in_use
from atu_pipeline.settings.messages import ConfigError


def share_library(root: Path, first: bool) -> None:
    """Let the jobs' scripts import the library from the checkout, on whichever host they run, and tell its commit.

    Args:
        first: whether a run starts here. What it starts for single jobs, hours later and on nodes without git, is
            told the commit of the start by its environment.
    """
    if first or COMMIT not in os.environ:
        os.environ[COMMIT] = code_version(root) or ""
    paths = [str(root / "workflow"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))


def check_one_kind(run: object) -> None:
    """Refuse a run into which this workflow is imported twice, for benchmarks of two kinds: jobs read one of them.

    Args:
        run: Snakemake's workflow.

    Raises:
        ConfigError: naming both.
    """
    kind = kind_in_use()
    if (other := vars(run).setdefault("atu_kind", kind)) != kind:
        raise ConfigError(f"benchmarks of the kinds {other} and {kind} are asked for; run one after the other")
