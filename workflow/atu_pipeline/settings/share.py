"""Make the library importable for the jobs' scripts."""

import os
from pathlib import Path

from atu.common.runtime import COMMIT, code_version
from atu.data.probe_sets import kind_in_use
from atu_pipeline.settings.messages import ConfigError


def share_library(root: Path, first: bool) -> None:
    """Let the jobs' scripts import the library from the checkout on any host, and pass its commit to them.

    Args:
        first: whether a run starts here. The processes that it starts for single jobs, hours later and on nodes without
            git, get the commit of the start from their environment.
    """
    if first or COMMIT not in os.environ:
        os.environ[COMMIT] = code_version(root) or ""
    paths = [str(root / "workflow"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))


def check_one_kind(run: object) -> None:
    """Refuse a run that imports this workflow twice, for benchmarks of two kinds, since jobs can read only one kind.

    Args:
        run: Snakemake's workflow.

    Raises:
        ConfigError: names both kinds.
    """
    kind = kind_in_use()
    if (other := vars(run).setdefault("atu_kind", kind)) != kind:
        raise ConfigError(f"benchmarks of the kinds {other} and {kind} are asked for; run one after the other")
