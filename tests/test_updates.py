"""How trainings keep their numbers: rounding by hand, the same steps wherever master copies lie, bf16 weights that
compute what float32 ones do."""

import copy

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM, AutoTokenizer

from atu.common.errors import ExplainedError
from atu.common.memory import LADDER, Memory, rungs
from atu.engine.half import exact_state, keep_in_half, restore, values_of
from atu.engine.models import (
    chosen_layers,
    hidden_states,
    layers_up_to,
    load_llm,
    load_to_train,
    merge_adapters,
    save_llm,
    train_alone,
)
from atu.training.loop import train
from atu.training.updates import Updates, round_stochastically
from conftest import build_llm, tiny_llm

HALF = Memory(weights="bf16")
STEP = 2.0**-7  # of bfloat16 from 1 to 2: seven bits behind the point


def test_rounding_goes_to_the_two_neighbours_with_chances_that_keep_the_mean():
    torch.manual_seed(0)
    values = torch.full((100_000,), 1 + STEP / 4)
    for sign in (1, -1):
        found = round_stochastically(sign * values).float() * sign
        assert set(found.tolist()) == {1.0, 1 + STEP}
        # a quarter goes up: of 100,000 draws within four standard deviations, sqrt(0.25 * 0.75 / 100000) = 0.0014
        assert (found > 1).float().mean().item() == pytest.approx(0.25, abs=0.0055)


def test_rounding_leaves_what_needs_none():
    exact = torch.tensor([0.0, -0.0, 1.0, -1.5, 2.0**127, float("inf"), float("-inf")])
    assert torch.equal(round_stochastically(exact).float(), exact.bfloat16().float())
    assert round_stochastically(torch.tensor([float("nan")])).isnan().all()


def test_small_steps_count_on_average():
    """A thousand steps of a hundredth of what a bfloat16 can tell: to nearest none would move the weight."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.ones(2_000, dtype=torch.bfloat16))
    updates = Updates([weight], "sgd", Memory(weights="rounded"), lr=1.0)
    for _ in range(1000):
        weight.grad = torch.full_like(weight, -STEP / 100)
        updates.clip(1e9)
        updates.step(1.0)
    assert weight.dtype == torch.bfloat16
    assert weight.float().mean().item() == pytest.approx(1 + 10 * STEP, rel=1e-3)


def quadratic(memory, optimizer="adamw", dtype=torch.bfloat16, steps=30, clip_norm=1.0):
    """The values of a weight and a bias after steps on |Wx + b - y|^2, and the log."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(96, 64)
    inputs, wanted = torch.randn(8, 96), torch.randn(8, 64)
    if dtype == torch.bfloat16:
        layer.weight.float32_values = layer.weight.data.clone()
        layer.weight.data = layer.weight.data.bfloat16()

    def loss(_):
        with torch.autocast("cpu", torch.bfloat16):
            return {"loss": (layer(inputs).float() - wanted).square().mean()}

    how = {"steps": steps, "optimizer": optimizer, "learning_rate": 1e-2, "weight_decay": 0.1, "memory": memory}
    log = train(Accelerator(cpu=True), layer.parameters(), iter(lambda: None, 0), loss, **how, clip_norm=clip_norm)
    return values_of(layer.weight), layer.bias.detach(), log


def test_adam_in_8_bits_decays_as_adam_does():
    """Without a gradient of the loss: Adam steps by the rate towards 0, AdamW takes a share of the weight."""
    found = {}
    for name in ("adam", "adamw"):
        weight = torch.nn.Parameter(torch.full((8192,), 2.0))
        updates = Updates([weight], name, Memory(optimizer_state="8bit"), lr=0.1, weight_decay=0.5)
        weight.grad = torch.zeros_like(weight)
        updates.step(0.1)
        found[name] = weight.mean().item()
    assert found["adam"] == pytest.approx(2 - 0.1, rel=1e-3)
    assert found["adamw"] == pytest.approx(2 - 0.1 * 0.5 * 2, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_master_copies_take_the_steps_of_float32_weights(optimizer):
    """Under autocast gradients are bf16 numbers either way: with one batch a step all is the same, bit by bit."""
    expected = quadratic(Memory(), optimizer, torch.float32, clip_norm=1e9)
    for memory in (HALF, Memory(weights="bf16", offload=True)):
        found = quadratic(memory, optimizer, clip_norm=1e9)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        assert [row["loss"] for row in found[2]] == [row["loss"] for row in expected[2]]
        assert [row["grad_norm"] for row in found[2]] == pytest.approx([row["grad_norm"] for row in expected[2]])
    clipped, found = (
        quadratic(memory, optimizer, dtype, steps=1, clip_norm=0.05)[0]
        for memory, dtype in ((Memory(), torch.float32), (HALF, torch.bfloat16))
    )
    assert torch.allclose(found, clipped, atol=1e-6)


@pytest.mark.parametrize("memory", [Memory(optimizer_state="8bit"), Memory(weights="bf16", optimizer_state="8bit")])
def test_moments_of_eight_bits_come_close(memory):
    dtype = torch.float32 if memory.weights == "fp32" else torch.bfloat16
    expected, found = quadratic(Memory(), dtype=torch.float32)[0], quadratic(memory, dtype=dtype)[0]
    moved = expected - quadratic(Memory(), dtype=torch.float32, steps=1)[0]
    assert not torch.equal(found, expected)
    assert (found - expected).norm() < 0.1 * moved.norm()


def test_rounded_weights_come_close():
    log = quadratic(Memory(weights="rounded"))[2]
    expected = quadratic(Memory(), dtype=torch.float32)[2]
    assert log[-1]["loss"] == pytest.approx(expected[-1]["loss"], rel=0.05)
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("memory", [Memory(), HALF])
def test_a_loss_without_a_graph_is_a_step_of_no_gradient(optimizer, memory):
    """Moments and weight decay go on, as with the gradient of zero that a backward pass would find."""

    def end(graph):
        weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float32 if memory == Memory() else torch.bfloat16))
        losses = iter([weight.sum() * 1, weight.sum() * 0 if graph else torch.tensor(0.0), weight.sum() * 1])
        how = {"steps": 3, "optimizer": optimizer, "learning_rate": 0.1, "weight_decay": 0.1, "memory": memory}
        end = torch.tensor(0.0)
        train(Accelerator(cpu=True), [weight], iter(lambda: None, 0), lambda _: {"loss": next(losses, end)}, **how)
        return values_of(weight)

    assert torch.equal(end(graph=True), end(graph=False))


def test_a_loss_that_no_weight_bears_on_is_refused():
    how = {"steps": 2, "optimizer": "sgd", "learning_rate": 0.1}
    weight, frozen = torch.nn.Parameter(torch.ones(3)), torch.full((3,), 0.5)
    with pytest.raises(ExplainedError, match=r"train: the loss is 1\.5 and depends on no weight that trains"):
        train(Accelerator(cpu=True), [weight], iter(lambda: None, 0), lambda _: {"loss": frozen.sum()}, **how)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llm")
    build_llm(folder)
    return AutoTokenizer.from_pretrained(folder)


def tiny(tokenizer, tie=False):
    return tiny_llm(tokenizer, layers=3, tie_word_embeddings=tie).eval()


@pytest.mark.parametrize("tie", [False, True])
def test_bf16_weights_compute_under_autocast_what_float32_weights_do(tokenizer, tie):
    llm, half = tiny(tokenizer, tie), tiny(tokenizer, tie)
    keep_in_half(half)
    ids = torch.arange(12)[None]
    grads = []
    for model in (llm, half):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids).logits
        logits.float().square().mean().backward()
        grads.append((logits, [weight.grad.float() for weight in model.parameters()]))
    assert torch.equal(grads[0][0], grads[1][0])
    assert all(map(torch.equal, grads[0][1], grads[1][1]))
    kinds = {name: weight.dtype for name, weight in half.named_parameters()}
    assert kinds["model.layers.0.mlp.up_proj.weight"] == torch.bfloat16
    assert kinds["model.embed_tokens.weight"] == kinds["model.norm.weight"] == torch.float32


def test_what_is_kept_is_float32(tmp_path, tokenizer):
    llm = tiny(tokenizer, tie=True)
    weights = {name: value.clone() for name, value in llm.state_dict().items()}
    assert exact_state(llm) is None
    keep_in_half(llm)
    save_llm(llm, tokenizer, tmp_path / "half")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype=torch.float32)
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())
    restore(llm)
    assert all(torch.equal(value, weights[name]) for name, value in llm.state_dict().items())


def test_a_weight_of_two_maps_keeps_its_values(tokenizer):
    """As those of Zamba2's shared layers, of which each is a module of its own."""
    llm = tiny(tokenizer)
    llm.model.layers[2].mlp.up_proj.weight = llm.model.layers[0].mlp.up_proj.weight
    exact = llm.model.layers[0].mlp.up_proj.weight.data.clone()
    keep_in_half(llm)
    assert torch.equal(values_of(llm.model.layers[2].mlp.up_proj.weight), exact)
    restore(llm)
    assert torch.equal(llm.model.layers[2].mlp.up_proj.weight, exact)


def test_the_linear_maps_of_gpt_2_are_halved_too(tokenizer, caplog):
    llm, half = (tiny_llm(tokenizer, "gpt2", layers=2, n_positions=16).eval() for _ in range(2))
    keep_in_half(half)
    assert half.transformer.h[0].mlp.c_fc.weight.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(*(model(input_ids=torch.arange(12)[None]).logits for model in (llm, half)))
    assert not caplog.records


def test_what_stays_float32_in_a_model_of_experts_is_told(tokenizer, caplog):
    llm = tiny_llm(tokenizer, "mixtral", layers=2, num_local_experts=4)
    keep_in_half(llm)
    (said,) = caplog.records
    # by hand: of 2 layers 4 experts of 3 maps of 32 x 64, the norms 5 x 32, the routers' linear maps aside
    whole = sum(weight.numel() for weight in llm.parameters())
    router = llm.model.layers[0].mlp.gate.weight
    kept = 2 * 4 * 3 * 32 * 64 + 5 * 32 + (2 * router.numel() if router.dtype == torch.float32 else 0)
    assert said.getMessage().startswith(f"{100 * kept / whole:.0f}% of the weights of MixtralForCausalLM lie in no")


def test_adapters_begin_alike_over_float32_and_bf16_weights(tmp_path, tokenizer):
    build_llm(tmp_path)
    lora, found = {"rank": 2, "alpha": 4, "modules": "auto"}, []
    for memory in (Memory(), HALF):
        torch.manual_seed(0)
        llm, _, _ = load_to_train(tmp_path, "cpu", memory, lora)
        found.append({name: weight for name, weight in llm.named_parameters() if "lora" in name})
        base = llm.model.layers[0].self_attn.q_proj.base_layer.weight
        assert base.dtype == (torch.bfloat16 if memory == HALF else torch.float32)
    assert {weight.dtype for weight in found[1].values()} == {torch.float32}
    assert all(torch.equal(weight, found[0][name]) for name, weight in found[1].items())


@pytest.mark.parametrize("weights", ["fp32", "bf16", "rounded"])
def test_merged_adapters_compute_what_the_model_that_is_kept_does(tmp_path, tokenizer, weights):
    """An alignment behind a stage, and that of a longer run on what the stage has kept, read the same states."""
    build_llm(tmp_path / "base")
    memory, lora = Memory(weights=weights), {"rank": 2, "alpha": 4, "modules": "auto"}
    llm, trained, tokenizer = load_to_train(tmp_path / "base", "cpu", memory, lora)
    torch.manual_seed(0)
    for name, weight in llm.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn_like(weight)

    def states(of):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), layers_up_to(of, 2) as decoder:
            ids = torch.arange(12)[None]
            return hidden_states(decoder, ids, torch.ones_like(ids))

    beside, merged = states(llm), merge_adapters(llm, trained, memory, "cpu")
    half = merged.model.layers[0].mlp.up_proj.weight
    assert half.dtype == (torch.float32 if weights == "fp32" else torch.bfloat16)
    save_llm(merged, tokenizer, tmp_path / "kept")
    kept = states(load_llm(tmp_path / "kept")[0])
    assert torch.equal(states(merged), kept)
    assert not torch.equal(beside, kept)


def test_only_the_parts_that_are_named_train(tokenizer):
    llm = tiny(tokenizer)
    trained = train_alone(llm, chosen_layers(llm, range(1, 2)))
    assert {id(weight) for weight in trained} == {id(weight) for weight in llm.model.layers[1].parameters()}
    assert train_alone(copy.deepcopy(llm), chosen_layers(llm, range(2, 3))) == []  # of another model


def test_what_names_a_result():
    """Where numbers lie changes none, unless they are rounded there: the host and a GPU draw other random numbers."""
    assert (
        Memory(weights="bf16", offload=True).changes_numbers("adamw")
        == HALF.changes_numbers("adamw")
        == {"weights": "bf16"}
    )
    paged = Memory(optimizer_state="paged_8bit", gradient_checkpointing=True)
    assert paged.changes_numbers("adamw") == {"optimizer_state": "8bit"}
    assert paged.changes_numbers("sgd") == {}  # which keeps no state
    here, there = (Memory(weights="rounded", offload=offload).changes_numbers("adamw") for offload in (False, True))
    assert here == {"weights": "rounded"}
    assert there == here | {"rounded_on": "host"}


def test_the_ladder():
    assert list(rungs("bf16")) == list(LADDER)
    assert {memory.weights for memory in rungs("fp32")} == {"fp32"}
    assert len(set(LADDER)) == len(LADDER)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"weights": "fp16"}, "weights: fp16 is none of"),
        ({"optimizer_state": "4bit"}, "optimizer_state: 4bit is none of"),
        ({"offload": True}, "set weights to bf16 or rounded"),
        ({"offload": True, "weights": "bf16", "optimizer_state": "8bit"}, "set one of them"),
    ],
)
def test_contradictions(settings, fault):
    with pytest.raises(ValueError, match=fault):
        Memory(**settings)
