"""What jobs ask for: the formulas against numbers worked out by hand, and what follows for the paper's config."""

import json
import shutil

import pytest

from atu.common.memory import Memory
from atu.data.benchmark import UTILITY
from atu.data.probe_sets import PROBE_SETS
from atu_pipeline import demands, plan, resources, start
from atu_pipeline.demands import VOCABULARY, demand, memory_of, ways
from atu_pipeline.records import Job
from atu_pipeline.requests import Requests
from atu_pipeline.resources import Demand, shape
from atu_pipeline.settings import ConfigError
from test_settings import DEMO, PAPER, check

P = 120e6  # 10 layers of width 1000: 12 * 10 * 1000^2


def test_shape():
    assert resources.shape(P) == pytest.approx((10, 1000))
    layers, width = resources.shape(3.82e9)  # Phi-3-mini has 32 of 3072
    assert 30 < layers < 34
    assert 3000 < width < 3300


@pytest.mark.parametrize(
    ("optimizer", "precision", "trained", "memory", "bytes_a_weight"),
    [
        # SGD in fp32: weights and gradients. AdamW adds two moments, bf16 a 16-bit copy
        ("sgd", "fp32", P, Memory(), 8),
        ("adamw", "fp32", P, Memory(), 16),
        ("adamw", "bf16", P, Memory(), 18),
        ("adamw", "bf16", 0, Memory(), 4),
        ("adamw", "bf16", P, Memory(optimizer_state="8bit"), 12.1),
        ("sgd", "bf16", P, Memory(optimizer_state="8bit"), 10),
        # weights and gradients of two bytes; master copies and moments of 4 + 8, here or on the host
        ("adamw", "bf16", P, Memory(weights="bf16"), 16),
        ("adamw", "bf16", P, Memory(weights="bf16", offload=True), 4),
        ("adamw", "bf16", P / 2, Memory(weights="bf16"), 9),
        ("sgd", "bf16", P, Memory(weights="rounded"), 4),
        ("adamw", "bf16", P, Memory(weights="rounded", optimizer_state="8bit"), 6.1),
    ],
)
def test_memory_of_training(optimizer, precision, trained, memory, bytes_a_weight):
    found = resources.training_bytes(P, trained, optimizer, precision, memory)
    assert found == pytest.approx(bytes_a_weight * P)
    # a frozen model beside it: its weights once more
    more = resources.training_bytes(P, trained, optimizer, precision, memory, frozen=1) - found
    assert more == pytest.approx((4 if memory.weights == "fp32" else 2) * P)


@pytest.mark.parametrize(
    ("memory", "more"),
    [
        # by hand, AdamW: 4 of the weight, 4 of its gradient, 8 of its moments, less what any other weight holds
        (Memory(), 0),
        (Memory(weights="bf16"), 16 - 16),
        (Memory(weights="bf16", offload=True), 16 - 4),
        (Memory(weights="bf16", optimizer_state="8bit"), 10.1 - 10.1),
        (Memory(weights="rounded", optimizer_state="8bit"), 10.1 - 6.1),
        (Memory(weights="rounded", offload=True), 16 - 4),
    ],
)
def test_an_embedding_stays_float32_on_the_gpu(memory, more):
    size = 1e6
    plain = resources.training_bytes(P, P, "adamw", "bf16", memory)
    found = resources.training_bytes(P, P, "adamw", "bf16", memory, embedding=size, embedding_trains=True)
    assert found - plain == pytest.approx(more * size)
    # where it does not train, its weights alone: 2 bytes more, and so of each model beside
    plain = resources.training_bytes(P, 0, "adamw", "bf16", memory, frozen=1)
    found = resources.training_bytes(P, 0, "adamw", "bf16", memory, frozen=1, embedding=size)
    assert found - plain == pytest.approx(0 if memory.weights == "fp32" else 4 * size)


def test_what_is_asked_for_knows_the_embedding():
    """Offloaded NPO by AdamW on 10 layers of width 1000: 12 bytes more for each of 50,000 vectors; in layers, 2."""
    model = {"phi-3-mini-4k-instruct": {"parameters": P, "layers": 10}}
    memory = Memory(weights="bf16", offload=True)

    def device(vocabulary, **npo):
        model["phi-3-mini-4k-instruct"]["vocabulary"] = vocabulary
        config = check(PAPER, methods=["npo"], models=model, method_settings={"npo": npo})
        block = config["method_settings"]["npo"]
        batch = block["train"]["batch_size"] * block["max_tokens"]
        return demand("train", config, "npo", memory=memory).device - resources.logits_bytes(batch, vocabulary)

    assert device(50_000) - device(1) == pytest.approx(12 * 50_000_000, rel=1e-3)
    assert device(50_000, layers="2-5") - device(1, layers="2-5") == pytest.approx(2 * 50_000_000, rel=1e-3)


def test_between_two_steps_there_are_no_gradients():
    """By hand: float32 weights and two moments; bf16 ones, master copies and two moments; offloaded, weights alone."""
    for memory, bytes_a_weight in (
        (Memory(), 12),
        (Memory(weights="bf16"), 14),
        (Memory(weights="bf16", offload=True), 2),
    ):
        assert resources.training_bytes(P, P, "adamw", "bf16", memory, gradients=False) == bytes_a_weight * P


def test_a_model_that_is_relearned_is_asked_with_the_weights_that_train():
    """Adapters: float32 weights, 4 bytes each, and the keys and values of a batch of prompts."""
    relearn = {"attack": "relearn", "lora": {"rank": 1}}
    config = check(PAPER, attacks={"relearn-target": relearn})
    memory = Memory(gradient_checkpointing=True)
    cache = demands.key_values(config, config["evaluation"]["batch_tokens"], "bf16")
    asked = demand("attack_after", config, "relearn-target", memory=memory).device
    assert asked > 4 * 3.82e9 + cache
    half = demand("attack_after", config, "relearn-target", memory=Memory(weights="bf16", gradient_checkpointing=True))
    embedding = demands.embedding_parameters(config)
    assert asked - half.device == pytest.approx(2 * (3.82e9 - embedding), rel=1e-2)


def test_memory_of_the_host_while_training():
    """Float32 values of all weights beside bf16 ones, and two moments where they are offloaded."""
    assert resources.host_bytes(P, P, "adamw", Memory()) == 0
    assert resources.host_bytes(P, P, "adamw", Memory(weights="bf16")) == 4 * P
    assert resources.host_bytes(P, P / 2, "adamw", Memory(weights="bf16", offload=True)) == 8 * P


def test_auto_takes_the_most_exact_way_that_fits():
    """NPO on 8 billion weights by AdamW: 18 bytes a weight, 16 with bf16 weights, 4 with the rest on the host."""

    def chosen(room, **over):
        config = check(PAPER, methods=["npo", "npo-lora", "atu"], memory="auto", **over)
        config["models"][config["llm"]]["parameters"] = 8.03e9
        config["hardware"]["gpu_memory_gb"] = room
        return config

    full, half = Memory(), {"weights": "bf16", "gradient_checkpointing": True}
    assert memory_of(chosen(1000), "train", "npo") == full
    assert memory_of(chosen(80), "train", "npo") == Memory(**half, offload=True)
    assert memory_of(chosen(100), "train", "npo-lora") == full  # with 16-bit copies of all that gradients pass
    assert memory_of(chosen(80), "train", "npo-lora") == Memory(gradient_checkpointing=True)
    assert memory_of(chosen(60), "train", "npo-lora") == Memory(gradient_checkpointing=True)
    assert memory_of(chosen(40), "train", "npo-lora") == Memory(**half)
    assert memory_of(chosen(80), "unlearn", "atu") == Memory(gradient_checkpointing=True)
    assert memory_of(chosen(60), "unlearn", "atu") == Memory(**half, offload=True)
    assert memory_of(chosen(40, device="cpu"), "train", "npo") == full
    with pytest.raises(ConfigError, match=r"method_settings\.npo needs [0-9]+ GB of GPU memory at least, and hardware"):
        memory_of(chosen(20), "train", "npo")
    with pytest.raises(ConfigError):  # without bf16 there is nothing smaller
        memory_of(chosen(80, precision="fp32"), "train", "npo")


def test_memory_of_a_model_in_shards():
    """A quarter of what one GPU would hold, and a layer's weights and gradients: 8 bytes of 12 million; or, where it is
    larger, those of an embedding of 20,000 tokens and 1000 hidden units."""
    full, anew = Memory(), Memory(gradient_checkpointing=True)
    assert resources.sharded_bytes(4e9, P, 1000, "bf16", full, 1) == 4e9
    assert resources.sharded_bytes(4e9, P, 1000, "bf16", anew, 4) == pytest.approx(1e9 + 8 * 12e6)
    assert resources.sharded_bytes(4e9, P, 20_000, "fp32", full, 4) == pytest.approx(1e9 + 8 * 20e6)
    # 16-bit copies of all weights, whole on each, of which a quarter is among the 4 GB
    assert resources.sharded_bytes(4e9, P, 1000, "bf16", full, 4) == pytest.approx(1e9 + 8 * 12e6 + 1.5 * P)


def test_several_gpus_hold_what_one_does_not():
    """NPO on 8 billion weights: one GPU of 80 GB has no room for float32 weights and moments, four have."""

    def needed(gpus, method="npo"):
        over = {"gpus_per_job": gpus, "methods": ["npo", "rmu", "atu"], "memory": "auto"}
        config = check(PAPER, **over)
        config["models"][config["llm"]]["parameters"] = 8.03e9
        return config, demand({"atu": "unlearn"}.get(method, "train"), config, method, memory=Memory())

    (config, one), (_, four) = needed(1), needed(4)
    assert memory_of(needed(2)[0], "train", "npo") == Memory(gradient_checkpointing=True)
    assert memory_of(needed(4)[0], "train", "npo") == Memory()
    assert set(ways(needed(2)[0], "train", "npo")) == {Memory(), Memory(gradient_checkpointing=True)}
    # 18 bytes a weight, in quarters; a quarter of the batch's activations and logits; 16-bit copies
    assert one.device / 4 < four.device < one.device / 4 + 2 * 8.03e9 + 8 * VOCABULARY * shape(8.03e9)[1] + 1
    assert (four.gpus, four.flop) == (4, one.flop / 4)
    assert four.copies > one.copies  # each process reads the model
    found = Requests(config | {"gpus_per_job": 4}).first("train", "npo", None, 4)
    assert found["gpu"] == 4
    assert found["gpu_mem_mb"] == resources.gpu_mem_mb(four)
    assert Requests(config | {"gpus_per_job": 4}).first("evaluate_after", "npo", None, 4)["gpu"] == 1
    alone, apart = (demand("evaluate_after", config | {"gpus_per_evaluation": gpus}, "npo") for gpus in (1, 4))
    assert (apart.gpus, apart.flop, apart.device, apart.copies) == (4, alone.flop / 4, alone.device, 4 * alone.copies)
    assert Requests(config | {"gpus_per_evaluation": 4}).first("evaluate_after", "npo", None, 4)["gpu"] == 4
    # RMU's batch is computed whole on each
    assert needed(4, "rmu")[1].flop == needed(1, "rmu")[1].flop


def test_lora():
    """Rank 8 on two square maps of each of 10 layers: 2 * 8 * 1000 * 10 * 2."""
    assert resources.lora_parameters(P, 8, 2) == pytest.approx(320_000)


def test_memory_that_grows_with_the_batch():
    tokens = 100
    assert resources.activation_bytes(P, tokens, "bf16") == pytest.approx(34e6 * 1)  # 34 * 100 * 1000 * 10
    assert resources.activation_bytes(P, tokens, "fp32") == pytest.approx(68e6)
    # one layer's 3.4 MB and the inputs of ten, 2 bytes * 100 * 1000 * 10
    assert resources.activation_bytes(P, tokens, "bf16", recomputed=True) == pytest.approx(3.4e6 + 2e6)
    assert resources.cache_bytes(P, tokens, "bf16") == pytest.approx(5.2e6)  # 1.3 * 2 * 2 bytes * 100 * 1000 * 10
    # a token's own 2 MB in ten layers, in place of 340 kB; and its own 20 kB of keys and values, in place of 40
    assert resources.activation_bytes(P, tokens, "fp32", of_token=2e6) == pytest.approx(400e6)
    assert resources.activation_bytes(P, tokens, "bf16", recomputed=True, of_token=2e6) == pytest.approx(20e6 + 2e6)
    assert resources.cache_bytes(P, tokens, "fp32", of_token=2e4) == pytest.approx(5.2e6)
    assert resources.logits_bytes(1, 131072) == 3 * 4 * 131072


def test_work():
    assert resources.forward_flop(P, 10) == 2.4e9
    assert resources.training_flop(P, 10) == 7.2e9
    assert resources.training_flop(P, 10, recomputed=True) == 9.6e9
    assert resources.answering_flop(P, prompt=10, new=2) == pytest.approx(4.8e9)  # 2 P (10 + 2 / 0.2)
    assert resources.answering_flop(P, prompt=10, new=2, share=0.01) == pytest.approx(50.4e9)  # 2 P (10 + 2 / 0.01)


def test_from_work_to_what_is_asked_for():
    job = Demand(flop=6e13, device=10e9, host=1.5e9, copies=0.5e9, moved=20e9, kept=1.5e9)
    assert resources.seconds(job, tflops=2, disk_mb_per_s=200) == pytest.approx(60 + 30 + 100)
    assert resources.minutes(190, margin=3) == 10  # 9.5, rounded up
    assert resources.minutes(10, margin=3) == 10  # never less
    assert resources.minutes(3600, margin=1.5) == 90
    assert resources.gpu_mem_mb(job) == 12_500  # 1.1 * 10 GB and 1.5 GB
    assert resources.gpu_mem_mb(Demand(host=1e9)) == 0
    assert resources.mem_mb(job, on_gpu=True) == 5_000
    # what a GPU would hold lies in memory too, with its allocator's waste, and no copies of it
    assert resources.mem_mb(job, on_gpu=False) == 1_000 + 1_500 + 11_000
    assert resources.mem_mb(Demand(host=1e9), on_gpu=True) == 2_000  # no GPU for a job that needs none
    assert resources.disk_mb(job) == 1_500


def test_gradients_that_pass_frozen_maps():
    """By hand, an adapter of P / 100 weights: 4 P, 12 bytes of each that trains, and 2 bytes of all that is passed."""
    found = resources.training_bytes(P, P / 100, "adamw", "bf16", Memory(), passed=P)
    assert found == pytest.approx(4 * P + 0.12 * P + 2 * P)
    again = resources.training_bytes(P, P / 100, "adamw", "bf16", Memory(gradient_checkpointing=True), passed=P)
    assert again == pytest.approx(4 * P + 0.12 * P)


def test_steps_on_the_host_take_time():
    """By hand: 30 steps of 1.2e8 weights, 3 nanoseconds each with SGD, twice that with AdamW."""
    offloaded = Memory(weights="bf16", offload=True)
    assert resources.step_on_host(P, "sgd", offloaded) == pytest.approx(0.36)
    assert resources.step_on_host(P, "adamw", offloaded) == pytest.approx(0.72)
    assert resources.step_on_host(P, "adamw", Memory(weights="bf16")) == 0
    assert resources.seconds(Demand(flop=6e13, waits=7), tflops=2, disk_mb_per_s=200) == 60 + 30 + 7
    config = check(PAPER, methods=["atu"])
    trained = 3.82e9 * 29 / 32
    assert demand("unlearn", config, "atu", memory=offloaded).waits == pytest.approx(1000 * 3e-9 * trained)
    config = check(PAPER, methods=["ga"], corpus={"source": "generate", "texts": 20})
    steps = 3 * 3  # 20 texts in batches of 8, three epochs
    assert demand("train", config, "ga", memory=offloaded).waits == pytest.approx(steps * 6e-9 * 3.82e9)
    assert demand("train", config, "ga").waits == 0


def test_every_attempt_asks_for_more():
    assert [resources.grown(100, attempt) for attempt in (1, 2, 3)] == [100, 150, 225]


METHODS = ["atu", "ga", "dpo", "npo", "rmu", "icu", "repe"]


def test_the_papers_jobs():
    """Phi-3-mini in full: a checkpoint of float32 weights is 15.3 GB; what has a second model needs more."""
    config = check(PAPER, methods=METHODS)
    checkpoint = 4 * 3.82e9
    assert demand("keep_weights", config, "ga").kept == checkpoint
    assert demand("train", config, "ga").kept == 3 * checkpoint  # one an epoch
    unlearn = demand("unlearn", config, "atu")
    assert checkpoint < unlearn.kept < 1.02 * checkpoint
    assert unlearn.copies == 2 * checkpoint
    # the last stage leaves no predictor; on what it has kept a longer run aligns one
    last, realign = demand("unlearn_last", config, "atu"), demand("realign", config, "atu")
    assert last.kept == checkpoint
    assert realign.kept == pytest.approx(unlearn.kept - last.kept)
    assert realign.flop == pytest.approx(unlearn.flop - last.flop)
    assert checkpoint < realign.device < unlearn.device
    # SGD: weights, gradients and 16-bit copies are 38 GB before any activation
    assert 10 * 3.82e9 < unlearn.device < 70e9
    assert demand("train", config, "ga").device > 18 * 3.82e9  # AdamW
    evaluation = demand("evaluate_after", config)
    assert evaluation.device < unlearn.device
    assert evaluation.kept == 0


def test_a_second_model_costs_its_weights():
    plain = check(PAPER, methods=["ga"])
    with_kl = check(PAPER, methods=["ga"], method_settings={"ga": {"retain": {"loss": "kl"}}})
    more = demand("train", with_kl, "ga").device - demand("train", plain, "ga").device
    assert more > 4 * 3.82e9


def test_what_rmu_keeps_is_what_its_file_declares():
    """By hand: 12 bytes a weight (gradient, moments) of 3 layers, 4 of each model; one more under KL. What passes
    gradients has a 16-bit copy, an adapter or not."""
    plain = check(PAPER, methods=["rmu"])
    lora = check(PAPER, methods=["rmu"], method_settings={"rmu": {"lora": {"rank": 8}}})
    with_kl = check(PAPER, methods=["rmu"], method_settings={"rmu": {"retain": {"loss": "kl"}}})
    layers = 32  # as the model's block says
    adapter = demands.adapter_bytes(lora, lora["method_settings"]["rmu"]) / 4
    less = demand("train", plain, "rmu").device - demand("train", lora, "rmu").device
    assert less == pytest.approx(12 * (3 * 3.82e9 / layers - adapter))
    assert demand("train", with_kl, "rmu").device - demand("train", plain, "rmu").device == pytest.approx(4 * 3.82e9)


def test_what_undial_keeps_is_a_base_model_beside_the_one_that_trains():
    """By hand: 4 bytes a weight more than WGA, whose loss reads the same texts."""
    same = {"retain": {"loss": "none"}, "train": {"epochs": 1, "batch_size": 8, "accumulate": 1}}
    config = check(PAPER, methods=["wga", "undial"], method_settings={"wga": same, "undial": same})
    more = demand("train", config, "undial").device - demand("train", config, "wga").device
    assert more == pytest.approx(4 * 3.82e9)


def test_an_adapter_needs_neither_gradients_nor_moments_of_the_model():
    config = check(PAPER, methods=["ga"], method_settings={"ga": {"lora": {"rank": 8}}})
    full = check(PAPER, methods=["ga"])
    less = demand("train", full, "ga").device - demand("train", config, "ga").device
    assert less == pytest.approx(12 * 3.82e9, rel=0.01)  # autocast copies maps that gradients pass, frozen or not
    assert demand("train", config, "ga").kept < 1e9


def test_layers_that_train_alone_ask_for_their_share():
    """By hand: of P = 1.2e8, 10 layers of width 1000, four train. Full: 12 bytes less for each of 6 P / 10, and 2
    for each below, which gradients do not pass. LoRA apart: 4 bytes * 2 * 8 * 1000 * 4 layers * 2 maps."""
    model = {"phi-3-mini-4k-instruct": {"parameters": P, "layers": 10}}

    def block(**ga):
        return check(PAPER, methods=["ga"], models=model, method_settings={"ga": ga})

    less = demand("train", block(), "ga").device - demand("train", block(layers="3-6"), "ga").device
    assert less == pytest.approx(12 * 0.6 * P + 2 * 0.3 * P)
    lora = block(layers="3-6", lora={"rank": 8, "merge": False})
    assert demand("keep_weights", lora, "ga").kept == pytest.approx(4 * 2 * 8 * 1000 * 4 * 2)
    assert demand("train", block(layers="0-99"), "ga").device == demand("train", block(), "ga").device


def test_what_runs_on_the_host_asks_for_no_device():
    config = check(PAPER, methods=METHODS)
    for rule, name in (
        ("embed_target", None),
        ("keep_weights", "ga"),
        ("download_model", "all-mpnet-base-v2"),
        ("find_intervention", "icu"),
    ):
        assert demand(rule, config, name).device == 0
    assert demand("find_intervention", config, "repe").device > 0
    with pytest.raises(KeyError):
        demand("overall_table", config)


def test_what_the_base_model_reads_of_answers_takes_time():
    """Of RWKU's forget QA, 150 tokens of a prompt and 30 of an answer; of a letter there is nothing to read."""
    config = check(PAPER, evaluation={"before_and_after": ["forget_qa", "utility_gen"], "between": []})
    size, probes = 3.82e9, 2879 / 200
    asked = demands.evaluation(config, ["forget_qa", "utility_gen"])
    read = resources.forward_flop(size, probes * 180)
    after, before = demand("evaluate_after", config), demand("evaluate_before", config)
    assert after.flop - asked.flop == pytest.approx(read, rel=1e-2)
    assert before.flop - asked.flop == pytest.approx(3 * read, rel=1e-2)
    assert (after.moved, before.moved) == (2 * asked.moved, asked.moved)  # it is loaded once more
    config["evaluation"]["probability"] = True
    assert demand("evaluate_after", config).flop - after.flop == pytest.approx(read, rel=1e-2)


def test_answers_that_are_written_alone_take_longer():
    """On a CPU at 0.06 of its rate; on a GPU 32 layers x 1 ms a token, in which it would compute 60 TFLOP/s."""
    for device in ("cpu", "auto"):
        config = check(PAPER, device=device, evaluation={"batch_invariant": True})
        prompts, answers = demands.asked(config, ["forget_qa"])
        size = demands.parameters(config, config["llm"])
        found = demands.evaluation(config, ["forget_qa"]).flop
        if device == "cpu":
            assert found == pytest.approx(2 * size * (prompts + answers / 0.06))
        else:
            assert found == pytest.approx(2 * size * (prompts + answers) + answers * 0.032 * 60e12)


def test_what_a_token_takes_is_read_of_the_models_block():
    """12 MB a token of activations in 16 bits; 100 kB of keys and values, 1.3 times as they grow."""
    told = {"activation_bytes": 12e6, "cache_bytes": 1e5}
    config = check(PAPER, models={"phi-3-mini-4k-instruct": told})
    assert demands.activations(config, 1000, "bf16") == pytest.approx(12e9)
    assert demands.key_values(config, 1000, "bf16") == pytest.approx(1.3e8)
    npo = [demand("train", each, "npo", memory=Memory()).device for each in (config, check(PAPER))]
    batch = config["method_settings"]["npo"]["train"]["batch_size"] * config["method_settings"]["npo"]["max_tokens"]
    assert npo[0] - npo[1] == pytest.approx(batch * (12e6 - 34 * 3169.28 * 31.6928), rel=1e-3)


def test_fewer_questions_between_the_stages_take_less():
    config = check(DEMO)
    assert demand("evaluate_between", config).flop < demand("evaluate_after", config).flop


def test_fewer_questions_on_the_way_of_relearning_take_less():
    """Of four steps at which is asked, all sets are asked at the last alone."""
    config = check(PAPER)
    block = config["attacks"]["relearn-target"] | {"ask": ["forget_fb", "forget_qa"], "at": [0, 1, 2, 60], "steps": 60}
    once = {name: demands.evaluation(config, [name]).flop for name in block["ask"]}
    every, fewer = (
        demands.attacking(config, one, Memory(), None).flop
        for one in (block | {"between": block["ask"]}, block | {"between": ["forget_qa"]})
    )
    assert every - fewer == pytest.approx(3 * once["forget_fb"])
    unsaid = {key: value for key, value in block.items() if key != "between"}
    assert demands.attacking(config, unsaid, Memory(), None).flop == every


def test_a_model_of_unknown_size_is_taken_for_a_large_one():
    config = check(PAPER, methods=["ga"])
    del config["models"]["phi-3-mini-4k-instruct"]["parameters"]
    assert demand("keep_weights", config, "ga").kept == 4 * 8e9


def test_what_a_run_with_an_adapter_keeps():
    """Merged: a whole checkpoint. Apart: 2 r h L for each module, 16 * 4 bytes * 3168 * 31.7 * 2 = 13 MB."""

    def kept(**lora):
        config = check(PAPER, methods=["ga"], method_settings={"ga": {"lora": lora}})
        return demand("keep_weights", config, "ga").kept

    assert kept(rank=0) == kept(rank=0, merge=False) == kept(rank=8) == 4 * 3.82e9
    layers, width = resources.shape(3.82e9)
    assert kept(rank=8, merge=False) == pytest.approx(4 * 2 * 8 * width * layers * 2)
    assert 12e6 < kept(rank=8, merge=False) < 14e6


def small_config(tiny, **over):
    source = {"source": "path", "path": str(tiny / "benchmark"), "shared_utility": True}
    return check(DEMO, benchmark="tiny", benchmarks={"tiny": source}, targets=["1_Ada"], dev_targets=[], **over)


def test_probes_of_a_folder_are_counted(tiny):
    """Of the first three targets: 4 forget QA probes of 30 tokens each; one trivia question of 30; prompts of a
    quarter of their characters."""
    config = small_config(tiny)
    assert demands.asked(config, ["forget_qa"])[1] == 4 * 30
    assert demands.asked(config, ["utility_fac"], UTILITY)[1] == 30
    assert demands.asked(config, ["utility_fac"], "1_Ada") == (0, 0)  # asked of the shared subject
    assert demands.asked(config, ["forget_qa"], UTILITY) == (0, 0)
    message = "{primer_triviaqa}Q: {query}\n"
    assert demands.asked(config, ["utility_fac"])[0] == (len("Who is red?") + len("['Di', 'Bo']") + len(message)) / 4
    # two questions of one task, whose solved example is read once
    spec = PROBE_SETS["utility_gen"].message
    row = len("red_things") + len("Who is red?") + len("['Di', 'Bo', 'Cy', 'Ada']") + len("1") + len(spec)
    example = {"task": "red_things", "question": "Who is red?", "choices": ["Di", "Bo", "Cy", "Ada"], "answer": 1}
    keys = {"question", "choices", "answer"}
    example = {key: value for key, value in example.items() if key in keys}
    assert demands.asked(config, ["utility_gen"])[0] == (2 * row + len(str([example]))) / 4


def test_damaged_rows_are_no_matter_of_planning(tiny, tmp_path):
    folder = shutil.copytree(tiny / "benchmark", tmp_path / "benchmark")
    for rank, name in enumerate(("Ada", "Bo", "Cy"), start=1):
        (folder / f"Target/{rank}_{name}/forget_level2.json").write_bytes(b'[3, {"query": \xff')
    assert demands.asked(small_config(tmp_path), ["forget_qa"]) == (0, 0)
    (folder / "Target/1_Ada/forget_level2.json").write_text('[{"query": 5}]')
    demands.in_folder.cache_clear()
    assert demands.asked(small_config(tmp_path), ["forget_qa"])[1] == pytest.approx(10)  # a probe in three


@pytest.mark.parametrize(
    ("rule", "about", "threads", "measured"),
    [
        ("write_texts", {}, 1, 77),
        ("evaluate_before", {"subject": "3_Leonardo_da_Vinci"}, 1, 50),
        ("evaluate_before", {"subject": UTILITY}, 1, 101),
        ("embed_windows", {}, 1, 22),
        ("hidden_states", {}, 1, 17),
        ("align", {"name": "atu"}, 2, 60),
        ("unlearn", {"name": "atu"}, 2, 80),
        ("evaluate_after", {}, 2, 80),
    ],
)
def test_estimates_of_the_demos_jobs_are_within_a_factor_of_three(rule, about, threads, measured):
    """Seconds of the processor (one thread) or of the clock (two), on a machine of two cores."""
    config = check(DEMO)
    rates = config["hardware"]["cpu_tflops"] * threads, config["hardware"]["disk_mb_per_s"]
    expected = resources.seconds(demand(rule, config, **about), *rates, resources.START_SECONDS_CPU)
    assert measured / 3 < expected < 3 * measured


def test_plans_show_what_trains_and_all_where_nothing_can_be_planned(monkeypatch, tmp_path):
    """Of two LLMs, by the methods of planned jobs; of the config's own alone where it is refused."""
    paper = check(PAPER, methods=["npo"], memory="auto", hardware={"gpu_memory_gb": 24})
    other = check(PAPER, methods=["npo", "npo-lora", "icu"], llm="llama-3-8b-instruct")
    monkeypatch.setenv(start.WAYS, str(tmp_path / "ways.json"))
    start.leave_ways([paper, other])
    found = json.loads((tmp_path / "ways.json").read_text())
    assert list(found) == ["phi-3-mini-4k-instruct", "llama-3-8b-instruct"]
    assert "icu" not in found["llama-3-8b-instruct"]
    jobs = [Job("train", wildcards={"llm": "llama-3-8b-instruct", "method": "npo"}), Job("evaluate_after")]
    lines = plan.trainings(found, jobs).splitlines()
    assert lines[1].startswith("training llama-3-8b-instruct, by GPU")
    assert [line.split()[0] for line in lines[4:]] == ["npo", "npo-lora"]  # jobs are called by the method's file
    jobs[0].wildcards["method"] = "ga"  # of an experiment
    assert [line.split()[0] for line in plan.trainings(found, jobs).splitlines()[4:6]] == ["ga", "ga_star"]
    refused = plan.trainings(found, None)
    assert "training phi-3-mini-4k-instruct" in refused
    assert "llama" not in refused
    assert plan.trainings(found, jobs[1:]) == plan.trainings({}, None) == ""
