"""Files of answers that the same model gave under the same settings, whichever sets were asked."""

import glob
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from atu.common.errors import ExplainedError
from atu.common.recipe import check, record_path


def besides_sets(recipe: Mapping) -> dict:
    """A recipe of answers without the sets that were asked, and how they were asked."""
    rest = {key: value for key, value in recipe.items() if key != "probe_sets"}
    evaluation = {key: value for key, value in recipe["evaluation"].items() if not isinstance(value, list)}
    return json.loads(json.dumps(rest | {"evaluation": evaluation}))


def earlier_files(path: Path, recipe: Mapping) -> Iterator[tuple[Path, Mapping]]:
    """Yield files of answers beside ``path`` that this model gave under the same settings, each with its recipe."""
    head = glob.escape(path.stem.rpartition("-")[0])
    for other in sorted(path.parent.glob(f"{head}-*.parquet" if head else "*.parquet")):
        try:
            made = json.loads(record_path(other).read_text(encoding="utf-8"))["recipe"]
            check(other, made)
            alike = other != path and besides_sets(made) == besides_sets(recipe)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ExplainedError):
            continue  # damaged or copied, so its probes are asked again
        if alike:
            yield other, made
