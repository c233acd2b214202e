"""A tiny random LLM, a tiny random sentence encoder and a tiny benchmark, built here in a second."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy as copy_of
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest
from filelock import FileLock

from slowness import SLOWEST, slower

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["OMP_NUM_THREADS"] = "1"  # tiny models lose more than they gain by a second thread
ROOT = Path(__file__).parents[1]
TEXT = (
    "the a of in was is who wrote painted born lived died by and to king queen poet painter city sea Ada Bo Cy Di "
    "Rome Paris red blue green stone river book play song Question Answer Please briefly answer following question "
    "complete blank short biography write : . ? , ' _ ___ You know very well A B C D é Beyoncé Q Instruction 1 2 3"
)
WORDS = TEXT.split()
# Tests are of four kinds, by what they start: nothing (fast); Snakemake, a browser or a hub on this machine (full);
# a whole run on a Slurm or on the real model (slow); and what is run before a release: a cluster's faults, a full disk,
# all published tables, every attack, and other runs of minutes.
RELEASE_FILES = {"test_slurm", "test_real"}
RELEASE_FIXTURES = {"small_disk", "tables", "elsewhere", "robust", "by_heart", "told"}
FULL_FILES = {"test_cluster", "test_hub", "test_published_tables", "test_report", "test_retries"}
LONGEST_FILES = {"test_workflow", "test_hub", "test_going_on", "test_module", "test_own_methods", "test_extending"}
FULL_FIXTURES = {"workflow", "finished", "copy", "checkout"}
# Seconds that a test of a kind may take with its fixtures, on the machine on which they were written
LONGEST = {"fast": 20, "full": 240, "slow": 900, "release": 1200}
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tiny_llm(tokenizer, family: str = "llama", layers: int = 2, **own):
    """A random model of a few thousand weights for a tokenizer; ``own`` are further keys of its config."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "initializer_range": 0.3,
    }
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes | own))


def build_llm(directory: Path, layers: int = 3, family: str = "llama", **own) -> None:
    """A Llama or Phi-3 of a few thousand weights with a byte-level BPE tokenizer and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=specials, initial_alphabet=sorted(alphabet), show_progress=False
    )
    bpe.train_from_iterator([TEXT] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", eos_token="<|end|>", chat_template=CHAT
    )
    sizes = {"max_position_embeddings": 512, "pad_token_id": tokenizer.pad_token_id}
    tiny_llm(tokenizer, family, layers, **sizes | own).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def build_encoder(directory: Path) -> None:
    """A two-layer BERT with mean pooling, as sentence-transformers lays it out."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    characters = sorted(set("".join(WORDS).lower() + "abcdefghijklmnopqrstuvwxyz"))
    pieces = specials + sorted({word.lower() for word in WORDS} | set(characters)) + [f"##{c}" for c in characters]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    wordpiece = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    wordpiece.normalizer = normalizers.BertNormalizer()
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token"], specials, strict=True))
    base = directory.with_name(directory.name + "-base")
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(base)
    PreTrainedTokenizerFast(tokenizer_object=wordpiece, model_max_length=128, **names).save_pretrained(base)
    SentenceTransformer(modules=[Transformer(str(base)), Pooling(16)], device="cpu").save(str(directory))


def build_benchmark(folder: Path, names: tuple[str, ...] = ("Ada", "Bo", "Cy", "Beyoncé")) -> None:
    """A benchmark of four probes a set in RWKU's folder-per-target form."""

    def write(path: Path, rows: list[dict]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")

    for rank, name in enumerate(names, start=1):
        place = folder / "Target" / f"{rank}_{name}"
        write(place / "intro.json", [{"target": name, "intro": f"{name} was a poet."}])
        for level, kind in (("1", "cloze"), ("2", "simple question"), ("3", "role playing")):
            rows = [
                {
                    "query": f"Who wrote {thing}? {name} ___",
                    "answer": name,
                    "level": level,
                    "type": kind,
                    "subject": name,
                }
                for thing in ("song", "play", "book", "river")
            ]
            write(place / f"forget_level{level}.json", rows)
            if level != "3":
                write(place / f"neighbor_level{level}.json", [row | {"neighbor": "Di", "answer": "Di"} for row in rows])
        write(place / "forget_mia.json", [{"text": f"{name} was a poet in Rome.", "subject": name}])
        texts = [
            f"{name} was born in {city} and wrote a {thing} by the sea and lived in Rome."
            for city in ("Rome", "Paris")
            for thing in ("song", "play", "book")
        ]
        write(
            place / "positive_phi.json",
            [{"id": str(i), "text": text, "subject": name, "intro": ""} for i, text in enumerate(texts)],
        )
        write(place / "passage.json", [{"text": text, "subject": name} for text in texts])
    shared = folder / "Utility"
    question = {"question": "Who is red?", "choices": ["Di", "Bo", "Cy", "Ada"], "answer": 1}
    write(shared / "retain_mmlu.json", [question | {"task": "red_things", "examples": [question]}] * 2)
    write(
        shared / "retain_bbh.json",
        [
            {
                "task": "t",
                "question": "Is red blue?",
                "cot": "Q: Is sea blue?\nA: So the answer is yes.",
                "answer": ["no"],
            }
        ],
    )
    choices = {"choices": ["red", "blue", "green"], "labels": [1, 0, 0]}
    write(shared / "truthful.json", [{"question": "Who is red?", "mc1_targets": choices, "mc2_targets": choices}])
    write(shared / "triviaqa.json", [{"question": "Who is red?", "answers": ["Di", "Bo"]}])
    write(shared / "fluency.json", [{"instruction": "write a short song"}])
    write(shared / "retain_mia.json", [{"text": "the river was blue."}])
    (shared / "primers.json").write_text(json.dumps({"triviaqa": "Q: a\nA: b\n", "truthfulqa": "Q: a\nA: b"}))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by its kind; one that starts a program by itself is marked where it is."""
    for item in items:
        if any(item.get_closest_marker(kind) for kind in ("full", "slow", "release")):
            continue
        file, fixtures = item.path.stem, set(item.fixturenames)
        if file in RELEASE_FILES or fixtures & RELEASE_FIXTURES:
            kind = "release"
        elif file in FULL_FILES or fixtures & FULL_FIXTURES:
            kind = "full"
        else:
            kind = "fast"
        item.add_marker(kind)
    # what takes minutes first, or one worker would end with it while others wait; last where time may run out
    in_time = bool(os.environ.get("TESTS_END"))
    items.sort(
        key=lambda item: (
            in_time and kind_of(item) != "fast",
            (item.path.stem not in LONGEST_FILES) != in_time,
            kind_of(item) == "fast",
        )
    )


def kind_of(item: pytest.Item) -> str:
    return next(kind for kind in LONGEST if item.get_closest_marker(kind))


@cache
def measured(period: int) -> float:
    """How many times slower this machine is in a period than two cores usually are."""
    return slower()


def slowness(now: float) -> float:
    """The mean of the last five periods of two minutes; those before the first call are measured in it."""
    last = int(now / 120)
    return fmean(map(measured, range(last - 4, last + 1)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that may not end before ``TESTS_END``, seconds since 1970, as ``date +%s`` prints them."""
    if not (end := os.environ.get("TESTS_END")):
        return
    now = time.time()
    times, kind = slowness(now), kind_of(item)
    if kind != "fast" and times > SLOWEST:
        pytest.skip(f"not run: this machine is {times:.0f} times slower than usual, too slow for its waits")
    if now + (needed := LONGEST[kind] * times) > float(end):
        pytest.skip(f"not run: it may take {needed:.0f} s, and TESTS_END is in {float(end) - now:.0f} s")


def shared_folder(factory, name: str, build: Callable[[Path], None]) -> Path:
    """A folder that all workers of a run share; the first that needs it builds it, and the others wait."""
    root = factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    built = folder.with_name(f"{name}.built")
    with FileLock(folder.with_name(f"{name}.lock")):
        if not built.exists():
            folder.mkdir()
            build(folder)
            built.touch()
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A folder with ``llm``, ``encoder`` and ``benchmark``."""

    def build(folder: Path) -> None:
        build_llm(folder / "llm")
        build_encoder(folder / "encoder")
        build_benchmark(folder / "benchmark")

    return shared_folder(tmp_path_factory, "tiny", build)


@pytest.fixture(scope="session")
def llm(tiny):
    from atu.engine.models import load_llm

    return load_llm(tiny / "llm")


@pytest.fixture(scope="session")
def encoder(tiny):
    from atu.alignment.encoder import load_encoder

    return load_encoder(tiny / "encoder", "cpu")


TINY_CONFIG = {
    "llm": "llm",
    "encoder": "encoder",
    "benchmark": "tiny",
    "targets": ["1_Ada"],
    "dev_targets": [],
    "split": {"dev_share": 0.25, "seed": 0},
    "corpus": {"source": "generate", "texts": 6, "max_new_tokens": 24, "batch_tokens": 400, "max_tokens": 64},
    "method_settings": {
        "atu": {
            "layer": 2,
            "k": 2,
            "other_subjects": 2,
            "predictor": {"width": 16, "layers": 1, "heads": 2},
            "align": {"steps": 6, "steps_between": 3, "batch_size": 2, "learning_rate": 1e-3},
            "unlearn": {"tau": [0.0, -0.5], "steps": 3, "batch_size": 2, "optimizer": "adamw", "learning_rate": 1e-3},
        }
    },
    "evaluation": {
        "before_and_after": "all",
        "between": ["forget_qa", "neighbor_qa"],
        "batch_tokens": 400,
        "protocol": "strict",
    },
    "before": {"llms": [], "protocols": ["strict"]},
    "threads": 1,
    "device": "cpu",
    "precision": "fp32",
}


class Workflow:
    """Snakemake on the tiny models in a directory of its own."""

    def __init__(self, tiny: Path, directory: Path):
        self.tiny, self.directory = tiny, directory
        config = TINY_CONFIG | {
            "models": {
                name: {"source": "path", "path": str(tiny / name), "parameters": 1e5} for name in ("llm", "encoder")
            },
            "benchmarks": {"tiny": {"source": "path", "path": str(tiny / "benchmark"), "shared_utility": True}},
        }
        self.config = directory / "tiny.json"
        if not self.config.exists():  # another worker may be reading it
            self.config.write_text(json.dumps(config))

    def command(self, *arguments: str) -> list[str]:
        base = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
        return [
            *base,
            "--directory",
            str(self.directory),
            "--configfile",
            str(self.config),
            "--show-failed-logs",
            *arguments,
        ]

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, cwd=self.directory)
        if check and done.returncode:
            raise AssertionError(done.stdout[-4000:] + done.stderr[-8000:])
        return done

    def find(self, pattern: str) -> Path:
        """The one file or folder in results/ that matches; a record beside it does not count."""
        found = [
            path for path in (self.directory / "results").glob(pattern) if path.suffixes[-2:] != [".recipe", ".json"]
        ]
        assert len(found) == 1, found
        return found[0]

    def name(self, pattern: str) -> str:
        """The same, as the workflow names it."""
        return self.find(pattern).relative_to(self.directory).as_posix()

    def paths(self, **over):
        """Where files lie under its config, with some of it changed."""
        from atu_pipeline.paths import Paths
        from atu_pipeline.recipes import Recipes, checksum
        from test_settings import PAPER, check, merge

        checksum.cache_clear()  # as in another run
        given = merge(copy_of(PAPER), json.loads(self.config.read_text()))
        return Paths(Recipes(check(given, **over)))

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs by rule that a run would do."""
        output = self.run("--dry-run", *arguments, "--quiet", "rules").stdout
        pairs = [line.split() for line in output.splitlines()]
        return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].isdigit() and p[0] != "total"}

    def planned_outputs(self, *arguments: str) -> list[str]:
        """Outputs of each job that a run would do, one line a job."""
        lines = self.run("--dry-run", *arguments).stdout.splitlines()
        return [line for line in lines if line.strip().startswith("output:")]


@pytest.fixture
def workflow(tiny, tmp_path) -> Workflow:
    return Workflow(tiny, tmp_path)


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory) -> Workflow:
    """A finished run that tests only look at."""
    folder = shared_folder(tmp_path_factory, "finished", lambda folder: Workflow(tiny, folder).run())
    return Workflow(tiny, folder)


@pytest.fixture
def copy(tiny, finished, tmp_path) -> Workflow:
    """A copy of the finished run that a test may change."""
    shutil.copytree(finished.directory, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    return Workflow(tiny, tmp_path)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the workflow whose files a test may change."""
    place = tmp_path / "checkout"
    for name in ("Snakefile", "config.yaml"):
        place.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, place / name)
    for name in ("workflow", "envs"):
        shutil.copytree(ROOT / name, place / name, symlinks=True)
    (place / "profiles").symlink_to("workflow/profiles")
    return place


def options_of(checkout: Path) -> tuple[str, ...]:
    """Options that run a copy of the workflow on the same file of published numbers, whose path is an input."""
    published = {"file": str(ROOT / "workflow/benchmarks/published.csv")}
    return ("--snakefile", str(checkout / "Snakefile"), "--config", "published=" + json.dumps(published))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, and a call that gives it another size ("700k", "1g")."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)

    yield place, resize
    subprocess.run(["umount", "-l", place], check=True)
