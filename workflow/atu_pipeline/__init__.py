"""The workflow's own side: its config, its plan, what ran and what a number was made of. It may know Snakemake."""

from atu.data.rows import BenchmarkError

try:
    import atu.data.probe_sets  # noqa: F401
except BenchmarkError as error:  # all commands and Snakemake come by here; a traceback would only hide it
    raise SystemExit(str(error)) from error
