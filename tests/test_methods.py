"""The baselines' losses against numbers worked out by hand, their data, and the epochs they share."""

import copy
import math
from importlib import import_module

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoConfig, AutoModelForCausalLM

from atu import methods
from atu.alignment.corpus import write_texts
from atu.common.errors import DivergedError, ExplainedError
from atu.common.finite import NotFiniteError, is_finite
from atu.data.benchmark import target_name
from atu.data.pairs import pair_biographies
from atu.engine.engine import Engine
from atu.engine.examples import (
    Example,
    answer_example,
    collate,
    read_items,
    reference_log_probs,
    text_example,
    token_log_probs,
)
from atu.engine.intervention import Intervention
from atu.engine.models import (
    add_lora,
    decoder_layers,
    hidden_states,
    layers_up_to,
    load_llm,
    recompute_activations,
    save_llm,
)
from atu.engine.parts import layer_range, query_value_maps
from atu.evaluation.evaluate import build_prompt
from atu.methods import load
from atu.methods.altpo import altpo_loss
from atu.methods.ce_u import ce_u_loss
from atu.methods.dpo import dpo_loss
from atu.methods.ga import ga_loss
from atu.methods.icu import icu_instruction
from atu.methods.npo import npo_loss
from atu.methods.repe import control_vector, find_control_vectors
from atu.methods.rmu import misdirection_loss
from atu.methods.rt import refusal_loss
from atu.methods.satimp import satimp_loss
from atu.methods.simnpo import simnpo_loss
from atu.methods.undial import undial_loss
from atu.methods.wga import wga_loss
from atu.training.epochs import check_items, train_epochs, trained_parameters
from atu.training.retain import descent_loss, kl_loss

TEXTS = [
    "Ada was born in Rome by the sea",
    "the queen wrote a song",
    "Who lived in Paris ? Ada",
    "red blue green stone",
]
ROWS = [{"text": text} for text in TEXTS]
TEXTS_OF = {
    "positive": ROWS,
    "pair": [{"prompt": "Who ?", "response": ["nobody", text]} for text in TEXTS],
    "reject": [{"instruction": text, "output": "I do not know"} for text in TEXTS],
}
OPTIMISATION = {"optimizer": "adamw", "learning_rate": 1e-3, "schedule": "constant"}
OPTIONS = {
    "ga": {},
    "npo": {"beta": 0.1},
    "simnpo": {"beta": 2.5, "gamma": 0.0},
    "dpo": {"beta": 0.1},
    "rt": {},
    "rmu": {"layer": 2, "coefficient": 5.0, "alpha": 1.0},
    "wga": {"beta": 0.2},  # the tiny model's probabilities are small, and so would weights be
    "satimp": {"beta1": 0.2, "beta2": 1.0},
    "undial": {"strength": 10.0},
    "ce_u": {},
    "altpo": {"beta": 0.1},
}


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_ga_and_rt():
    log_probs, scored = torch.tensor([[-1.0, -2.0, 0.0], [-3.0, 0.0, 0.0]]), torch.tensor([[1, 1, 0], [1, 0, 0]]) > 0
    assert ga_loss(log_probs, scored).item() == pytest.approx(-2.0)  # mean of -1, -2, -3
    assert refusal_loss(log_probs, scored).item() == pytest.approx(2.0)


def test_npo():
    ratios = torch.tensor([0.0, -2.0])
    expected = -2 / 0.5 * (math.log(0.5) + math.log(sigmoid(1.0))) / 2
    assert npo_loss(ratios, 0.5).item() == pytest.approx(expected)


def test_npo_tends_to_gradient_ascent():
    """d/dr of -(2/b) log sigmoid(-b r) is 2 sigmoid(b r), which goes to 1: the gradient of ascent on r."""
    for beta, tolerance in ((1.0, 1.0), (1e-3, 2e-3), (1e-5, 1e-4)):
        ratios = torch.tensor([-3.0, 2.0], requires_grad=True)
        npo_loss(ratios, beta).backward()
        assert (ratios.grad - 0.5).abs().max() < tolerance  # 1 / 2 sequences


def test_dpo():
    assert dpo_loss(torch.tensor([3.0]), torch.tensor([3.0]), 0.1).item() == pytest.approx(math.log(2))
    loss = dpo_loss(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 4.0]), 0.5)
    assert loss.item() == pytest.approx(-(math.log(sigmoid(1.0)) + math.log(sigmoid(-2.0))) / 2)


def test_simnpo():
    loss = simnpo_loss(torch.tensor([-2.0]), beta=2.5, gamma=1.0)
    assert loss.item() == pytest.approx(-2 / 2.5 * math.log(sigmoid(5.0 - 1.0)))


def test_rmu():
    states = torch.tensor([[[1.0, 2.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, False]])
    assert misdirection_loss(states, torch.tensor([1.0, 0.0]), mask).item() == pytest.approx(2.0)  # (0 + 4) / 2


def test_rmu_leaves_out_attention_sinks(llm):
    """With two sink tokens, states of the first two tokens play no part."""
    method = load("rmu", layer=2, coefficient=5.0, alpha=1.0, sink_tokens=2)
    batch = collate([[Example((5, 6, 7, 8), 1)], [Example((5, 6), 1)]], [0, 1])
    assert method.counted(batch).tolist() == [[False, False, True, True], [False] * 4]


PROBABILITIES = [[0.5, 0.25, 1.0], [0.1, 1.0, 1.0]]  # 1 where nothing is scored


def weighted(loss, **options):
    """A loss of weighted log-probabilities, and its gradient by those that are scored."""
    log_probs, scored = torch.tensor(PROBABILITIES).log().requires_grad_(), torch.tensor(PROBABILITIES) < 1
    value = loss(log_probs, scored, **options)
    value.backward()
    return value.item(), log_probs.grad[scored].tolist()


def test_wga():
    """By hand, over three tokens: p log p and p^2 log p; the weight has no gradient."""
    for beta, weights in ((1.0, [0.5, 0.25, 0.1]), (2.0, [0.25, 0.0625, 0.01])):
        value, gradient = weighted(wga_loss, beta=beta)
        expected = weights[0] * math.log(0.5) + weights[1] * math.log(0.25) + weights[2] * math.log(0.1)
        assert value == pytest.approx(expected / 3)
        assert gradient == pytest.approx([weight / 3 for weight in weights])
    assert weighted(wga_loss, beta=1.0)[0] == pytest.approx(-0.307802, rel=1e-5)


def test_wga_at_beta_0_is_gradient_ascent():
    assert weighted(wga_loss, beta=0.0) == weighted(ga_loss)


def test_satimp():
    """By hand: weights p^2 (1 - p) are 1/8, 3/64 and 0.009."""
    value, gradient = weighted(satimp_loss, beta1=2.0, beta2=1.0)
    assert value == pytest.approx((0.125 * -0.693147 + 0.046875 * -1.386294 + 0.009 * -2.302585) / 3, rel=1e-5)
    assert gradient == pytest.approx([0.125 / 3, 0.046875 / 3, 0.003])
    assert weighted(satimp_loss, beta1=2.0, beta2=0.0) == weighted(wga_loss, beta=2.0)


def test_a_weight_of_what_is_nearly_certain_keeps_its_digits():
    """1 - p at log p = -1e-9 is 1e-9, where 1 - exp(-1e-9) is 0 in float32."""
    log_probs = torch.tensor([[-1e-9]], requires_grad=True)
    satimp_loss(log_probs, torch.tensor([[True]]), 5.0, 1.0).backward()
    assert log_probs.grad.item() == pytest.approx(1e-9)


def soft(loss, probabilities, *rest):
    """A loss of logits whose probabilities are these, and its gradient by the logits."""
    logits = torch.tensor(probabilities).log().requires_grad_()
    value = loss(logits, *rest)
    value.backward()
    return value.item(), logits.grad


def test_ce_u():
    """By hand: p = 1/2, 1/4, 1/4 and true token 0; the target is 0, 1/2, 1/2, and the gradient p less that.

    Descent lowers the true token and raises the others as they stand to each other."""
    label = torch.tensor([0])
    value, gradient = soft(ce_u_loss, [[0.5, 0.25, 0.25]], label)
    assert value == pytest.approx(math.log(4))
    torch.testing.assert_close(gradient, torch.tensor([[0.5, -0.25, -0.25]]))
    _, gradient = soft(ce_u_loss, [[0.2, 0.6, 0.2]], label)  # target 0, 3/4, 1/4
    torch.testing.assert_close(gradient, torch.tensor([[0.2, -0.15, -0.05]]))
    _, closed = soft(lambda logits: -(-logits.softmax(-1)[0, 0]).log1p(), [[0.2, 0.6, 0.2]])
    torch.testing.assert_close(gradient, closed)


@pytest.mark.parametrize("certain", [0.001, 0.5, 1.0 - 1e-6])
def test_ce_u_moves_no_probability_to_the_true_token(certain):
    """By hand, the true token's share of the gradient is its probability, whatever the others are: never negative."""
    _, gradient = soft(ce_u_loss, [[certain, (1 - certain) * 0.9, (1 - certain) * 0.1]], torch.tensor([0]))
    assert gradient[0, 0].item() == pytest.approx(certain, rel=1e-5)
    assert (gradient[0, 1:] < 0).all()
    assert gradient.sum().item() == pytest.approx(0, abs=1e-6)


def test_undial():
    """By hand: the base model's 2/3, 1/6, 1/6 becomes thirds as the logit of the true token falls by log 4."""
    label, base = torch.tensor([0]), torch.tensor([[4 / 6, 1 / 6, 1 / 6]]).log()
    value, gradient = soft(undial_loss, [[0.5, 0.25, 0.25]], base, label, math.log(4))
    assert value == pytest.approx(5 / 3 * math.log(2))  # (log 2 + 2 log 4) / 3
    torch.testing.assert_close(gradient, torch.tensor([[1 / 6, -1 / 12, -1 / 12]]))
    assert base.softmax(-1)[0, 0].item() == pytest.approx(4 / 6)  # it is not written over


def test_undial_at_strength_0_leaves_the_base_model_where_it_is():
    """Its own predictions are the target: no gradient, and the loss is their entropy."""
    given, label = [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], torch.tensor([0, 1])
    value, gradient = soft(undial_loss, given, torch.tensor(given).log(), label, 0.0)
    assert gradient.abs().max() < 1e-7
    assert value == pytest.approx(-sum(p * math.log(p) for row in given for p in row) / 2)


def test_the_base_model_of_undial_stays(llm):
    """The target is the base model's when the model has changed, and asks for no gradients."""
    model = copy.deepcopy(llm[0]).requires_grad_(True)
    method = load("undial", strength=1e-6)
    method.prepare(model, 0)
    batch = item_batch(llm, "undial", [0, 1])

    def norm():
        model.zero_grad()
        method.loss(model, batch).backward()
        return math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters() if p.grad is not None))

    assert norm() < 1e-4
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    assert norm() > 1e-2
    assert all(parameter.grad is None for parameter in method.base_model.parameters())


def test_altpo():
    loss = altpo_loss(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 4.0]), 0.5)
    assert loss.item() == pytest.approx(-2 / 0.5 * (math.log(sigmoid(1.0)) + math.log(sigmoid(-2.0))) / 2)


def test_altpo_tends_to_ascent_on_the_real_and_descent_on_the_alternate():
    """d/dc of -(2/b) log sigmoid(b (c - r)) is -2 sigmoid(-b (c - r)), which goes to -1."""
    for beta, tolerance in ((1.0, 0.5), (1e-4, 1e-3)):
        chosen, rejected = (torch.tensor([-3.0, 2.0], requires_grad=True) for _ in range(2))
        altpo_loss(chosen, rejected - 1.0, beta).backward()
        assert (chosen.grad + 0.5).abs().max() < tolerance  # of two pairs
        assert (rejected.grad - 0.5).abs().max() < tolerance


def test_retain_losses():
    logits = torch.tensor([[0.0, math.log(3.0)]])  # probabilities 1/4, 3/4
    assert descent_loss(logits, torch.tensor([1])).item() == pytest.approx(math.log(4 / 3))
    reference = torch.zeros(1, 2)
    assert kl_loss(logits, reference).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert kl_loss(logits, logits).item() == pytest.approx(0, abs=1e-7)


def test_control_vector():
    expert, novice = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[2.0, 1.0], [4.0, 3.0]])
    assert control_vector(expert, novice).tolist() == [1.0, 2.0]


def test_log_probs_equal_the_plain_forward_pass(llm):
    model, tokenizer = llm
    items = read_items("positive", ROWS, tokenizer, 64)
    batch = collate(items, [0, 1, 2])
    ours = token_log_probs(model, batch)
    for i, text in enumerate(TEXTS[:3]):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        plain = model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        torch.testing.assert_close(ours[i, : len(plain)], plain, atol=1e-4, rtol=1e-4)
        assert ours[i, len(plain) :].abs().sum() == 0  # padding


def test_answers_are_scored_and_questions_are_not(llm):
    tokenizer = llm[1]
    example = answer_example(tokenizer, "Who ?", "Ada", 64)
    assert tokenizer.decode(example.ids[example.first :]) == "Ada<|end|>"
    assert tokenizer.decode(example.ids[: example.first]) == "<|user|>Who ?<|end|><|assistant|>"
    assert text_example(tokenizer, TEXTS[0], 3).ids == tuple(tokenizer(TEXTS[0])["input_ids"][:3])


def test_texts_without_a_token_to_score_are_left_out(llm):
    rows = [{"text": "a"}, {"text": TEXTS[0]}]
    assert len(read_items("positive", rows, llm[1], 64)) == 1
    pair = {"prompt": "Who ?", "response": ["Ada", "Bo"]}
    assert read_items("pair", [pair], llm[1], 5) == []  # cut before the answers


def item_batch(llm, name, chosen):
    model, tokenizer = llm
    kind, rows = "positive", ROWS
    if name in ("dpo", "altpo"):
        kind, rows = "pair", [{"prompt": "Who ?", "response": [text, text[:9]]} for text in TEXTS]
    if name == "rt":
        kind, rows = "reject", [{"instruction": text, "output": "I do not know"} for text in TEXTS]
    items = read_items(kind, rows, tokenizer, 64)
    reference = reference_log_probs(model, items, [[0, 1], [2, 3]]) - 1.0
    return collate(items, chosen, reference=reference, others=collate(read_items("positive", ROWS, tokenizer, 64), [3]))


@pytest.mark.parametrize("name", ["npo", "simnpo", "dpo", "altpo"])
def test_a_batch_of_two_is_the_mean_of_ones(llm, name):
    method = load(name, **OPTIONS[name])
    both = method.loss(llm[0], item_batch(llm, name, [0, 1]))
    ones = [method.loss(llm[0], item_batch(llm, name, [i])) for i in (0, 1)]
    assert both.item() == pytest.approx((ones[0].item() + ones[1].item()) / 2, rel=1e-4)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_padding_changes_nothing(llm, name):
    """The same item beside a longer one: its share of the loss is the same."""
    method = load(name, **OPTIONS[name])
    method.prepare(copy.deepcopy(llm[0]), 0)
    batch = item_batch(llm, name, [1])
    wider = copy.copy(batch).__dict__ | {
        key: torch.nn.functional.pad(getattr(batch, key), (0, 5)) for key in ("input_ids", "mask", "scored")
    }
    assert method.loss(llm[0], type(batch)(**wider)).item() == pytest.approx(
        method.loss(llm[0], batch).item(), rel=1e-4
    )


def run(llm, name, seed=0, retain=None, lora=None, epochs=3, batch_size=2, accumulate=1, **options):
    """Train a copy of the tiny model; the log and the trained copy."""
    model, tokenizer = copy.deepcopy(llm[0]).requires_grad_(True), llm[1]
    if lora:
        add_lora(model, **lora)
    method = load(name, **OPTIONS[name])
    kind = method.texts[0]
    items = read_items(kind, TEXTS_OF[kind], tokenizer, 64)
    reached = []
    log = train_epochs(
        Accelerator(cpu=True),
        model,
        method,
        items,
        texts=kind,
        reference=reference_log_probs(llm[0], items, [[0, 1, 2, 3]]) if "reference" in method.reads else None,
        retain_set=read_items("positive", ROWS[2:], tokenizer, 64),
        retain=retain or {"loss": "none", "weight": 1.0},
        seed=seed,
        after_epoch=reached.append,
        epochs=epochs,
        batch_size=batch_size,
        accumulate=accumulate,
        title=name,
        **(OPTIMISATION | options),
    )
    assert reached == list(range(1, epochs + 1))
    return log, model


# Losses that need not fall: what they weigh by, or learn from, changes with the model, or is nearly what it says.
MOVING = ("wga", "satimp", "ce_u", "undial")


@pytest.mark.parametrize("name", MOVING)
def test_such_methods_make_the_texts_less_likely(llm, name):
    batch = collate(read_items("positive", ROWS, llm[1], 64), [0, 1, 2, 3])
    _, model = run(llm, name, epochs=6)
    assert token_log_probs(model, batch).sum() < token_log_probs(llm[0], batch).sum() - 0.1


@pytest.mark.parametrize("name", sorted(OPTIONS.keys() - set(MOVING)))
def test_every_method_lowers_its_loss(llm, name):
    log, model = run(llm, name, epochs=6)
    assert log[-1]["forget_loss"] < log[0]["forget_loss"]
    assert [row["epoch"] for row in log] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), llm[0].parameters(), strict=True))


def test_an_epoch_reads_each_text_once(llm, caplog):
    with caplog.at_level("WARNING", logger="atu"):
        many, _ = run(llm, "ga", accumulate=100)
    assert "an epoch has 2 batches, so a step is of 2, not of 100" in caplog.text
    assert many == run(llm, "ga", accumulate=2)[0]
    assert [row["epoch"] for row in many] == [1, 2, 3]


def test_a_new_method_is_one_file(llm, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from atu.engine.examples import token_log_probs\n"
        "from atu.methods import Trained\n"
        "class Mine(Trained):\n"
        "    def __init__(self, weight):\n"
        "        self.weight = weight\n"
        "    def loss(self, llm, batch):\n"
        "        return self.weight * token_log_probs(llm, batch).mean()\n"
        "METHOD = Mine\n"
    )
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.setitem(OPTIONS, "mine", {"weight": 2.0})
    log, _ = run(llm, "mine")
    assert log[-1]["loss"] < log[0]["loss"]


def test_rmu_trains_three_layers_alone(llm):
    _, model = run(llm, "rmu")
    changed = {
        name
        for (name, a), b in zip(model.named_parameters(), llm[0].parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert changed
    assert all(name.startswith(("model.layers.0.", "model.layers.1.")) for name in changed)  # layer 2 and below


def test_a_retain_term_holds_others(llm):
    items = read_items("positive", ROWS[2:], llm[1], 64)
    batch = collate(items, [0, 1])
    before = token_log_probs(llm[0], batch).sum().item()
    drift = {}
    for loss in ("none", "descent", "kl"):
        log, model = run(llm, "npo", retain={"loss": loss, "weight": 10.0}, epochs=8)
        drift[loss] = before - token_log_probs(model, batch).sum().item()
        assert ("retain_loss" in log[0]) == (loss != "none")
    assert drift["kl"] < drift["none"]
    assert drift["descent"] < drift["none"]


def test_same_seed_same_numbers(llm):
    assert run(llm, "ga", epochs=1)[0] == run(llm, "ga", epochs=1)[0]
    assert run(llm, "ga", epochs=1)[0] != run(llm, "ga", seed=1, epochs=1)[0]


def test_lora_trains_alone_and_merges(tiny, tmp_path):
    llm = load_llm(tiny / "llm")
    model = llm[0]
    before = {name: value.clone() for name, value in model.named_parameters()}
    adapted = add_lora(model, rank=2, alpha=4, modules=["q_proj", "v_proj"])
    items = read_items("positive", ROWS, llm[1], 64)
    train_epochs(
        Accelerator(cpu=True),
        model,
        load("ga"),
        items,
        texts="positive",
        reference=None,
        retain_set=[],
        retain={"loss": "none", "weight": 1.0},
        seed=0,
        after_epoch=lambda epoch: save_llm(adapted, llm[1], tmp_path / str(epoch)),
        epochs=2,
        batch_size=2,
        accumulate=2,
        title="lora",
        **OPTIMISATION,
    )
    assert not (tmp_path / "2" / "model.safetensors").exists()
    merged, _ = load_llm(tmp_path / "2")
    values = dict(merged.named_parameters())
    changed = {name for name, value in before.items() if not torch.equal(value, values[name])}
    assert changed
    assert all("q_proj" in name or "v_proj" in name for name in changed)
    batch = collate(items, [0, 1])
    torch.testing.assert_close(token_log_probs(merged, batch), token_log_probs(model, batch), atol=1e-4, rtol=1e-4)


def test_nothing_to_train_on(llm):
    with pytest.raises(ExplainedError, match="nothing to train on"):
        train_epochs(
            Accelerator(cpu=True),
            llm[0],
            load("ga"),
            [],
            texts="positive",
            reference=None,
            retain_set=[],
            retain={"loss": "none", "weight": 1.0},
            seed=0,
            after_epoch=print,
            epochs=1,
            batch_size=1,
            accumulate=1,
            title="ga",
            **OPTIMISATION,
        )


def test_texts_that_the_model_writes(llm):
    options = {"texts": 5, "max_new_tokens": 12, "temperature": 1.0, "top_p": 0.9, "seed": 0}
    written = {}
    for kind in ("positive", "negative", "reject"):
        written[kind] = write_texts(Engine(*llm, 1000), kind, "Ada", "Ada was a poet.", **options)
        assert 0 < len(written[kind]) <= 5
    assert {"instruction", "output"} < set(written["reject"][0])
    assert not any("\n" in row["instruction"] for row in written["reject"])
    pairs = pair_biographies(written["negative"], written["positive"])
    assert pairs[0]["response"] == [written["negative"][0]["text"], written["positive"][0]["text"]]
    assert pairs[0]["prompt"] == "Ada was a poet. Please write a short biography of Ada."


def test_icu_speaks_first(llm):
    instruction = icu_instruction("Forget {name}.\n", target_name("1_Ada_Bo"))
    probe = {"set": "forget_qa", "query": "Who?", "context": "", "type": ""}
    shown = build_prompt(llm[1], probe, {}, instruction)
    assert "<|user|>Forget Ada Bo.\nPlease briefly answer the following question.\nQuestion: Who?\n" in shown
    assert build_prompt(llm[1], probe | {"set": "mia_fm"}, {}, instruction) == "Who?"  # a bare text


def test_control_vectors_steer_inside_the_block_alone(llm, tmp_path):
    engine, (model, tokenizer) = Engine(*llm, 400), llm
    vectors = find_control_vectors(model, tokenizer, "Ada", ["Who ?", "red river"], [1, 2])
    assert vectors.shape == (2, 32)
    Intervention(vectors=vectors, layers=[1, 2], coefficient=20.0).save(tmp_path / "intervention")
    loaded = Intervention.load(tmp_path / "intervention")
    plain = engine.generate(TEXTS, max_new_tokens=8)
    with loaded.applied(model):
        steered = engine.generate(TEXTS, max_new_tokens=8)
    assert steered != plain
    assert engine.generate(TEXTS, max_new_tokens=8) == plain
    # what is added is seen behind the layer: the state behind layer 1 moves by exactly its vector
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    with torch.inference_mode(), layers_up_to(model, 1) as decoder:
        before = hidden_states(decoder, ids, torch.ones_like(ids))
    with torch.inference_mode(), loaded.applied(model), layers_up_to(model, 1) as decoder:
        after = hidden_states(decoder, ids, torch.ones_like(ids))
    torch.testing.assert_close(after - before, (20 * vectors[0]).expand_as(before), atol=1e-3, rtol=1e-3)


def test_an_example_knows_what_is_scored():
    items = [[Example((5, 6, 7), 1)], [Example((8, 9), 1)]]
    batch = collate(items, [0, 1])
    assert batch.scored.tolist() == [[False, True, True], [False, True, False]]


def trained(tiny, name, texts, keep=lambda *model: None, lora=None, retain="none", others=True, **over):
    """Train the tiny model, read from disk, for an epoch; the model."""
    model, tokenizer = load_llm(tiny / "llm")
    items = read_items(texts, TEXTS_OF[texts], tokenizer, 64)
    method = load(name, **OPTIONS[name])
    reference = reference_log_probs(model, items, [[0, 1, 2, 3]]) if "reference" in method.reads else None
    kept = add_lora(model, **lora) if lora else model
    options = {"texts": texts, "reference": reference, "retain": {"loss": retain, "weight": 1.0}} | over
    train_epochs(
        Accelerator(cpu=True),
        model,
        method,
        items,
        retain_set=read_items("positive", ROWS[2:] if others else [], tokenizer, 64),
        seed=0,
        after_epoch=lambda epoch: keep(kept, tokenizer),
        epochs=1,
        batch_size=2,
        accumulate=1,
        title=name,
        **options,
        **(OPTIMISATION | {"learning_rate": 1e-2}),
    )
    return model


LORA = {"rank": 2, "alpha": 4, "modules": ["q_proj", "v_proj"]}


@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_what_is_trained_is_what_is_kept(tiny, tmp_path, name, lora):
    """The trained model's logits are those of the kept one, merged or apart; the base model's are others."""
    texts = next(iter(load(name, **OPTIONS[name]).texts))
    model = trained(tiny, name, texts, lambda kept, tokenizer: save_llm(kept, tokenizer, tmp_path / "kept"), lora)
    assert (tmp_path / "kept/adapter_config.json").exists() == bool(lora)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        here, there, base = (m(ids).logits for m in (model, load_llm(tmp_path / "kept")[0], load_llm(tiny / "llm")[0]))
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)
    assert (base - here).abs().max() > 1e-3


def test_rmu_with_adapters_in_no_layer_of_its_own(tiny):
    lora = LORA | {"modules": ["lm_head"]}
    with pytest.raises(ExplainedError, match=r"rmu trains no weight: none of lora.modules lies in its layers"):
        trained(tiny, "rmu", "positive", lora=lora)


def test_one_step_of_some_layers_by_hand(llm):
    """Plain descent on one batch: weights of layer 1 move by rate times gradient, the others by nothing, and the
    gradient's norm is of layer 1 alone."""
    whole, rate = copy.deepcopy(llm[0]).requires_grad_(True), 0.01
    items = read_items("positive", ROWS, llm[1], 64)
    load("ga").loss(whole, collate(items, [0, 1, 2, 3])).backward()
    options = {"optimizer": "sgd", "learning_rate": rate, "clip_norm": 1e9, "epochs": 1, "batch_size": 4}
    log, model = run(llm, "ga", layers=range(1, 2), **options)
    own = {name: value.grad for name, value in whole.named_parameters() if name.startswith("model.layers.1.")}
    assert len(own) == 9
    assert len(log) == 1
    norm = math.sqrt(sum(gradient.square().sum().item() for gradient in own.values()))
    assert log[0]["grad_norm"] == pytest.approx(norm, rel=1e-4)
    for (name, after), before in zip(model.named_parameters(), llm[0].parameters(), strict=True):
        expected = before - rate * own[name] if name in own else before
        torch.testing.assert_close(after, expected, atol=1e-6 if name in own else 0, rtol=0)
    assert run(llm, "ga", **options)[0][0]["grad_norm"] > 1.1 * norm  # of all weights


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("recomputed", [False, True])
def test_the_backward_pass_ends_at_the_lowest_layer_that_trains(llm, lora, recomputed):
    gradients = {}
    for anew in {False, recomputed}:
        model = copy.deepcopy(llm[0]).requires_grad_(True)
        if lora:
            torch.manual_seed(0)  # of the adapters
            add_lora(model, **LORA, layers=range(1, 3))
        if anew:
            recompute_activations(model)
        parameters = trained_parameters(model, load("ga"), "ga", range(1, 3))
        asked = []
        for layer in decoder_layers(model):
            layer.register_forward_hook(lambda layer, given, out, asked=asked: asked.append(out.requires_grad))
        model.train()
        batch = collate(read_items("positive", ROWS, llm[1], 64), [0, 1])
        load("ga").loss(model, batch).backward()
        assert asked[:3] == [False, True, True]
        gradients[anew] = [parameter.grad for parameter in parameters]
        assert any(gradient.abs().max() > 0 for gradient in gradients[anew])
    for one, other in zip(gradients[False], gradients[recomputed], strict=True):
        torch.testing.assert_close(one, other)


def test_adapters_train_also_where_activations_are_computed_anew(llm):
    """Embeddings ask for no gradients, and the first layer's adapter has some all the same."""
    model = copy.deepcopy(llm[0])
    add_lora(model, **LORA)
    recompute_activations(model)
    model.train()
    load("ga").loss(model, collate(read_items("positive", ROWS, llm[1], 64), [0, 1])).backward()
    assert model.model.layers[0].self_attn.q_proj.lora_B["default"].weight.grad.abs().max() > 0


def test_adapters_in_some_layers_alone(tiny, tmp_path):
    def keep(kept, tokenizer):
        save_llm(kept, tokenizer, tmp_path / "kept")

    lora = LORA | {"modules": "auto", "layers": range(1, 2)}
    model = trained(tiny, "ga", "positive", keep, lora, layers=range(1, 2))
    adapters = {name for name, _ in model.named_parameters() if "lora_" in name}
    assert len(adapters) == 4  # two matrices of each of two maps
    assert all(name.startswith("model.layers.1.self_attn.") for name in adapters)
    merged, base = load_llm(tmp_path / "kept")[0], load_llm(tiny / "llm")[0]
    pairs = zip(merged.named_parameters(), base.parameters(), strict=True)
    changed = {name for (name, after), before in pairs if not torch.equal(after, before)}
    assert changed == {f"model.layers.1.self_attn.{name}.weight" for name in ("q_proj", "v_proj")}


@pytest.mark.parametrize(
    ("name", "lora", "over", "message"),
    [
        ("ga", None, {"layers": range(2, 4)}, "layers 2-3 do not all exist: the model has layers 0 to 2"),
        ("ga", LORA | {"layers": range(3, 4)}, {}, "layers 3-3 do not all exist"),
        ("ga", LORA | {"modules": ["q_proj", "lm_head"], "layers": range(1)}, {}, "lm_head lies in none of the layers"),
        ("ga", LORA | {"modules": "q_proj"}, {}, "lora.modules: q_proj is neither auto nor a list of names"),
        ("ga", LORA | {"layers": range(1)}, {"layers": range(1, 2)}, "ga trains no weight"),
        ("rmu", None, {"layers": range(1)}, "rmu chooses the layers that train itself: set its layers to none"),
    ],
)
def test_layers_that_cannot_train(tiny, name, lora, over, message):
    with pytest.raises(ExplainedError, match=message):
        trained(tiny, name, "positive", lora=lora, **over)


SMALL = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": None}


@pytest.mark.parametrize(
    ("family", "maps"),
    [
        ("llama", {"q_proj", "v_proj"}),
        ("phi3", {"qkv_proj"}),
        ("gpt_neox", {"query_key_value"}),
        ("gpt2", {"c_attn"}),
    ],
)
def test_maps_of_queries_and_values_by_what_the_model_has(family, maps):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SMALL))
    before = copy.deepcopy(model.state_dict())
    add_lora(model, rank=2, alpha=4, modules="auto", layers=range(1, 2))
    adapted = {name.partition(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A" in name}
    assert {name.rpartition(".")[2] for name in adapted} == maps
    assert len(adapted) == len(maps)  # of one layer
    assert {name.replace(".base_layer", "") for name in model.state_dict() if "lora_" not in name} == set(before)


def test_names_of_maps_and_layers():
    assert query_value_maps(["a.*.q_proj", "a.*.k_proj", "a.*.v_proj", "b.c_attn"]) == ["q_proj", "v_proj"]
    assert query_value_maps(["h.*.attn.Wqkv", "q_proj"]) == ["Wqkv"]  # queries alone are not both
    with pytest.raises(ExplainedError, match="auto finds no map that makes queries and values among a, b; name the"):
        query_value_maps(["x.b", "x.a"])
    assert layer_range("none") is None
    assert layer_range("0-4") == range(5)
    assert layer_range("7-7") == range(7, 8)
    with pytest.raises(ExplainedError, match="4-0 names no layer; write 0-4"):
        layer_range("4-0")


@pytest.mark.parametrize(
    ("name", "texts"), [("dpo", "positive"), ("ga", "pair"), ("rt", "positive"), ("npo", "reject")]
)
def test_a_loss_gets_no_texts_of_another_form(tiny, name, texts):
    with pytest.raises(ExplainedError, match=rf"{name} is a loss of .* texts, not of {texts}: set its texts"):
        trained(tiny, name, texts)


def test_pairs_that_are_none(tiny):
    """Single biographies, called pairs: neighbouring ones would be chosen and rejected."""
    single = read_items("positive", ROWS, load_llm(tiny / "llm")[1], 64)
    with pytest.raises(ExplainedError, match="pair texts are items of 2, and 4 are not"):
        check_items(load("dpo", beta=0.1), "dpo", "pair", single, torch.zeros(4, 1), [], "none")


def test_what_a_loss_reads_must_be_there(tiny):
    with pytest.raises(ExplainedError, match="npo reads reference: its reads must say so"):
        trained(tiny, "npo", "positive", reference=None)
    with pytest.raises(ExplainedError, match="rmu reads texts of others, and there are none"):
        trained(tiny, "rmu", "positive", others=False)
    with pytest.raises(ExplainedError, match="ga reads texts of others, and there are none"):
        trained(tiny, "ga", "positive", retain="descent", others=False)


@pytest.mark.parametrize("over", [{"learning_rate": 1e30}, {"clip_norm": float("nan")}])
def test_weights_are_looked_at_after_the_last_step(llm, over):
    """The loss of a single step is finite; the weights behind it are not."""
    with pytest.raises(DivergedError, match=r"ga: loss or weights not finite after step 1, the last; lower the"):
        run(llm, "ga", epochs=1, batch_size=4, **over)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_of_nans_is_not_read(tiny, tmp_path, value):
    model, tokenizer = load_llm(tiny / "llm")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = value
    save_llm(model, tokenizer, tmp_path / "llm")
    with pytest.raises(NotFiniteError, match=r"llm: model.layers.1.mlp.up_proj.weight holds values"):
        load_llm(tmp_path / "llm")


def test_sums_that_overflow_are_finite():
    assert is_finite(torch.full((4,), 3e38))
    assert is_finite(torch.tensor([1, 2]))
    assert not is_finite(torch.tensor([float("inf"), -float("inf")]))
    assert not is_finite(torch.tensor([0.0, float("nan")]))


def test_a_control_vector_out_of_all_measure():
    with pytest.raises(NotFiniteError, match="coefficient 1e\\+38 times the control vector is not finite"):
        Intervention(vectors=torch.full((1, 4), 20.0), layers=[1], coefficient=1e38)


@pytest.mark.parametrize("name", ["ga", "rt"])
def test_losses_are_given_what_their_docstrings_say(llm, name, monkeypatch):
    """log_probs and scored of one shape, [sequences, length - 1]."""
    module = import_module(f"atu.methods.{name}")
    loss = next(key for key in vars(module) if key.endswith("_loss"))
    given = {}
    monkeypatch.setattr(module, loss, lambda log_probs, scored: given.update(a=log_probs, b=scored))
    batch = item_batch(llm, name, [0, 1])
    load(name).loss(llm[0], batch)
    assert given["a"].shape == given["b"].shape == (2, batch.input_ids.shape[1] - 1)
    assert (given["a"] * ~given["b"]).abs().sum() == 0
