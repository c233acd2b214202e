"""The blocks of ``method_settings``: the method of each, and the settings that it inherits."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

from atu import ROOT
from atu.common.declared import FOLDER, Declared, UnreadableError, declared, method_files
from atu_pipeline.settings.messages import ConfigError, unknown
from atu_pipeline.settings.options import cast_options


def overlay(base: dict, over: dict) -> dict:
    """``base`` with the settings of ``over``, block by block."""
    both = [key for key in base.keys() & over if isinstance(base[key], dict) and isinstance(over[key], dict)]
    return base | over | {key: overlay(base[key], over[key]) for key in both}


def kind_of(block: dict, root: Path = ROOT) -> str:
    """aligned (ATU), applied (at inference, without training), trained (a loss on texts) or external."""
    return declared(root, block["method"]).kind


def read_method(name: str, block: dict, root: Path) -> Declared:
    """What a method's file declares.

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        return declared(root, block["method"])
    except UnreadableError as error:
        raise ConfigError(f"method_settings.{name}.method: {error}") from error


def block_fault(name: str, block: object, variants: set[str], root: Path) -> str | None:
    """Why a block's form cannot be determined; None if it can.

    Args:
        variants: the names of all blocks, which cannot be the method of another block unless a method has that name.
    """
    where, known = f"method_settings.{name}", method_files(root)
    if not isinstance(block, dict):
        return f"{where}: {block!r} is not a block of settings"
    if "method" not in block:
        return f"{where}: lacks method, one of {', '.join(known)}"
    method = block["method"]
    if not isinstance(method, str):
        return f"{where}.method: {method!r} is not text"
    if method in variants and method not in known:
        return (
            f"{where}.method: {method} is a variant itself; name one of {', '.join(known)}, and set here all that "
            "differs from it"
        )
    if method not in known:
        return unknown(f"{where}.method", method, known)
    if "reads" in block:
        return f"{where}.reads: {FOLDER}/{method}.py says what its loss reads; delete this"
    try:
        read_method(name, block, root)
    except ConfigError as fault:
        return str(fault)
    return None


def complete_blocks(config: dict, root: Path) -> Iterator[str]:
    """Faults of blocks whose form cannot be determined. They are removed, and the others completed, in place.

    A block with a method's name need not name the method. A block inherits the ``method_defaults`` of its method's
    kind, the texts and options that the method's file declares, and, if it has another name, what the method's own
    block sets.
    """
    blocks = config.get("method_settings")
    if not isinstance(blocks, dict):
        return  # models.py reports it
    for name in blocks.keys() & set(method_files(root)):
        if isinstance(blocks[name], dict):
            blocks[name].setdefault("method", name)
    faults = {name: block_fault(name, block, set(blocks), root) for name, block in blocks.items()}
    for name, fault in faults.items():
        if fault:
            yield fault
        block = blocks[name]
        if fault or faults.get(block["method"]):  # a variant of a faulty block would lack settings
            del blocks[name]
    fill_in(blocks, config.get("method_defaults"), root)
    cast_options(blocks, root)


def fill_in(blocks: dict[str, dict], defaults: object, root: Path) -> None:
    """Give each block the settings that it does not set itself, in place."""
    for name, block in blocks.items():
        taken = declared(root, block["method"])
        kept = defaults.get(taken.kind) if isinstance(defaults, dict) else None
        base = overlay(dict(kept) if isinstance(kept, dict) else {}, of_file(taken))
        if block["method"] != name:
            base = overlay(base, left_to(block, blocks.get(block["method"], {})))
        blocks[name] = overlay(deepcopy(base), block)


def left_to(variant: dict, block: dict) -> dict:
    """A method's block as a variant inherits it: the grid loses the settings that the variant sets itself."""
    if not isinstance(grid := block.get("grid"), dict):
        return block
    left = {key: values for key, values in grid.items() if not says(variant, key)}
    return {key: value for key, value in block.items() if key != "grid"} | ({"grid": left} if left else {})


def says(block: dict, key: str) -> bool:
    """Whether a block has a setting, by its dotted key."""
    found: object = block
    for part in key.split("."):
        if not isinstance(found, dict) or part not in found:
            return False
        found = found[part]
    return True


def of_file(taken: Declared) -> dict:
    """The settings that a method's file gives: texts and options; none for aligned and external methods."""
    if taken.kind in ("aligned", "external"):
        return {}
    options = {key: option.default for key, option in taken.options.items() if option.default is not None}
    return ({"texts": taken.texts[0]} if taken.texts else {}) | {"options": options}


def steps_of(block: dict) -> str | None:
    """The part of a block that sets how the LLM is trained; None if its method trains nothing."""
    return next((part for part in ("unlearn", "train") if part in block), None)


def rate_of(block: dict) -> float | list[float] | None:
    """The learning rate of the LLM, or a list to choose from; None if its method trains nothing."""
    return block.get(steps_of(block), {}).get("learning_rate")


def grid_of(block: dict) -> dict[str, list]:
    """The values of each setting that a block searches, by its dotted key; a list of learning rates is one of them."""
    rates = rate_of(block)
    listed = {f"{steps_of(block)}.learning_rate": rates} if isinstance(rates, list) else {}
    return block.get("grid", {}) | listed


def has_grid(block: dict) -> bool:
    """Whether a block has values to choose from."""
    return bool(grid_of(block))


def nested(key: str, value: object) -> dict:
    """{"train": {"epochs": 2}} for the dotted key train.epochs and 2."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value
