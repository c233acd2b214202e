"""README and docs: links lead somewhere, settings pass the config check, commands can be given."""

import re
import shlex
import subprocess
import sys
import unicodedata
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from atu_pipeline import lineage, predictions, runs
from atu_pipeline.__main__ import COMMANDS
from atu_pipeline.experiment import Experiment, folder_of
from conftest import ROOT
from test_extending import QUIZ, QUIZ_SETS

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *DOCS]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DEMO = "workflow/profiles/demo"
# What a block of a shell may begin with besides what is checked here.
OTHERS = {".", "sbatch", "tensorboard", ".venv/bin/pre-commit"}
SNAKEMAKE, ATU = "snakemake", ".venv/bin/atu"


class Block(NamedTuple):
    """A block of code: its page, the line of its first line, its language and text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(*languages: str, pages: list[Path] = PAGES) -> list[Block]:
    """All blocks of some languages."""
    found = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match[1] in languages:
                found.append(Block(page, text.count("\n", 0, match.start(2)) + 1, match[1], match[2]))
    return found


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


# Links.


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as both the site and forges write them; others are not to be linked."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE):
        plain = re.sub(r"[`*\\]", "", heading)
        ascii_only = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
        of_site = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())
        of_forge = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        if of_site == of_forge:
            found.add(of_site)
    return found


def links(page: Path) -> list[str]:
    without_code = re.sub(r"`[^`\n]*`", "", prose(page))
    return re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", without_code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert page not in DOCS or target in DOCS, f"{link} leads out of the site"
        assert not anchor or anchor in slugs(target), link


def test_what_is_linked_can_be_told_from_what_is_not(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b` c: d\n## e - f\n```sh\n# none\n```\n[x](y.md#z) `[not](a link)`\n[o](https://a.b)\n")
    assert slugs(page) == {"a-b-c-d"}
    assert links(page) == ["y.md#z", "https://a.b"]


def test_the_readme_is_a_first_page():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120


def pages_of(nav: object) -> list[str]:
    """Files that the site's navigation names."""
    if isinstance(nav, str):
        return [nav]
    return [*chain.from_iterable(map(pages_of, nav.values() if isinstance(nav, dict) else nav))]


def test_every_page_is_found_from_the_readme_and_in_the_site():
    names = {page.name for page in DOCS}
    assert sorted(pages_of(site()["nav"])) == sorted(names)
    linked = {link.partition("#")[0].removeprefix("docs/") for link in links(README)}
    assert names - {"index.md"} <= linked


def site() -> dict:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def test_the_site_needs_nothing_from_elsewhere():
    """Fonts, and scripts that the theme would fetch."""
    assert site()["strict"]
    assert site()["theme"]["font"] is False
    for script in site()["extra"]["polyfills"]:
        assert (ROOT / "docs" / script).is_file()
    assert not blocks("mermaid")  # for which the theme fetches a script


def test_ci_runs_the_pythons_that_are_promised():
    promised = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    (whole,) = re.findall(r"python:(3\.\d+)-", jobs["all"]["container"]["image"])
    assert sorted([whole, *jobs["fast"]["strategy"]["matrix"]["python"]]) == sorted(promised)
    commands = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert {".ci/run", "make test-fast", "make docs"} <= commands


# Settings.


def is_config(block: Block) -> bool:
    """Whether a block of YAML is of a config: others say so, or name their file, in their first line."""
    first = block.text.partition("\n")[0]
    return not ("not a config" in first or re.match(r"# (in )?workflow/benchmarks/\S+\.yaml", first))


CONFIGS = [block for block in blocks("yaml") if is_config(block)]
OWN = "extending.md"  # whose settings are of files that a reader adds


def command_of(block: Block) -> list[str]:
    """The command in the comment above some settings."""
    comments = " ".join(line.lstrip("# ") for line in block.text.splitlines() if line.startswith("#"))
    said = re.search(r"snakemake .*--configfile .*", comments)
    assert said, f"{block.place}: its first comment is to say the command: # mine.yaml: snakemake ... --configfile ..."
    return shlex.split(said[0])[1:]


def written_out(block: Block, folder: Path, people: int = 2) -> list[str]:
    """The arguments of its command, with its settings in a file and its data, of some people, in a folder."""
    words = command_of(block)
    (name,) = [word for word in words if word.endswith(".yaml") and not (ROOT / word).exists()]
    place = folder / "mine/Target"
    place.mkdir(parents=True)
    for target in sorted((ROOT / "workflow/benchmarks/demo/Target").iterdir())[:people]:
        (place / target.name).symlink_to(target)
    for own in ("my-model", "my-adapter"):
        (folder / own).mkdir()
    (folder / name).write_text(block.text.replace("/data/", f"{folder}/"), encoding="utf-8")
    return [
        str(folder / word) if word == name else str(ROOT / word) if (ROOT / word).is_file() else word for word in words
    ]


@pytest.mark.parametrize("block", [block for block in CONFIGS if block.page.name != OWN], ids=lambda block: block.place)
def test_settings_pass_the_check(block, tmp_path):
    check(written_out(block, tmp_path))


def test_blocks_of_settings_are_found():
    found = {block.page.name for block in CONFIGS}
    assert {"quickstart.md", "data-and-models.md", "methods.md", "experiments.md", OWN} <= found
    assert len(blocks("yaml")) > len(CONFIGS)


CHECK = "import sys; from atu_pipeline.runs import config_of; print(config_of(sys.argv[1:])[0].config['methods'])"


def test_settings_of_what_a_reader_adds_pass_the_check(checkout, tmp_path):
    """In a copy with the files of the page; of the kind of benchmark its sets stand in another test."""
    page = [ROOT / "docs" / OWN]
    (checkout / QUIZ).mkdir()
    (checkout / QUIZ / "probe_sets.yaml").write_text(QUIZ_SETS, encoding="utf-8")
    for block in blocks("python", "yaml", pages=page):
        if path := re.match(r"# (workflow/\S+)\n", block.text):
            (checkout / path[1]).write_text(block.text, encoding="utf-8")
    configs = [block for block in CONFIGS if block.page.name == OWN]
    assert len(configs) == 2
    for number, block in enumerate(configs):
        given = written_out(block, tmp_path / str(number), people=4)
        done = subprocess.run(
            [sys.executable, "-c", CHECK, *given],
            capture_output=True,
            text=True,
            cwd=checkout,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(checkout / "workflow")},
        )
        assert done.returncode == 0, block.place + done.stderr[-2000:]


# Commands.


def commands() -> dict[str, list[str]]:
    """Words of each command in blocks of a shell, and of those in sentences, by the first place where it is given."""
    found: dict[tuple[str, ...], str] = {}
    for block in blocks("sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                found.setdefault(tuple(words), f"{block.place} {' '.join(words)}")
    for page in PAGES:
        for text in re.findall(rf"`((?:make|{SNAKEMAKE}|{re.escape(ATU)}) [^`]+)`", prose(page).replace("\n", " ")):
            if "..." not in text and not text.endswith("--help"):
                found.setdefault(tuple(shlex.split(text)), f"{page.name} {text}")
    return {place: list(words) for words, place in found.items()}


GIVEN = commands()


def of_program(program: str) -> list:
    chosen = {place: words[1:] for place, words in GIVEN.items() if words[0] == program}
    return [pytest.param(words, id=place) for place, words in chosen.items()]


def test_commands_are_found():
    assert {words[0] for words in GIVEN.values()} <= OTHERS | {SNAKEMAKE, ATU, "make"}
    assert all(len(of_program(program)) > 3 for program in (SNAKEMAKE, ATU, "make"))


@cache
def rules() -> set[str]:
    """Rules by name."""
    files = [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return {*re.findall(r"^rule (\w+):", text, re.M), *re.findall(r"^use rule \w+ as (\w+) with", text, re.M)}


def check(words: list[str]) -> None:
    """Check a command of Snakemake: its options, its settings, its targets; an experiment as if it were run."""
    from snakemake.cli import parse_args

    _, options = parse_args(words)
    variants, _ = runs.config_of(words)
    experiments = variants.config["experiments"]
    for target in options.targets:
        assert target in rules() | set(experiments) or target.startswith("results/"), target
        if target in experiments:
            Experiment(folder_of(target), variants)
    for target in {*(options.forcerun or ()), *(options.until or ())}:
        assert target in rules(), target


@pytest.mark.parametrize("words", of_program(SNAKEMAKE))
def test_a_command_of_snakemake_can_be_given(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    check(words)


def test_a_wrong_command_is_noticed(monkeypatch):
    monkeypatch.chdir(ROOT)
    for wrong in (["--profil-e", DEMO], ["--profile", "nowhere"], ["--config", "methods=[atuu]"]):
        with pytest.raises(SystemExit):
            check(wrong)
    for wrong in (["hook_layers", "--profile", DEMO], ["--profile", DEMO, "--forcerun", "plott"]):
        with pytest.raises(AssertionError):
            check(wrong)


@pytest.mark.parametrize("words", of_program(ATU))
def test_a_command_of_atu_can_be_given(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    name, *rest = words
    assert name in COMMANDS
    match name:
        case "plan":
            check(rest)
        case "runs":
            options, others = runs.parse(rest)
            for given in (others, *map(shlex.split, options.also)):
                check(given)
        case "lineage":
            assert lineage.parse(rest).path.startswith("results/")
        case "predictions":
            assert predictions.parse(rest).folder


@pytest.mark.parametrize("words", of_program("make"))
def test_a_command_of_make_can_be_given(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    made = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1].split()
    for word in words:
        key, equals, value = word.partition("=")
        assert (key in {"ARGS", "TARGETS", "METHODS"}) if equals else (word in made), word
        if key == "ARGS":
            check(shlex.split(value))
        if key == "TARGETS":
            check(["--profile", DEMO, "--config", f"targets={value}"])
        if key == "METHODS":
            check(["--profile", DEMO, "--config", f"methods=[{value}]"])


@pytest.mark.parametrize(
    "words", ["demo", "demo TARGETS=all", "paper-demo", "baselines", "robustness", "rates", "search METHODS=npo,simnpo"]
)
def test_what_make_runs_can_be_given(words, monkeypatch):
    """Behind an option with several values, a target would be one of them."""
    monkeypatch.chdir(ROOT)
    printed = subprocess.run(["make", "-n", *words.split()], capture_output=True, text=True, check=True).stdout
    lines = printed.replace("\\\n", " ").splitlines()
    given = [shlex.split(line)[1:] for line in lines if line.startswith(".venv/bin/snakemake")]
    assert given
    for command in given:
        check(command)


OF_DEMO = [param for param in of_program(SNAKEMAKE) if DEMO in param.values[0] and "--report" not in param.values[0]]


@pytest.mark.full
@pytest.mark.parametrize("words", OF_DEMO)
def test_a_command_for_the_demo_can_be_planned(words, tmp_path):
    """By Snakemake itself; of the rest, which is the paper's, tests of experiments plan what is long."""
    command = [sys.executable, "-m", "snakemake", *words, "--dry-run", "--quiet", "all", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
