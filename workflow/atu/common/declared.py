"""The declarations in a method's file, read from its source text, since running it would load torch for seconds."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = "workflow/atu/methods"
PACKAGE = "atu.methods"
NOT_INHERITED = ("name", "published")  # a subclass in another file is another method
KINDS = ("aligned", "trained", "applied", "external")
PLAIN = ("positive", "passage")  # kinds of plain texts
TEXTS = (*PLAIN, "pair", "reject")
READS = ("reference", "others")
SCALARS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
LISTS = {"list", "tuple", "Sequence", "Iterable", "Collection", "List", "Tuple"}


class UnreadableError(ValueError):
    """A method's file cannot be read without running it; the message names the file."""


@dataclass(frozen=True)
class Option:
    """An argument of a method's constructor.

    Attributes:
        kind: "a whole number", "a number", "true or false", "text" or "a list"; None if its annotation is none of
            these.
        items: the kind of a list's items.
        needed: whether it has no default.
        default: its default, if that is a literal of one of these kinds; otherwise None.
    """

    kind: str | None
    items: str | None
    needed: bool
    default: object = None


@dataclass(frozen=True)
class Declared:
    """The kind of a method, its options and its attributes.

    Attributes:
        options: its options, by name.
        open: whether its constructor takes any other option as well.
        kind: one of KINDS.

    The classes of ``atu.training.method`` explain the other attributes.
    """

    options: dict[str, Option]
    open: bool
    kind: str = ""
    name: str = ""
    published: str = ""
    texts: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    not_negative: tuple[str, ...] = ()
    largest: dict[str, float] = field(default_factory=dict)
    distinct: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    below_max_tokens: tuple[str, ...] = ()
    second_model: bool = False
    trained_layers: int | None = None
    mean_over: str = ""
    reads_model: bool = True


@cache
def declared(root: Path, method: str) -> Declared:
    """The declarations in a method's file and in the files of the library on which it builds.

    Args:
        root: the checkout.

    Raises:
        UnreadableError: says, in one line, how to write the file.
    """
    own = File(root, f"{PACKAGE}.{method}")
    named = own.named("METHOD")
    if named is None:
        raise UnreadableError(f"{own.name} has no line METHOD = <its class>; write one at its end")
    classes = list(dict.fromkeys(lineage(*named)))
    options, takes_any = constructor(classes)
    found = Declared(options, takes_any)
    of_file = [pair for pair in classes if pair[0] == own]
    given: dict[str, Any] = {
        part.name: attribute(of_file if part.name in NOT_INHERITED else classes, part.name, getattr(found, part.name))
        for part in fields(found)[2:]
    }
    found = replace(found, **given | {"mean_over": counted_over(classes)})
    check_values(found, f"{own.name}: {classes[0][1].name}")
    return found


def counted_over(classes: list[tuple["File", ast.ClassDef]]) -> str:
    """What the loss is a mean over: the ``mean_over`` of the nearest class that has a loss or a ``mean_over``."""
    for file, node in classes:
        has_loss = any(isinstance(line, ast.FunctionDef) and line.name == "loss" for line in node.body)
        if has_loss or any(name == "mean_over" for name, _, _ in assigned(node)):
            return str(attribute([(file, node)], "mean_over", ""))
    return ""


def check_values(found: Declared, where: str) -> None:
    """Refuse unknown values.

    Args:
        where: file and class, for the message.

    Raises:
        UnreadableError: names the known values.
    """
    if found.kind not in KINDS:
        raise UnreadableError(
            f"{where} builds on none of {', '.join(map(str.title, KINDS))}, the classes of atu.methods; write class "
            "<its name>(Trained), say"
        )
    for name, known in (("texts", TEXTS), ("reads", READS)):
        if wrong := [value for value in getattr(found, name) if value not in known]:
            raise UnreadableError(f"{where} has {wrong[0]!r} among its {name}; known are {', '.join(known)}")
    if not re.fullmatch(r"[\w .+*-]*", found.name):  # it goes unescaped into tables in Markdown, LaTeX and HTML
        raise UnreadableError(f"{where} is called {found.name!r}; write letters, digits, blanks and . + * - alone")


def method_files(root: Path) -> list[str]:
    """Names of the library's methods."""
    return sorted({path.stem for path in (root / FOLDER).glob("*.py")} - {"__init__"})


class File:
    """A module of the library, parsed from its source text."""

    def __init__(self, root: Path, module: str):
        place = Path("workflow", *module.split("."))
        path = place / "__init__.py" if (root / place).is_dir() else place.with_suffix(".py")
        self.root, self.module, self.name = root, module, path.as_posix()
        self.package = module if path.stem == "__init__" else module.rpartition(".")[0]
        path = root / path
        try:
            self.tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError) as error:
            raise UnreadableError(f"{self.name} cannot be read ({' '.join(str(error).split())})") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, File) and self.module == other.module

    def __hash__(self) -> int:
        return hash(self.module)

    def other(self, module: str) -> "File | None":
        """Another module of the library; None for modules elsewhere."""
        return File(self.root, module) if module.partition(".")[0] == PACKAGE.partition(".")[0] else None

    def named(self, name: str, seen: frozenset = frozenset()) -> "tuple[File, ast.ClassDef] | None":
        """The class that a name refers to at the end of this module, with the file that defines it; None if none."""
        if (self.module, name) in seen:
            return None
        seen |= {(self.module, name)}
        for node in reversed(self.tree.body):
            match node:
                case ast.ClassDef(name=given) if given == name:
                    return self, node
                case ast.Assign(targets=[ast.Name(id=given)], value=value) if given == name:
                    return self.class_of(value, seen)
                case ast.AnnAssign(target=ast.Name(id=given), value=value) if given == name and value:
                    return self.class_of(value, seen)
                case ast.ImportFrom(names=names):
                    for alias in names:
                        other = self.other(self.source(node))
                        if (alias.asname or alias.name) == name and other:
                            return other.named(alias.name, seen)
        return None

    def source(self, node: ast.ImportFrom) -> str:
        """The module from which an import takes its names."""
        if not node.level:
            return node.module or ""
        above = self.package.split(".")[: 1 - node.level or None]
        return ".".join([*above, *filter(None, [node.module])])

    def class_of(self, value: ast.expr, seen: frozenset = frozenset()) -> "tuple[File, ast.ClassDef] | None":
        """The class that an expression refers to: a name, or a name in another file of the folder (npo.NPO).

        Raises:
            UnreadableError: if METHOD is anything else.
        """
        found = None
        if isinstance(value, ast.Name):
            found = self.named(value.id, seen)
        elif isinstance(value, ast.Attribute) and (other := self.imported(ast.unparse(value.value))):
            found = other.named(value.attr, seen)
        if found is None and (self.module, "METHOD") in seen:
            raise UnreadableError(
                f"{self.name}: METHOD is {ast.unparse(value)}, which is no class of {FOLDER} that can be read without "
                "running it; write METHOD = <the name of a class of this file>"
            )
        return found

    def imported(self, name: str) -> "File | None":
        """The file of the library that an imported name in this file refers to."""
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and self.source(node) == PACKAGE:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return File(self.root, f"{PACKAGE}.{alias.name}")
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self.other(alias.name)
        return None


def lineage(file: File, node: ast.ClassDef, depth: int = 0) -> Iterator[tuple[File, ast.ClassDef]]:
    """Yield a class and the classes of the library on which it builds, nearest first."""
    if depth > 20:
        raise UnreadableError(f"{file.name}: {node.name} builds on itself")
    yield file, node
    for base in node.bases:
        if found := file.class_of(base):
            yield from lineage(*found, depth + 1)


def assigned(node: ast.ClassDef | ast.Module) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
    """Yield name, annotation and value of each assignment at the top level of a class or a module."""
    for line in node.body:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, None, value
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                yield name, annotation, value


def attribute(classes: list[tuple[File, ast.ClassDef]], name: str, default: object) -> object:
    """An attribute of the nearest class that has it.

    Args:
        default: the value if no class has it; a value that is read must have the same form.

    Raises:
        UnreadableError: if the value has another form.
    """
    for file, node in classes:
        for given, _, value in assigned(node):
            if given == name and value:
                try:
                    read = ast.literal_eval(value)
                except (ValueError, TypeError):
                    read = NotImplemented
                if fault := misshapen(read, default):
                    raise UnreadableError(f"{file.name}: {name} of {node.name} is not {fault}; write it out")
                return tuple(read) if isinstance(default, tuple) else read
    return default


def misshapen(value: object, default: object) -> str | None:
    """The form that an attribute should have, in words, judged by its default; None if the value has it."""
    match default:
        case bool():
            return None if isinstance(value, bool) else "True or False"
        case str():
            return None if isinstance(value, str) else 'a text such as "GA"'
        case tuple():
            right = isinstance(value, tuple | list) and all(isinstance(item, str) for item in value)
            return None if right else 'a tuple of texts such as ("positive",)'
        case dict():
            right = isinstance(value, dict) and all(isinstance(item, int | float) for item in value.values())
            return None if right else 'a dict such as {"coefficient": 10}'
        case None:
            right = value is None or (isinstance(value, int) and not isinstance(value, bool))
            return None if right else "a whole number or None"
    raise TypeError(f"no form for {default!r}")


def constructor(classes: list[tuple[File, ast.ClassDef]]) -> tuple[dict[str, Option], bool]:
    """Options of the nearest constructor, and whether it takes any other option.

    A constructor with ``**options`` also takes the options of the next constructor.
    """
    options: dict[str, Option] = {}
    takes_any = False
    for place, (file, node) in enumerate(classes):
        if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            return dataclass_options(classes[place:]) | options, False
        for line in node.body:
            if isinstance(line, ast.FunctionDef) and line.name == "__init__":
                options = arguments(line.args, file) | options
                takes_any = line.args.kwarg is not None
                if not takes_any:
                    return options, False
    return options, takes_any


def arguments(args: ast.arguments, file: File) -> dict[str, Option]:
    """The arguments of a constructor by name, without ``self``."""
    given = [*args.posonlyargs, *args.args]
    defaults = [*[None] * (len(given) - len(args.defaults)), *args.defaults]
    pairs = [*zip(given, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return {argument.arg: option(argument.annotation, default, file) for argument, default in pairs[1:]}


def dataclass_options(classes: list[tuple[File, ast.ClassDef]]) -> dict[str, Option]:
    """The fields of a dataclass and of the dataclasses on which it builds, by name."""
    found = {}
    for file, node in reversed(classes):
        if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            for name, annotation, value in assigned(node):
                if annotation is not None and "ClassVar" not in ast.unparse(annotation):
                    found[name] = option(annotation, value, file)
    return found


def option(annotation: ast.expr | None, default: ast.expr | None, file: File) -> Option:
    return Option(*kinds(annotation), default is None, None if default is None else plain(default, file))


def plain(default: ast.expr, file: File) -> object:
    """A default that is a literal, or a name for one in its file; None if no config can hold the value."""
    if isinstance(default, ast.Name):
        given = [value for name, _, value in assigned(file.tree) if name == default.id and value]
        default = given[-1] if given else default
    try:
        value = ast.literal_eval(default)
    except (ValueError, TypeError):
        return None
    value = list(value) if isinstance(value, tuple) else value
    items = value if isinstance(value, list) else [value]
    return value if all(isinstance(item, int | float | str) for item in items) else None


def kinds(annotation: ast.expr | None) -> tuple[str | None, str | None]:
    """The kind that an annotation asks for, and for a list the kind of its items."""
    match annotation:
        case ast.Constant(value=str(text)):
            try:
                return kinds(ast.parse(text, mode="eval").body)
            except SyntaxError:
                return None, None
        case ast.Name(id=name) if name in SCALARS:
            return SCALARS[name], None
        case ast.Name(id=name) if name in LISTS:
            return "a list", None
        case ast.Subscript(value=ast.Name(id=name), slice=items) if name in LISTS:
            first = items.elts[0] if isinstance(items, ast.Tuple) else items
            return "a list", kinds(first)[0]
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return kinds(inner)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            sides = {kinds(side) for side in (left, right) if ast.unparse(side) != "None"}
            if sides == {("a whole number", None), ("a number", None)}:
                return "a number", None
            return sides.pop() if len(sides) == 1 else (None, None)
    return None, None
