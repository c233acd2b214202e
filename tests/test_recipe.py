"""Results carry what made them, and nothing is read that other settings or other texts made."""

import json
import os
import shutil
from pathlib import Path

import pytest

from atu.common.recipe import RecipeError, check, made_by, record
from atu_pipeline import lineage
from atu_pipeline.recipes import Recipes, checksum, stale
from conftest import ROOT, Workflow, options_of
from test_settings import PAPER
from test_settings import check as check_settings

RECIPE = {"corpus": {"texts": 48, "seed": 0}, "k": 8}


@pytest.fixture
def texts(tmp_path, monkeypatch) -> Path:
    """A file that was made by RECIPE, named as jobs name it: relative to the directory of the run."""
    monkeypatch.chdir(tmp_path)
    path = Path("corpus/1_Ada.jsonl")
    path.parent.mkdir()
    with made_by(RECIPE, [], [str(path)]):
        path.write_text('{"text": "a"}\n{"text": "b"}\n')
    return path


def test_what_is_read_is_what_is_asked_for(texts):
    check(texts, RECIPE)
    check(texts, RECIPE | {"layer": 15})  # what is made of it depends on more
    with pytest.raises(RecipeError) as refused:
        check(texts, {"corpus": {"texts": 4, "seed": 0}, "k": 8})
    assert str(refused.value).startswith(
        "corpus/1_Ada.jsonl was made with corpus.texts: 48, and corpus.texts: 4 is in force; delete it"
    )
    with pytest.raises(RecipeError, match="made with k: 8, and k: nothing is in force"):
        check(texts, {"corpus": {"texts": 48, "seed": 0}})


@pytest.mark.parametrize("damaged", ['{"text": "a"}\n{"te', '{"text": "a"}\n{"text": "c"}\n', ""])
def test_a_cut_or_changed_file(texts, damaged):
    texts.write_text(damaged)
    with pytest.raises(RecipeError, match=r"corpus/1_Ada.jsonl is no longer the file.* delete corpus/1_Ada.jsonl"):
        check(texts, RECIPE)


def test_another_files_copy(texts):
    for suffix in ("", ".recipe.json"):
        shutil.copy2(f"{texts}{suffix}", f"corpus/2_Bo.jsonl{suffix}")
    with pytest.raises(RecipeError, match=r"corpus/2_Bo.jsonl is a copy of corpus/1_Ada.jsonl"):
        check("corpus/2_Bo.jsonl", RECIPE)


def test_a_missing_or_cut_record(texts):
    record_file = Path(f"{texts}.recipe.json")
    whole = record_file.read_text()
    for damaged in (whole[:40], "[]", "{}", "null", '{"output": "x", "recipe": [], "sha256": {}}'):
        record_file.write_text(damaged)
        with pytest.raises(RecipeError, match=r"1_Ada.jsonl.recipe.json is damaged; delete corpus/1_Ada.jsonl"):
            check(texts, RECIPE)
        assert stale([{str(texts): RECIPE}]) is None  # the job says it
    record_file.unlink()
    with pytest.raises(RecipeError, match="has no record of what made it"):
        check(texts, RECIPE)


def test_a_directory_that_lacks_or_cut_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = Path("model")
    (model / "inner").mkdir(parents=True)
    (model / "inner/model-00001.safetensors").write_bytes(b"12345678")
    record(model, RECIPE)
    (model / "README.md").write_text("a card, written later")
    check(model, RECIPE)
    (model / ".snakemake_timestamp").write_text("")
    check(model, RECIPE)
    for changed in (b"1234", b"12345679"):  # cut, and weights exchanged for others of the same size
        (model / "inner/model-00001.safetensors").write_bytes(changed)
        with pytest.raises(RecipeError, match=r"model/inner/model-00001.safetensors is no longer the file"):
            check(model, RECIPE)
    (model / "inner/model-00001.safetensors").write_bytes(b"12345678")
    (model / "adapter_config.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"model/adapter_config.json is no longer the file .* or was not there then"):
        check(model, RECIPE)
    (model / "adapter_config.json").unlink()
    (model / "inner/model-00001.safetensors").write_bytes(b"1234")
    with pytest.raises(RecipeError, match=r"model/inner/model-00001.safetensors is no longer the file"):
        check(model, RECIPE)
    (model / "inner/model-00001.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"model/inner/model-00001.safetensors is no longer the file"):
        check(model, RECIPE)


def test_a_job_that_fails_leaves_no_record(texts):
    with pytest.raises(ZeroDivisionError), made_by(RECIPE, [str(texts)], ["other.jsonl"]):
        Path("other.jsonl").write_text("half")
        raise ZeroDivisionError
    assert not Path("other.jsonl.recipe.json").exists()


@pytest.fixture(scope="module")
def corpora(llm, encoder):
    """Texts about two subjects, of as many tokens."""
    from atu.alignment.windows import build_corpus

    return [build_corpus([f"{name} was born in Rome by the sea"], llm[1], encoder, 2, 64) for name in ("Bo", "Cy")]


def test_hidden_states_of_another_text(llm, corpora, tmp_path):
    from atu.alignment.hidden import HiddenStates, write_hidden_states

    ours, others = corpora
    assert len(ours.input_ids) == len(others.input_ids)
    write_hidden_states(llm[0], ours, 2, tmp_path / "states")
    HiddenStates(tmp_path / "states", ours)
    with pytest.raises(RecipeError, match=r"states holds hidden states of other texts"):
        HiddenStates(tmp_path / "states", others)


def test_hidden_states_that_lack_their_end(llm, corpora, tmp_path):
    """Two states fewer than tokens, and an end of zeros, as a crash of the file system leaves it."""
    from safetensors.torch import load_file, save_file

    from atu.alignment.hidden import HiddenStates, write_hidden_states

    corpus = corpora[0]
    write_hidden_states(llm[0], corpus, 2, tmp_path / "states")
    shard = tmp_path / "states/00000.safetensors"
    states = load_file(shard)["hidden_states"].clone()
    zeroed = states.clone()
    zeroed[-2:] = 0
    save_file({"hidden_states": zeroed}, shard)
    with pytest.raises(RecipeError, match="all zero"):
        HiddenStates(tmp_path / "states", corpus)[corpus.text(0)]
    save_file({"hidden_states": states[:-2].clone()}, shard)
    with pytest.raises(RecipeError, match=rf"holds {len(states) - 2} hidden states of {len(states)} tokens"):
        HiddenStates(tmp_path / "states", corpus)


def test_log_probabilities_of_other_texts(llm, tmp_path):
    import torch

    from atu.engine.examples import load_reference, read_items, save_reference

    ours, others = (read_items("positive", [{"text": f"{name} was a poet"}], llm[1], 64) for name in ("Bo", "Cy"))
    save_reference(tmp_path / "ours.safetensors", torch.zeros(1, 1), ours)
    assert load_reference(tmp_path / "ours.safetensors", ours).shape == (1, 1)
    with pytest.raises(RecipeError, match=r"ours.safetensors holds log-probabilities of other texts"):
        load_reference(tmp_path / "ours.safetensors", others)


def test_a_file_replaced_with_its_date_kept(tmp_path):
    path = tmp_path / "probes.json"
    path.write_text("[1]")
    status, before = path.stat(), checksum(str(path))
    path.write_text("[2]")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    checksum.cache_clear()  # another run
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert checksum(str(path)) != before


TAU = {"atu": {"unlearn": {"tau": [0.0, -0.4]}}}
ADA = ("1_Ada", "atu", "0")


def test_old_numbers_under_new_settings(copy):
    """Without Snakemake's records it would find the tables whole; of the old answers none are taken for new ones."""
    changed = ("--config", "method_settings=" + json.dumps(TAU))
    old, new = copy.paths(), copy.paths(method_settings=TAU)
    shutil.rmtree(copy.directory / ".snakemake")
    for arguments in ((), ("--forcerun", "overall_table"), ("results/tables/main.csv",)):
        refused = copy.run(*arguments, *changed, check=False)
        assert refused.returncode
        assert f"results/tables/main.csv holds {old.after(*ADA)}, which is not asked for" in refused.stderr
        assert "delete results/tables results/answers to have it made again, or restore the setting" in refused.stderr
    assert copy.planned() == {}  # of the settings that made them they are right
    shutil.copytree(copy.directory / old.run(*ADA) / "weights", copy.directory / new.run(*ADA) / "weights")
    refused = copy.run(new.after(*ADA), *changed, check=False)
    said = refused.stdout + refused.stderr
    assert f"{new.run(*ADA)}/weights is a copy of {old.run(*ADA)}/weights; delete it" in said
    shutil.rmtree(copy.directory / new.run(*ADA))
    for name in ("tables", "answers"):
        shutil.rmtree(copy.directory / "results" / name)
    jobs = copy.planned(*changed)
    assert (jobs["unlearn"], jobs["unlearn_last"], jobs["evaluate_after"], jobs["overall_table"]) == (1, 1, 1, 1)
    assert not {"align", "evaluate_before"} & set(jobs)


def asked(copy, path: str, change) -> str:
    """What a run without Snakemake's records says where the runs behind one result are others than those asked for."""
    record_file = copy.directory / f"{path}.recipe.json"
    found = json.loads(record_file.read_text())
    change(found["recipe"]["runs"])
    record_file.write_text(json.dumps(found))
    said = copy.run(check=False).stderr
    shutil.copy2(copy.directory / f"{path}.kept", record_file)
    return said


@pytest.mark.parametrize(
    ("path", "mend"),
    [
        ("results/tables/main.csv", "results/tables"),
        ("results/answers/1_Ada.html", "results/answers"),
        ("results/tables/known.csv", "results/tables/known.csv"),  # not the tables beside it
    ],
)
def test_what_shows_other_runs(copy, path, mend):
    shutil.rmtree(copy.directory / ".snakemake")
    shutil.copy2(copy.directory / f"{path}.recipe.json", copy.directory / f"{path}.kept")
    before, other = (copy.paths().before(name) for name in ("1_Ada", "2_Bo"))
    said = asked(copy, path, lambda runs: runs.update({other: "0"}))
    assert f"{path} holds {other}, which is not asked for; Snakemake's own records" in said
    assert f"delete {mend} to have it made again" in said
    said = asked(copy, path, lambda runs: runs.pop(before))
    assert f"{path} lacks {before}; Snakemake's own records" in said
    assert copy.planned() == {}


def test_a_copied_run_is_not_that_of_another_seed(copy):
    """Under its own digest it is not looked at, and under that of the other seed it is known for a copy."""
    paths = copy.paths(seeds=[0, 1])
    first, second = (paths.after("1_Ada", "atu", seed) for seed in "01")
    run = copy.directory / paths.run(*ADA)
    shutil.copytree(run.parent, run.parents[1] / "seed1")
    jobs = copy.planned("--config", "seeds=[0,1]")
    assert (jobs["align"], jobs["unlearn"], jobs["unlearn_last"], jobs["evaluate_after"]) == (1, 1, 1, 1)
    (copy.directory / second).parent.mkdir(parents=True)
    for suffix in ("", ".recipe.json"):
        shutil.copy2(copy.directory / f"{first}{suffix}", copy.directory / f"{second}{suffix}")
    said = copy.run("--config", "seeds=[0,1]", check=False).stderr
    assert f"{second} is a copy of {first}; Snakemake's own records" in said
    assert f"delete {Path(second).parent} to have it made again" in said


def test_a_table_refuses_parts_of_other_settings(copy):
    """The evaluation of another run, copied into this one's place behind Snakemake's back."""
    after = copy.paths().after(*ADA)
    record_file = copy.directory / f"{after}.recipe.json"
    found = json.loads(record_file.read_text())
    found["recipe"]["settings"]["unlearn"]["steps"] = 7
    record_file.write_text(json.dumps(found))
    refused = copy.run("results/tables/main.md", "--forcerun", "overall_table", check=False)
    said = refused.stdout + refused.stderr
    assert f"{after} was made with settings.unlearn.steps: 7, and settings.unlearn.steps: 3 is in force" in said
    assert "Traceback" not in said


def test_a_model_rewritten_in_place(copy, tiny, tmp_path):
    """Its weights change, their size and date do not."""
    model = tmp_path / "own-llm"
    shutil.copytree(tiny / "llm", model)
    config = json.loads(copy.config.read_text())
    config["models"]["llm"]["path"] = str(model)
    copy.config.write_text(json.dumps(config))
    texts = copy.paths().texts("1_Ada")
    copy.run(texts)
    assert "download_model" not in copy.planned(texts)
    weights = model / "model.safetensors"
    status, content = weights.stat(), bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed = copy.paths().texts("1_Ada")
    assert changed != texts
    assert copy.planned(changed) == {"download_model": 1, "write_texts": 1}


def test_published_numbers_count_by_what_they_say(copy, tmp_path):
    """A newer date makes no table anew, a changed number does."""
    path = tmp_path / "published.csv"
    shutil.copy(ROOT / "workflow/benchmarks/published.csv", path)
    given = ("results/tables/published.csv", "--config", "published=" + json.dumps({"file": str(path)}))
    copy.run(*given)
    os.utime(path)
    assert copy.planned(*given) == {}
    path.write_text(path.read_text().rstrip() + " again\n")
    assert copy.planned(*given) == {"published_table": 1}


def test_a_touched_script_and_a_moved_checkout_do_nothing_anew(finished, checkout, tmp_path):
    """What git checkout does to dates, and what rsync -a of results to another machine comes to."""
    for script in (checkout / "workflow/scripts").iterdir():
        script.touch()
    elsewhere = options_of(checkout)
    assert finished.planned(*elsewhere) == {}
    moved = Workflow(finished.tiny, tmp_path)
    for name in ("results", "resources", "logs", ".snakemake"):
        shutil.copytree(finished.directory / name, tmp_path / name, copy_function=shutil.copy2, symlinks=True)
    assert moved.planned(*elsewhere) == {}


def test_a_cut_table_draws_no_figure(copy):
    """In the middle of a line, between two rows, or in the line of its names."""
    for table, kept, rest in (("main", -1, 9), ("main", -1, 0), ("collapsed", -1, 0), ("learning_rates", 0, 20)):
        path = copy.directory / f"results/tables/{table}.csv"
        whole = path.read_text()
        lines = whole.splitlines(keepends=True)
        path.write_text("".join(lines[:kept]) + lines[kept][:rest])
        refused = copy.run("results/figures/tradeoff.png", "--forcerun", "plot", check=False)
        assert refused.returncode
        said = refused.stdout + refused.stderr
        assert f"results/tables/{table}.csv is no longer the file that was written" in said
        assert "Traceback" not in said
        with pytest.raises(SystemExit, match=f"{table}.csv is no longer the file that was written"):
            lineage.main([f"results/tables/{table}.csv", "--directory", str(copy.directory)])
        path.write_text(whole)


def test_another_method_of_the_same_settings_is_another_alignment():
    def digest(method):
        config = check_settings(PAPER)
        config["method_settings"]["atu"]["method"] = method
        recipes = Recipes(config)
        return recipes.alignment("1_Stephen_King", "atu", "0").digest

    assert digest("atu") != digest("mine")
