"""The demo's models, which `make demo` leaves in resources/models."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def fetched(name: str) -> Path:
    """The folder of a model of the demo."""
    found = sorted((ROOT / "resources/models").glob(f"{name}-*"))
    if not found:
        sys.exit(f"{name} is not in resources/models: run `make demo` first")
    return max(found, key=lambda folder: folder.stat().st_mtime)
