"""The workflow's own side: its config, its plan, what ran and what a number was made of. It may know Snakemake."""

from pathlib import Path

from atu.data.rows import BenchmarkError

ROOT = Path(__file__).resolve().parents[2]  # the checkout

try:
    import atu.data.probe_sets  # noqa: F401
except BenchmarkError as error:  # all commands and Snakemake come by here; a traceback would only hide it
    raise SystemExit(str(error)) from error
