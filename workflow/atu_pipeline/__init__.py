"""The workflow's side: its config, its plan, its runs and the lineage of numbers. It may depend on Snakemake."""

from atu.data.rows import BenchmarkError

try:
    import atu.data.probe_sets  # noqa: F401
except BenchmarkError as error:  # all commands and Snakemake import this; a traceback would only hide it
    raise SystemExit(str(error)) from error
