"""Outputs are complete or absent."""

import errno
import os
import shutil

import pandas as pd
import pytest

from atu.common.errors import DamagedError
from atu.common.files import (
    atomic_path,
    check_weights,
    link_tree,
    read_json,
    read_jsonl,
    read_parquet,
    read_tensors,
    write_json,
    write_jsonl,
)


def test_a_failure_leaves_what_was_there(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(OSError, match="No space left"), atomic_path(target) as part:
        part.write_text("half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_an_interrupt_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "model") as part:
        part.mkdir()
        (part / "weights").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_success_replaces_files_and_directories(tmp_path):
    for content in ("one", "two"):
        with atomic_path(tmp_path / "model") as part:
            part.mkdir()
            (part / content).write_text(content)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["two"]
    write_json(tmp_path / "a.json", {"é": 1})
    assert (tmp_path / "a.json").read_text() == '{\n  "é": 1\n}\n'


def test_others_may_read_what_a_library_left_to_the_owner(tmp_path):
    with atomic_path(tmp_path / "model") as part:
        part.mkdir()
        weights = part / "model.safetensors"
        weights.touch(mode=0o600)
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "model/model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_linked_directory_keeps_its_own_notes(tmp_path):
    """Snakemake notes in a hidden file when a directory was made: linked, the copy would date the original anew."""
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm/weights").write_text("1.0")
    (tmp_path / "llm/.made").touch()
    link_tree(tmp_path / "llm", tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["weights"]
    assert (tmp_path / "model/weights").samefile(tmp_path / "llm/weights")


def test_writing_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing was written"), atomic_path(tmp_path / "x"):
        pass


def test_a_full_disk_while_writing_rows(tmp_path):
    def rows():
        yield {"text": "one"}
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_jsonl(tmp_path / "corpus.jsonl", rows())
    assert list(tmp_path.iterdir()) == []
    write_jsonl(tmp_path / "corpus.jsonl", [{"text": "Beyoncé"}])
    assert read_jsonl(tmp_path / "corpus.jsonl") == [{"text": "Beyoncé"}]


def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"text": "one"}\n{"text": "tw', "line 2: "),  # cut in mid-line
        ('{"text": "one"}\n{"text": "two"}', "line 2 has no end"),
        ('{"text": "one"}\n3\n', "line 2 is no object"),
        ("", "it has no line"),
        ('{"text": "one"}\n\x00\x00\x00', "line 2: "),  # what a lost write leaves
    ],
)
def test_json_lines_that_are_cut(tmp_path, text, fault):
    path = tmp_path / "corpus.jsonl"
    path.write_text(text)
    with pytest.raises(DamagedError) as raised:
        read_jsonl(path)
    said = str(raised.value)
    assert said.startswith(f"{path} is damaged")
    assert fault in said
    assert f"delete {path} and start again" in said
    assert "\n" not in said


def test_tables_and_tensors_that_are_cut(tmp_path):
    import torch
    from safetensors.torch import save_file

    table, tensors = tmp_path / "probes.parquet", tmp_path / "states" / "00000.safetensors"
    pd.DataFrame({"score": range(100)}).to_parquet(table)
    tensors.parent.mkdir()
    save_file({"states": torch.zeros(100)}, tensors)
    assert len(read_parquet(table)) == 100
    assert list(read_tensors(tensors)) == ["states"]
    for path, read in ((table, read_parquet), (tensors, lambda path: read_tensors(path, path.parent))):
        cut(path)
        with pytest.raises(DamagedError) as raised:
            read(path)
        assert str(raised.value).startswith(f"{path} is damaged")
        assert f"delete {table if path == table else tensors.parent} and" in str(raised.value)
    with pytest.raises(DamagedError, match=r"nowhere\.json is damaged, cut or missing"):
        read_json(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model.safetensors", cut),
        ("model.safetensors", lambda path: path.write_bytes(b"")),
        ("config.json", cut),
        ("tokenizer.json", cut),
        ("model.safetensors.index.json", cut),
        ("model.safetensors.index.json", lambda path: path.write_text("[]")),
        ("model.safetensors.index.json", lambda path: path.write_text('{"weight_map": {"a": "gone.safetensors"}}')),
    ],
)
def test_a_model_with_a_damaged_file_is_not_read(tiny, tmp_path, name, change):
    from atu.engine.models import load_llm

    copy = tmp_path / "llm"
    shutil.copytree(tiny / "llm", copy)
    (copy / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.safetensors"}}')
    check_weights(copy)
    change(copy / name)
    with pytest.raises(DamagedError, match=f"{copy}/{name} is damaged.*delete {copy} and start again"):
        load_llm(copy)


def test_an_encoder_and_a_predictor_with_a_damaged_file_are_not_read(tiny, tmp_path):
    from atu.alignment.encoder import load_encoder
    from atu.alignment.predictor import EmbeddingPredictor

    shutil.copytree(tiny / "encoder", tmp_path / "encoder")
    cut(next((tmp_path / "encoder").rglob("*.safetensors")))
    with pytest.raises(DamagedError, match=r"model.safetensors is damaged"):
        load_encoder(tmp_path / "encoder", "cpu")
    EmbeddingPredictor(4, 4, width=4, layers=1, heads=1, dropout=0.0).save(tmp_path / "predictor")
    for name in ("predictor.safetensors", "predictor.json"):
        shutil.copytree(tmp_path / "predictor", tmp_path / name)
        cut(tmp_path / name / name)
        with pytest.raises(DamagedError, match=f"{name}/{name} is damaged.*delete {tmp_path}/{name} and"):
            EmbeddingPredictor.load(tmp_path / name, [])


def test_states_and_windows_that_are_cut_are_not_read(tmp_path):
    import torch
    from safetensors.torch import save_file

    from atu.alignment.hidden import HiddenStates
    from atu.alignment.windows import WindowedCorpus

    states = tmp_path / "states"
    states.mkdir()
    save_file({"hidden_states": torch.zeros(4, 2)}, states / "00000.safetensors")
    corpus = WindowedCorpus(torch.arange(4), torch.tensor([0, 4]), torch.zeros(4), torch.zeros(1, 2))
    shards = [{"file": "00000.safetensors", "first_token": 0}]
    write_json(states / "index.json", {"tokens": 4, "texts": corpus.checksum, "shards": shards})
    assert HiddenStates(states, corpus).size == 2
    cut(states / "00000.safetensors")
    with pytest.raises(DamagedError, match=f"00000.safetensors is damaged.*delete {states} and"):
        HiddenStates(states, corpus)
    (states / "00000.safetensors").unlink()
    with pytest.raises(DamagedError, match=r"00000.safetensors is damaged, cut or missing"):
        HiddenStates(states, corpus)
    for text in ('{"tokens": 4', "{}", '{"tokens": 4, "shards": [{}]}'):
        (states / "index.json").write_text(text)
        with pytest.raises(DamagedError, match=f"index.json is damaged.*delete {states} and"):
            HiddenStates(states, corpus)
    windows = tmp_path / "1_Ada.safetensors"
    save_file({"input_ids": torch.zeros(4)}, windows)
    with pytest.raises(DamagedError, match=r"1_Ada.safetensors is damaged"):  # bounds are not there
        WindowedCorpus.load(windows)
    cut(windows)
    with pytest.raises(DamagedError, match=r"1_Ada.safetensors is damaged"):
        WindowedCorpus.load(windows)
