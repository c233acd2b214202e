"""Grids: methods with several values of a setting to choose from. Each combination is a method of its own."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import product

from atu.common.names import written_out
from atu.data.probe_sets import primary
from atu_pipeline.settings.blocks import grid_of, has_grid, nested, overlay, rate_of, steps_of
from atu_pipeline.settings.draws import drawn, is_range, searched
from atu_pipeline.settings.messages import told
from atu_pipeline.settings.split import without_dev

PLAIN = re.compile(r"[A-Za-z0-9._+-]{1,24}")  # a value that can be part of a name


def expand_grids(config: dict) -> None:
    """Turn each method with a grid into one variant for each combination of its values, in place.

    This adds ``grids``, which by method and variant (ga@1e-06, npo@beta=0.1+learning_rate=1e-05) has the variant's
    ``settings`` by their dotted keys, and its ``learning_rate`` or None. The variant that tables show is chosen on dev
    probes.
    """
    blocks, config["grids"], methods = config["method_settings"], {}, []
    for method in config["methods"]:
        block = blocks.get(method, {})
        if not has_grid(block):
            methods.append(method)
            continue
        grid, config["grids"][method] = grid_of(block), {}
        for settings in combinations(grid, config["search"]):
            name = variant_name(method, block, settings)
            blocks[name] = variant_block(block, settings)
            config["grids"][method][name] = {"learning_rate": rate_of(blocks[name]), "settings": settings}
            methods.append(name)
    config["methods"] = list(dict.fromkeys(methods))


def combinations(grid: dict[str, list | dict], search: dict) -> list[dict[str, object]]:
    """All combinations of a grid's lists; if it has a range, as many settings as ``search`` draws."""
    if searched(grid):
        return drawn(grid, search["trials"], search["seed"])
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def check_drawn(method: str, block: dict, search: dict) -> Iterator[str]:
    """Faults of a grid that has fewer settings than ``search.trials``."""
    grid = grid_of(block)
    if searched(grid) and (count := len(drawn(grid, search["trials"], search["seed"]))) < search["trials"]:
        yield (
            f"method_settings.{method}.grid: it has {count} settings that differ, and search.trials is "
            f"{search['trials']}; widen it, or set search.trials to {count}"
        )


def variant_block(block: dict, settings: dict) -> dict:
    """The block of one combination of a grid's values."""
    found = {key: value for key, value in block.items() if key != "grid"}
    for key, value in settings.items():
        found = overlay(found, nested(key, value))
    return found


def owner_of(method: str) -> str:
    """The block of which a method is a variant, or the method itself; names of blocks contain no @."""
    return method.split("@")[0]


def variant_name(method: str, block: dict, settings: dict) -> str:
    """The name of a method with one combination of a grid's values; a learning rate alone needs no key.

    Args:
        block: the method's block, with its grid.
    """
    values = {key: value_name(value, grid_of(block)[key]) for key, value in settings.items()}
    if [*settings] == [f"{steps_of(block)}.learning_rate"]:
        return f"{method}@{''.join(values.values())}"
    ends = Counter(key.rpartition(".")[2] for key in {*keys_of(block), *grid_of(block)})
    short = {key: end if ends[end := key.rpartition(".")[2]] == 1 else key for key in settings}
    # a + instead of a comma, which separates conditions in `atu lineage --where`
    return f"{method}@{'+'.join(f'{short[key]}={name}' for key, name in values.items())}"


def keys_of(block: dict, above: str = "") -> Iterator[str]:
    """The dotted keys of a block's settings."""
    for key, value in block.items():
        if isinstance(value, dict) and key != "grid":
            yield from keys_of(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def spelt(value: object) -> str:
    """A value as part of a name; items of a list are joined by _."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return f"{value:g}"
        case list():
            return "_".join(map(spelt, value))
    return str(value)


def value_name(value: object, values: list) -> str:
    """A value of a grid as part of a name; one that does not fit into a name is called by its number in the list."""
    name = spelt(value)
    return name if PLAIN.fullmatch(name) else f"value{values.index(value) + 1}"


def check_alike(method: str, block: dict) -> Iterator[str]:
    """Faults of a grid with two values that would have the same name."""
    for key, values in grid_of(block).items():
        if is_range(values):
            continue
        called, place = {}, placed(method, block, f"method_settings.{method}.{key}")
        for value in values:
            name = variant_name(method, block, {key: value})
            if name in called:
                yield f"{place}: {called[name]!r} and {value!r} would both be called {name}; take one of them out"
            called[name] = value


def placed(method: str, block: dict, said: str) -> str:
    """A message that begins with a setting's key, with the grid's key in its place if the grid searches the setting.

    Args:
        block: the method's block, with its grid.
    """
    start = f"method_settings.{method}."
    for key in block.get("grid", {}):
        if re.match(rf"{re.escape(start + key)}(?![\w])", said):
            return f"{start}grid.{said.removeprefix(start)}"
    return said


def check_variants(
    method: str, variants: Iterable[str], blocks: dict[str, dict], check: Callable[[dict], Iterable[str]]
) -> Iterator[str]:
    """Faults of a method's variants, each checked as a block of its own; without a grid, faults of the method itself.

    Args:
        method: the method whose grid has the variants, or the only variant itself.
        blocks: the settings of all methods.
        check: yields the faults of a block, as if it were the method's own.
    """
    block, grid = blocks[method], grid_of(blocks[method])
    found = {name: list(told(check(blocks[name]))) for name in variants}
    for name, faults in found.items():
        for fault in faults:
            where = placed(method, block, fault)
            if where != fault or all(fault in others for others in found.values()):
                yield where
            else:
                yield f"{fault} (of its grid: {written_out({key: value_at(blocks[name], key) for key in grid})})"


def value_at(block: dict, key: str) -> object:
    """A setting of a block by its dotted key."""
    for part in key.split("."):
        block = block[part]
    return block


def check_choice(method: str, block: dict, asked: list[str]) -> Iterator[str]:
    """Faults of a grid from which nothing could be chosen.

    Args:
        asked: the probe sets that are asked after the last stage.
    """
    chosen_by = [primary("forget"), primary("neighbour")]
    if not set(chosen_by) <= set(asked):
        where = place_of(method, block)
        yield f"{where}: a list is chosen from by {' and '.join(chosen_by)}; ask both in evaluation.before_and_after"


def place_of(method: str, block: dict) -> str:
    """The config key of a method's values to choose from."""
    return f"method_settings.{method}.{'grid' if 'grid' in block else f'{steps_of(block)}.learning_rate'}"


def check_grid_probes(config: dict) -> Iterator[str]:
    """Faults of a config with grids that leaves no dev probes by which settings can be chosen."""
    if config["grids"] and (why := without_dev(config, config["targets"])):
        for method in config["grids"]:
            where = place_of(method, config["method_settings"][method])
            yield f"{where}: a list is chosen from on dev probes, and {why}"
