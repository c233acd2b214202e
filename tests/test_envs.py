"""The environments agree with the pins; neither conda nor Apptainer is needed to see that."""

import re
from pathlib import Path

import yaml
from packaging.requirements import Requirement

from conftest import ROOT

SECTIONS = ("files", "post", "environment", "test")


def definition() -> tuple[dict[str, str], dict[str, str]]:
    """Header and sections of the container's definition."""
    text = re.sub(r"^#.*\n", "", (ROOT / "envs/Apptainer.def").read_text(), flags=re.MULTILINE)
    head, *parts = re.split(r"^%(\w+)\n", text, flags=re.MULTILINE)
    return dict(re.findall(r"^(\w+): (.+)$", head, re.MULTILINE)), dict(zip(parts[::2], parts[1::2], strict=True))


def test_the_container_is_made_of_files_that_exist():
    header, sections = definition()
    assert set(sections) == set(SECTIONS)
    for option, line in zip(("requirement", "constraint"), sections["files"].strip().splitlines(), strict=True):
        source, target = line.split()
        assert (ROOT / source).is_file()
        assert f"--{option} {target}" in sections["post"]
    assert header["Bootstrap"] == "docker"


def pins(name: str) -> dict[str, Requirement]:
    lines = (ROOT / "envs" / name).read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all([clause.operator for clause in pin.specifier] == ["=="] for pin in found)
    return {pin.name: pin for pin in found}


def test_the_variants_of_torch_are_the_pinned_one():
    """With CUDA or without: constraints beside one list of requirements, none of which they contradict."""
    pinned, cuda, cpu = map(pins, ("requirements.txt", "cuda.txt", "cpu.txt"))
    assert not set(cuda) & set(pinned)
    assert {"triton", "nvidia-cudnn-cu13", "nvidia-nccl-cu13"} <= set(cuda)
    (build,) = cpu.values()
    (version,) = build.specifier
    assert version.version in pinned["torch"].specifier


def test_all_environments_have_the_same_python():
    header, _ = definition()
    in_container = re.fullmatch(r"python:(\d+\.\d+)-.*", header["From"])[1]
    first, *_ = yaml.safe_load((ROOT / "envs/workflow.yaml").read_text())["dependencies"]
    assert first == f"python={in_container}"


def test_every_rule_has_an_environment():
    """Each rule of its own, not the ones that inherit, names the conda environment."""
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        text = path.read_text()
        rules = len(re.findall(r"^\s*rule \w+:$", text, re.MULTILINE))
        assert text.count('"../../envs/workflow.yaml"') == rules, path.name
    assert 'container: "envs/workflow.sif"' in re.sub(r":\s+", ": ", (ROOT / "Snakefile").read_text())


def test_a_commit_is_checked_as_make_lint_checks():
    """What is fetched, or is pinned elsewhere, would say other things."""
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}
    of_commits = {hook["entry"] for hook in repo["hooks"] if hook["id"] not in ("whitespace", "large")}
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert of_commits == {line.strip() for line in lint.splitlines() if "SNAKEMAKE" not in line}
    tools = {Path(entry.split()[0]).name for entry in of_commits}
    assert tools <= set(pins("requirements.txt"))
