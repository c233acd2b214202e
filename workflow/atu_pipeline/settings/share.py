"""The library, made importable to the jobs' scripts."""

import os
from pathlib import Path

from atu.common.runtime import COMMIT, code_version


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
