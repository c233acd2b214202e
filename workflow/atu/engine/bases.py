"""The base model that an adapter names. The check of the config imports this module, so it does not import torch."""

import re
from pathlib import Path
from typing import Any

CONFIG = "adapter_config.json"
NAMED = "base_model_name_or_path"  # its key for the base model
OTHER_BASE = "name the base model that it was trained on, or bring another adapter"


def is_repo(name: Any) -> bool:
    """Whether a name is that of a repository on the hub (owner/name), and not of a directory."""
    return isinstance(name, str) and bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not Path(name).is_dir()


def other_base(settings: dict, repo: str | None) -> str | None:
    """The words of a refusal if an adapter's config names a base model other than ``repo``; None if it does not.

    Args:
        settings: the adapter's config.
        repo: the base model's name on the hub, if it has one.
    """
    named: Any = settings.get(NAMED)
    if not repo or not is_repo(named) or named.casefold() == repo.casefold():
        return None
    return (
        f"an adapter of {named}, not of {repo}; {OTHER_BASE}; if the two are copies of one model, write {repo} as "
        f"{NAMED} of its {CONFIG}"
    )
