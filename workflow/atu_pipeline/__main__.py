"""The command `atu`: plan a run, look at one, or follow a number back to its jobs."""

import os
import sys
from importlib import import_module

# Each is a module of this package, imported only when its command runs.
COMMANDS = {
    "plan": "what a run would do: jobs, GPU-hours, memory, disk; takes Snakemake's options",
    "status": "what the last run has done, what failed, how long is left; takes its directory",
    "runs": "the results here by name, settings and size; --delete removes what no config needs",
    "predictions": "save what models answered in a folder of a few MB, or load it and go on from there",
    "suggest": "what to set for a model of your own: layer, learning rates, what it can do; takes its directory",
    "lineage": "from a number to the jobs behind it; takes --help",
}


def main(arguments: list[str] | None = None) -> int | None:
    """Run one command.

    Returns:
        The command's exit status.
    """
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in COMMANDS:
        try:
            return import_module(f"atu_pipeline.{name}").main(rest)
        except BrokenPipeError:  # of `atu runs | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
    known = "\n".join(f"  atu {command:12}{said}" for command, said in COMMANDS.items())
    asked = name in ("-h", "--help")
    print(known if asked else f"unknown command {name}; there are:\n{known}", file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
