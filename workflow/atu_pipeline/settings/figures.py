"""The figures that FIGURES in the library declares, read from its source text since importing matplotlib is slow."""

import ast
from functools import cache
from pathlib import Path

from atu_pipeline.settings.messages import ConfigError

FILE = Path("workflow/atu/reporting/figures.py")
CAPTIONS = Path("workflow/report")
# By the first argument of a figure's function, which names its data: the other arguments that it is passed.
SOURCES = {
    "long": ("dev_targets", "collapsed"),
    "steps": ("dev_targets",),
    "types": ("dev_targets",),
    "attacked": ("dev_targets",),
    "layers": ("dev_targets",),
}


@cache
def drawn_from(root: Path) -> dict[str, str]:
    """By figure, the key of SOURCES that names the data from which it is drawn.

    Args:
        root: the checkout.

    Raises:
        ConfigError: if FIGURES is not a dict of functions, a function has wrong arguments, or a figure has no
            caption.
    """
    try:
        tree = ast.parse((root / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ConfigError(f"{FILE} cannot be read ({' '.join(str(error).split())})") from error
    functions = {node.name: node.args for node in tree.body if isinstance(node, ast.FunctionDef)}
    found = {}
    for name, value in declared(tree):
        arguments = functions.get(value.id) if isinstance(value, ast.Name) else None
        if not isinstance(name, ast.Constant) or arguments is None or not arguments.args:
            raise ConfigError(f"{FILE}: {ast.unparse(value)} in FIGURES is no function of this file; write its name")
        first = arguments.args[0].arg
        if first not in SOURCES:
            raise ConfigError(
                f"{FILE}: {name.value} is drawn from {first!r}, its first argument; known are {', '.join(SOURCES)}"
            )
        names = {argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)}
        if lacking := [other for other in SOURCES[first] if other not in names]:
            raise ConfigError(f"{FILE}: {name.value} takes no {lacking[0]}, which it is handed; add the argument")
        if not (root / (caption := CAPTIONS / f"{name.value}.rst")).is_file():
            raise ConfigError(f"{FILE}: {name.value} has no caption; write {caption}")
        found[str(name.value)] = first
    return found


def declared(tree: ast.Module) -> list[tuple[ast.expr | None, ast.expr]]:
    """The entries of FIGURES."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="FIGURES")], value=ast.Dict(keys=keys, values=values)):
                return list(zip(keys, values, strict=True))
    raise ConfigError(f"{FILE} has no FIGURES, a dict of functions by name")
