"""What results say of the settings and the host that made them."""

import platform

from atu.runtime import job_log, provenance, start


def test_settings_and_their_hash():
    one, same = provenance(a=1, b={"c": 2}), provenance(b={"c": 2}, a=1)
    assert one["settings"] == {"a": 1, "b": {"c": 2}}
    assert len(one["settings_sha256"]) == 64
    assert one["settings_sha256"] == same["settings_sha256"] != provenance(a=2, b={"c": 2})["settings_sha256"]


def test_a_jobs_log_names_its_host(tmp_path):
    with job_log(tmp_path / "job.log"):
        start(seed=3, threads=1, device="cpu")
    assert f"CPU on {platform.node()}, 1 threads, seed 3" in (tmp_path / "job.log").read_text()
