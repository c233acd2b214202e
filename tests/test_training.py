"""The training loop: its schedule and clipping by hand, its log, and what trackers see of it."""

import time

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.optim.lr_scheduler import LambdaLR

from atu.common.divergence import divergence, mark_diverged, rate_of
from atu.common.errors import DivergedError, ExplainedError
from atu.common.runtime import stage_seed, start
from atu.engine.batching import random_batches
from atu.training.loop import share_of_rate, train

TRACKING = {"trackers": ["tensorboard", "wandb"], "project": "tiny"}


def descend(accelerator, **options):
    """Three steps of plain SGD on w * w from w = 1; the log and the weight."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    options = {"steps": 3, "optimizer": "sgd", "learning_rate": 0.1, "title": "descend"} | options
    log = train(accelerator, [weight], iter(lambda: None, 0), lambda _: {"loss": weight.square().sum()}, **options)
    return log, weight.item()


def test_three_steps_by_hand():
    log, weight = descend(Accelerator(cpu=True), clip_norm=10.0)
    assert [row["loss"] for row in log] == pytest.approx([1.0, 0.64, 0.4096])  # w: 1, 0.8, 0.64
    assert [row["grad_norm"] for row in log] == pytest.approx([2.0, 1.6, 1.28])
    assert weight == pytest.approx(0.512)


def test_gradients_are_clipped_after_their_norm_is_logged():
    log, weight = descend(Accelerator(cpu=True), clip_norm=1.0)
    assert log[0]["grad_norm"] == pytest.approx(2.0)
    assert weight == pytest.approx(0.7)  # three steps of 0.1


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_fused_steps_are_the_same(optimizer):
    found = [descend(Accelerator(cpu=True), optimizer=optimizer, weight_decay=0.1, fused=one) for one in (False, True)]
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-6)
    assert found[1][1] < 0.95


def test_warmup_and_cosine():
    log, _ = descend(Accelerator(cpu=True), warmup_steps=1, schedule="cosine")
    # 0, then the cosine from 1 over the two steps that are left: cos(0), cos(pi / 2)
    assert [row["learning_rate"] for row in log] == pytest.approx([0.0, 0.1, 0.05])


@pytest.mark.parametrize("schedule", ["constant", "constant_with_warmup", "linear", "cosine"])
@pytest.mark.parametrize(("warmup", "steps"), [(0, 7), (3, 7), (7, 7), (9, 7), (0, 1)])
def test_schedules_are_those_of_transformers(schedule, warmup, steps):
    from transformers import get_scheduler

    def optimizer():
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)

    theirs = get_scheduler(schedule, optimizer(), num_warmup_steps=warmup, num_training_steps=steps)
    ours = LambdaLR(optimizer(), lambda step: share_of_rate(schedule, step, warmup, steps))
    for _ in range(steps + 1):
        assert ours.get_last_lr() == theirs.get_last_lr()
        for scheduler in (ours, theirs):
            scheduler.optimizer.step()
            scheduler.step()


def test_an_unknown_schedule():
    with pytest.raises(ValueError, match="unknown schedule 'cosin'"):
        descend(Accelerator(cpu=True), schedule="cosin")


def test_accumulated_batches_are_a_mean():
    log, weight = descend(Accelerator(cpu=True), accumulate=2, clip_norm=10.0, steps=1)
    assert log[0]["loss"] == pytest.approx(1.0)
    assert weight == pytest.approx(0.8)


@pytest.mark.full
def test_trackers_see_every_step(tmp_path, monkeypatch):
    """TensorBoard's events hold the numbers of the log; W&B, offline, keeps its own file of the run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    accelerator = start(0, 1, "cpu", tracking=TRACKING | {"folder": str(tmp_path)}, run="results/one")
    log, _ = descend(accelerator)
    second, _ = descend(accelerator, title="align", tracked_before=len(log))
    accelerator.end_training()
    events = EventAccumulator(str(tmp_path / "results/one/tiny"))
    events.Reload()
    for title, rows, first in (("descend", log, 1), ("align", second, 4)):
        for name in ("loss", "grad_norm", "learning_rate"):
            seen = events.Scalars(f"{title}/{name}")
            assert [event.step for event in seen] == [first, first + 1, first + 2]
            assert [event.value for event in seen] == pytest.approx([row[name] for row in rows])
    deadline = time.monotonic() + 120  # another process writes the file, and on a busy machine after `finish` returns
    while not (kept := list(tmp_path.glob("results/one/wandb/offline-run-*/run-*.wandb"))) or (
        b"descend/loss" not in kept[0].read_bytes()
    ):
        assert time.monotonic() < deadline, kept
        time.sleep(0.5)
    assert len(kept) == 1


def test_a_tracker_without_its_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with pytest.raises(RuntimeError, match="no package for tensorboard, wandb: install it"):
        start(0, 1, "cpu", tracking=TRACKING | {"folder": str(tmp_path)}, run="one")


def test_any_seed_has_stages():
    """Those of seeds up to 4294966 are what they always were; those of larger ones are below 2**32 and differ."""
    assert [stage_seed(seed, 3) for seed in (0, 7, 4294966)] == [3, 7003, 4294966003]
    large = [stage_seed(seed, stage) for seed in (4294967, 20261125, 536870912, 2**32 - 1) for stage in (1, 300, 301)]
    assert len(set(large)) == len(large)
    for seed in [*large, 2**32 - 1]:
        set_seed(seed)
        next(random_batches([1, 2], 1, 1, seed))


def test_divergence_names_its_setting_and_leaves_a_mark(tmp_path):
    with (
        pytest.raises(
            DivergedError, match=r"not finite at step \d; .*1e\+30.* \(method_settings\.x\.train\)$"
        ) as raised,
        rate_of("method_settings.x.train"),
    ):
        descend(Accelerator(cpu=True), learning_rate=1e30)
    assert divergence(tmp_path / "1") is None
    mark_diverged(tmp_path / "1", raised.value, 1)
    assert divergence(tmp_path / "1") == str(raised.value)


def test_a_warm_up_that_is_never_over(caplog):
    """One step of warm-up alone has a rate of 0; of three a third of the rate is reached, and said."""
    with pytest.raises(ExplainedError, match=r"of 1 steps all are warm-up .* is 0 and nothing would be trained"):
        descend(Accelerator(cpu=True), steps=1, warmup_steps=5)
    with caplog.at_level("WARNING", logger="atu"):
        log, _ = descend(Accelerator(cpu=True), warmup_steps=6)
    assert [row["learning_rate"] for row in log] == pytest.approx([0, 0.1 / 6, 0.2 / 6])
    assert "reaches 33% of 0.1" in caplog.text
