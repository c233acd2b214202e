"""The blocks of ``method_settings``: of which method each is, and what it need not say."""

from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

from atu import ROOT
from atu.common.declared import FOLDER, Declared, UnreadableError, declared, method_files
from atu_pipeline.settings.messages import ConfigError, unknown
from atu_pipeline.settings.options import cast_options


def overlay(base: dict, over: dict) -> dict:
    """``base`` with what ``over`` sets, block by block."""
    both = [key for key in base.keys() & over if isinstance(base[key], dict) and isinstance(over[key], dict)]
    return base | over | {key: overlay(base[key], over[key]) for key in both}


def kind_of(block: dict, root: Path = ROOT) -> str:
    """aligned (ATU), applied (at inference, without training), trained (a loss on texts) or external."""
    return declared(root, block["method"]).kind


def read_method(name: str, block: dict, root: Path) -> Declared:
    """What the file of a method declares.

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        return declared(root, block["method"])
    except UnreadableError as error:
        raise ConfigError(f"method_settings.{name}.method: {error}") from error


def block_fault(name: str, block: object, variants: set[str], root: Path) -> str | None:
    """What is wrong with a block that no form can be found for; None if nothing is.

    Args:
        variants: names of blocks that say of which method they are.
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
    """Faults of blocks for which no form can be found. They are taken out, and the others completed; in place.

    A block of a method's name need not say so. A block has what ``method_defaults`` says for the kind of its method,
    the texts and options that the method's file declares, and, if it is of another name, what the method's own block
    sets.
    """
    blocks = config.get("method_settings")
    if not isinstance(blocks, dict):
        return  # the models tell it
    for name in blocks.keys() & set(method_files(root)):
        if isinstance(blocks[name], dict):
            blocks[name].setdefault("method", name)
    faults = {name: block_fault(name, block, set(blocks), root) for name, block in blocks.items()}
    for name, fault in faults.items():
        if fault:
            yield fault
        block = blocks[name]
        if fault or faults.get(block["method"]):  # a variant of a wrong block would lack what that should have
            del blocks[name]
    fill_in(blocks, config.get("method_defaults"), root)
    cast_options(blocks, root)


def fill_in(blocks: dict[str, dict], defaults: object, root: Path) -> None:
    """Give each block what it does not say itself; in place."""
    for name, block in blocks.items():
        taken = declared(root, block["method"])
        kept = defaults.get(taken.kind) if isinstance(defaults, dict) else None
        base = overlay(dict(kept) if isinstance(kept, dict) else {}, of_file(taken))
        if block["method"] != name:
            base = overlay(base, blocks.get(block["method"], {}))
        blocks[name] = overlay(deepcopy(base), block)


def of_file(taken: Declared) -> dict:
    """The settings that a method's file gives: texts and options; none where a block says all."""
    if taken.kind in ("aligned", "external"):
        return {}
    options = {key: option.default for key, option in taken.options.items() if option.default is not None}
    return ({"texts": taken.texts[0]} if taken.texts else {}) | {"options": options}


def steps_of(block: dict) -> str | None:
    """The part of a block that says how the LLM is trained; None if its method trains nothing."""
    return next((part for part in ("unlearn", "train") if part in block), None)


def has_grid(block: dict) -> bool:
    """Whether a block's learning rate is a list to choose from."""
    with suppress(KeyError):
        return isinstance(block[steps_of(block)]["learning_rate"], list)
    return False
