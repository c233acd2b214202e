"""config.yaml, which contains every default."""

from copy import deepcopy

import yaml
from snakemake.utils import update_config

from atu import ROOT


def with_defaults(config: dict) -> dict:
    """A config on top of config.yaml, since a workflow that imports this one as a module gives only what differs."""
    whole = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    update_config(whole, deepcopy(config))
    return whole
