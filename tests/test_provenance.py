"""What results say of the settings and the host that made them."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from atu.common.runtime import COMMIT, code_version, job_log, provenance, start
from atu_pipeline.settings import share_library
from conftest import ROOT


def test_settings_and_their_hash():
    one, same = provenance(a=1, b={"c": 2}), provenance(b={"c": 2}, a=1)
    assert one["settings"] == {"a": 1, "b": {"c": 2}}
    assert len(one["settings_sha256"]) == 64
    assert one["settings_sha256"] == same["settings_sha256"] != provenance(a=2, b={"c": 2})["settings_sha256"]


def test_a_jobs_log_names_its_host(tmp_path):
    with job_log(tmp_path / "job.log"):
        start(seed=3, threads=1, device="cpu")
    assert f"CPU on {platform.node()}, 1 threads, seed 3" in (tmp_path / "job.log").read_text()


@pytest.fixture
def repository(tmp_path) -> Path:
    """A repository with this checkout's file for archives, at one commit."""
    place = tmp_path / "repository"
    (place / "workflow").mkdir(parents=True)
    shutil.copy2(ROOT / "workflow/commit.txt", place / "workflow")
    shutil.copy2(ROOT / ".gitattributes", place)
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *command], cwd=place, check=True)
    return place


def head(place: Path) -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=place, capture_output=True, text=True).stdout.strip()


def test_the_commit_of_a_checkout(repository):
    clean = code_version(repository)
    assert head(repository).startswith(clean)
    (repository / "workflow/commit.txt").write_text("changed\n")
    assert code_version(repository) == f"{clean}-dirty"


def test_an_archive_says_its_own_commit_wherever_it_is_unpacked(repository, tmp_path):
    commit = head(repository)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=repository, capture_output=True, check=True).stdout
    inside = repository / "elsewhere"
    inside.mkdir()
    subprocess.run(["tar", "x"], cwd=inside, input=archive, check=True)
    assert code_version(inside) == commit
    (inside / "workflow/commit.txt").write_text("$Format:%H$\n")  # copied from a checkout, not out of an archive
    assert code_version(inside) is None, "the repository around it has nothing to say of it"


def test_another_owners_checkout_and_a_machine_without_git(repository, monkeypatch, tmp_path):
    clean = code_version(repository)
    if os.getuid() == 0:
        for path in [repository, *repository.rglob("*")]:
            os.chown(path, 65534, 65534)
        assert code_version(repository) == clean
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_version(repository) is None


def test_the_commit_is_taken_once_where_a_run_starts(repository, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv(COMMIT, "of-another-run")
    share_library(repository, first=True)
    started = os.environ[COMMIT]
    assert head(repository).startswith(started)
    assert provenance()["git_commit"] == started
    (repository / "workflow/commit.txt").write_text("changed while it runs\n")
    share_library(repository, first=False)
    assert os.environ[COMMIT] == started
