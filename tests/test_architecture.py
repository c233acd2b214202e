"""The packages import from one another as docs/architecture.md says."""

import ast
import re
from pathlib import Path

from conftest import ROOT

WORKFLOW = ROOT / "workflow"
ORDER = re.findall(r"^\| `atu\.(\w+)` \|", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), re.MULTILINE)


def imported(path: Path) -> set[str]:
    """Modules that a file imports, by their full names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


def test_every_package_has_its_place():
    assert sorted(ORDER) == sorted(
        path.name for path in (WORKFLOW / "atu").iterdir() if (path / "__init__.py").exists()
    )


def test_a_package_imports_from_those_above_it():
    for path in (WORKFLOW / "atu").rglob("*.py"):
        modules = [name.split(".") for name in imported(path)]
        assert not [name for name in modules if name[0] in ("atu_pipeline", "snakemake")], path
        above = ORDER[: ORDER.index(path.parent.name) + 1] if path.parent.name in ORDER else ORDER
        assert {name[1] for name in modules if name[0] == "atu" and len(name) > 1} <= set(above), path
