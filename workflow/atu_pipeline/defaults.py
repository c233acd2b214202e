"""config.yaml, which holds every default."""

from copy import deepcopy

import yaml
from snakemake.utils import update_config

from atu import ROOT


def with_defaults(config: dict) -> dict:
    """A config on top of config.yaml: who imports the workflow as a module gives what differs alone."""
    whole = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    update_config(whole, deepcopy(config))
    return whole
