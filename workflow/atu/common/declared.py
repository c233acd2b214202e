"""What the file of a method declares: read from its text, as running it would need torch and take seconds."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = "workflow/atu/methods"
PACKAGE = "atu.methods"
NOT_INHERITED = ("name", "published")  # what builds on the class of another file is another method
KINDS = ("aligned", "trained", "applied", "external")
PLAIN = ("positive", "passage")  # texts that are nothing but text
TEXTS = (*PLAIN, "pair", "reject")
READS = ("reference", "others")
SCALARS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
LISTS = {"list", "tuple", "Sequence", "Iterable", "Collection", "List", "Tuple"}


class UnreadableError(ValueError):
    """A method's file is not of a form that can be read without running it; the message names the file."""


@dataclass(frozen=True)
class Option:
    """An argument of a method's constructor.

    Attributes:
        kind: "a whole number", "a number", "true or false", "text" or "a list"; None if its annotation is none of
            these.
        items: of a list the kind of its items.
        needed: whether it has no default.
        default: that, if it is written out and is of one of these kinds; else None.
    """

    kind: str | None
    items: str | None
    needed: bool
    default: object = None


@dataclass(frozen=True)
class Declared:
    """What a method is and takes.

    Attributes:
        options: by name.
        open: whether its constructor takes any other option as well.
        kind: one of KINDS.

    The others are as the classes of ``atu.training.method`` explain them.
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
    """What a method's file and the files of the library that it builds on declare.

    Args:
        root: the checkout.

    Raises:
        UnreadableError: in one line, saying how to write it.
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
    """What the loss in force is a mean over: of the nearest class with a loss or a ``mean_over``, as it says itself."""
    for file, node in classes:
        has_loss = any(isinstance(line, ast.FunctionDef) and line.name == "loss" for line in node.body)
        if has_loss or any(name == "mean_over" for name, _, _ in assigned(node)):
            return str(attribute([(file, node)], "mean_over", ""))
    return ""


def check_values(found: Declared, where: str) -> None:
    """Refuse values of which nothing would come.

    Args:
        where: file and class.

    Raises:
        UnreadableError: naming what is known.
    """
    if found.kind not in KINDS:
        raise UnreadableError(
            f"{where} builds on none of {', '.join(map(str.title, KINDS))}, the classes of atu.methods; write class "
            "<its name>(Trained), say"
        )
    for name, known in (("texts", TEXTS), ("reads", READS)):
        if wrong := [value for value in getattr(found, name) if value not in known]:
            raise UnreadableError(f"{where} has {wrong[0]!r} among its {name}; known are {', '.join(known)}")
    if not re.fullmatch(r"[\w .+*-]*", found.name):  # tables in Markdown, LaTeX and HTML have it as it is
        raise UnreadableError(f"{where} is called {found.name!r}; write letters, digits, blanks and . + * - alone")


def method_files(root: Path) -> list[str]:
    """Names of the methods that the library has."""
    return sorted({path.stem for path in (root / FOLDER).glob("*.py")} - {"__init__"})


class File:
    """The text of a module of the library, parsed."""

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
        """The class that a name means at the end of this module, and where it is defined; None if it is none."""
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
        """The module that names are imported from."""
        if not node.level:
            return node.module or ""
        above = self.package.split(".")[: 1 - node.level or None]
        return ".".join([*above, *filter(None, [node.module])])

    def class_of(self, value: ast.expr, seen: frozenset = frozenset()) -> "tuple[File, ast.ClassDef] | None":
        """The class that an expression means: a name, or a name of another file of the folder (npo.NPO).

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
        """The file of the folder that a name of this file means."""
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
    """A class and those of the folder that it builds on, nearest first."""
    if depth > 20:
        raise UnreadableError(f"{file.name}: {node.name} builds on itself")
    yield file, node
    for base in node.bases:
        if found := file.class_of(base):
            yield from lineage(*found, depth + 1)


def assigned(node: ast.ClassDef | ast.Module) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
    """Name, annotation and value of what stands at the head of a class or a module."""
    for line in node.body:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, None, value
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                yield name, annotation, value


def attribute(classes: list[tuple[File, ast.ClassDef]], name: str, default: object) -> object:
    """An attribute of the nearest class that has it.

    Args:
        default: if none has; what is read must be of its form.

    Raises:
        UnreadableError: if it is something else.
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
    """What an attribute should be, in words, if it is not; its default says so."""
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
    """Options of the nearest constructor, and whether it takes any.

    One with ``**options`` takes those of the next one too.
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
    """The fields of a dataclass and of those that it builds on, by name."""
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
    """A default that is written out, or that a name of its file stands for; None for what no config can hold."""
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
    """The kind that an annotation asks for, and of a list that of its items."""
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
