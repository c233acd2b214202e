"""Of which base model an adapter says that it is; the check of the config reads this, so that nothing here is torch."""

import re
from pathlib import Path
from typing import Any

CONFIG = "adapter_config.json"
NAMED = "base_model_name_or_path"  # its key for the base model
OTHER_BASE = "name the base model that it was trained on, or bring another adapter"


def is_repo(name: Any) -> bool:
    """Whether a name is one of a repository on the hub (owner/name), and not of a directory."""
    return isinstance(name, str) and bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not Path(name).is_dir()


def other_base(settings: dict, repo: str | None) -> str | None:
    """What an adapter is if its config names another base model than this; None if it does not.

    Args:
        settings: the config.
        repo: the base model's name on the hub, if it has one.
    """
    named: Any = settings.get(NAMED)
    if not repo or not is_repo(named) or named.casefold() == repo.casefold():
        return None
    return (
        f"an adapter of {named}, not of {repo}; {OTHER_BASE}; if the two are copies of one model, write {repo} as "
        f"{NAMED} of its {CONFIG}"
    )
