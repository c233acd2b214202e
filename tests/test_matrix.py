"""Families of language models, each a tiny random one: the engines say what transformers' own calls say, or refuse.

Run as a script it writes ``docs/models.md``.
"""

import json
import logging
import tempfile
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from atu.alignment.predictor import EmbeddingPredictor
from atu.common.errors import ExplainedError
from atu.engine.agreement import check_engine
from atu.engine.batching import pad
from atu.engine.checks import OTHER, describe_llm
from atu.engine.engine import Engine
from atu.engine.examples import Batch, Example, collate, reference_log_probs, scored_logits
from atu.engine.likelihood import next_token_logits
from atu.engine.models import ModelError, decoder_layers, hidden_states, layers_up_to, load_llm
from atu.engine.plain import why_plain
from atu.evaluation.layers import last_states
from atu.methods.atu import unlearn_loss
from atu.methods.npo import NPO, npo_loss
from atu.training.retain import descent_loss
from conftest import ROOT, build_llm, tiny_llm

DOCUMENT = ROOT / "docs/models.md"
SHARED, PLAIN = "shared", "plain"


@dataclass(frozen=True)
class Family:
    """Models of one config class.

    Attributes:
        name: of the models, as readers know them.
        kind: the config's ``model_type``.
        own: settings that its class has and others lack, set so that they show in a tiny model.
        path: that the engines take.
    """

    name: str
    kind: str
    own: dict = field(default_factory=dict)
    path: str = SHARED


# Windows are shorter than the rows below, and end within or behind the prefix that these share.
ALTERNATING = ["sliding_attention", "full_attention"] * 2
LINEAR = ["linear_attention", "full_attention"] * 2
HEAD = {"head_dim": 8}
GEMMA_4 = HEAD | {"sliding_window": 4, "layer_types": ALTERNATING, "global_head_dim": 16}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
DELTA_NET = HEAD | {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": LINEAR,
}
MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.5,
    "short_factor": [1.0, 1.5],
    "long_factor": [2.0, 3.0],
    "original_max_position_embeddings": 32,
}
FAMILIES = [
    Family("Llama 2, 3; SmolLM 1, 2; Yi", "llama"),
    Family("Llama 3.1 to 3.3", "llama", {"rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True}),
    Family("Phi-3", "phi3", {"sliding_window": 6}),
    Family("Phi-4-mini", "phi3", {"rope_parameters": LONG_ROPE, "tie_word_embeddings": True}),
    Family("Qwen2.5", "qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2}),
    Family("Qwen3", "qwen3", HEAD),
    Family("Qwen3-MoE", "qwen3_moe", HEAD | EXPERTS),
    Family(
        "Gemma 2",
        "gemma2",
        HEAD | {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 3.0, "sliding_window": 4},
    ),
    Family("Gemma 3, text", "gemma3_text", HEAD | {"sliding_window": 4, "layer_types": ALTERNATING}),
    Family(
        "Gemma 4, text",
        "gemma4_text",
        GEMMA_4
        | {
            "num_global_key_value_heads": 1,
            "attention_k_eq_v": True,
            "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 0,
            "final_logit_softcapping": 2.0,
        },
    ),
    Family("Mistral", "mistral", HEAD | {"sliding_window": 4}),
    Family("Mixtral", "mixtral", {"num_local_experts": 4}),
    Family("OLMo 2", "olmo2"),
    Family("OLMo 3", "olmo3", {"sliding_window": 4, "layer_types": ALTERNATING}),
    Family(
        "Granite 3",
        "granite",
        {
            "logits_scaling": 4.0,
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.3,
            "residual_multiplier": 0.5,
        },
    ),
    Family("Command R", "cohere", {"logit_scale": 0.25, "use_qk_norm": True}),
    Family("Command A, R7B", "cohere2", {"logit_scale": 0.25, "sliding_window": 4, "layer_types": ALTERNATING}),
    Family("SmolLM3", "smollm3", {"no_rope_layers": [1, 0, 1, 0]}),
    Family("GPT-NeoX, Pythia", "gpt_neox", {"use_parallel_residual": True}),
    Family("StableLM 2", "stablelm", {"use_parallel_residual": True}),
    Family("GPT-2", "gpt2"),
    Family("Nemotron 4, Minitron", "nemotron"),  # hands no keywords on to its attention
    Family("Qwen3.5", "qwen3_5_text", DELTA_NET, PLAIN),
    Family("Qwen3-Next", "qwen3_next", DELTA_NET | EXPERTS | {"shared_expert_intermediate_size": 16}, PLAIN),
    Family(
        "Gemma 4 E2B, E4B, text",
        "gemma4_text",
        GEMMA_4
        | {
            "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 400,
            "use_double_wide_mlp": True,
        },
        PLAIN,
    ),
    Family("gpt-oss", "gpt_oss", HEAD | {"num_local_experts": 4, "sliding_window": 4}, PLAIN),
    Family(
        "DeepSeek-V3",
        "deepseek_v3",
        {
            "num_key_value_heads": 4,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "head_dim": 4,
            "n_routed_experts": 4,
            "n_group": 1,
            "topk_group": 1,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "first_k_dense_replace": 1,
        },
        PLAIN,
    ),
    Family("Falcon-H1", "falcon_h1", HEAD | MAMBA2 | {"mamba_d_ssm": 64, "lm_head_multiplier": 0.5}, PLAIN),
    Family(
        "Granite 4",
        "granitemoehybrid",
        MAMBA2 | {"layer_types": LINEAR, "num_local_experts": 4, "num_experts_per_tok": 2},
        PLAIN,
    ),
    # without positions of the tokens it would count from 0 again behind a cache
    Family("Bamba", "bamba", MAMBA2 | {"attn_layer_indices": [1, 3]}, PLAIN),
    Family(
        "Jamba",
        "jamba",
        {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 4, "mamba_d_state": 8, "mamba_dt_rank": 4},
        PLAIN,
    ),
    Family("LFM2", "lfm2", {"layer_types": ["conv", "full_attention"] * 2}, PLAIN),
    Family("GPT-J", "gptj", {"rotary_dim": 4}, PLAIN),
    Family("BLOOM", "bloom", {}, PLAIN),
    Family("DiffLlama", "diffllama", {}, PLAIN),
]
ZAMBA2 = Family(
    "Zamba2",
    "zamba2",
    {
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "n_mamba_heads": 4,
        "mamba_d_state": 8,
        "mamba_ngroups": 1,
        "chunk_size": 8,
        "num_mem_blocks": 1,
    },
)
GEMMA3N = Family(
    "Gemma 3n, text",
    "gemma3n_text",
    HEAD
    | {
        "layer_types": ALTERNATING,
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 400,
        "laurel_rank": 4,
        "activation_sparsity_pattern": [0.9, 0.0, 0.0, 0.0],
        "intermediate_size": [64] * 4,
    },
)
# What is refused, by its config alone: name, model_type, settings.
REFUSED = [
    ("T5, BART and other encoders with decoders", "t5", {"d_model": 16}),
    ("Gemma 3 with its images", "gemma3", {}),
    ("Gemma 4 with its images and sounds", "gemma4", {}),
    (GEMMA3N.name, GEMMA3N.kind, GEMMA3N.own | {"num_hidden_layers": 4, "hidden_size": 32}),
    (ZAMBA2.name, ZAMBA2.kind, ZAMBA2.own | {"num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 4}),
    ("Mamba", "mamba", {}),
    ("RWKV", "rwkv", {}),
    ("RecurrentGemma", "recurrent_gemma", {}),
    ("NanoChat", "nanochat", {}),
    ("BERT", "bert", {}),
    ("Models of images", "vit", {}),
    ("Quantized weights of any family", "llama", {"quantization_config": {"quant_method": "gptq", "bits": 4}}),
]
PREFIX = list(range(10, 19))
# three that share a prefix, of which two are equally long, and one alone
ROWS = [[*PREFIX, *range(30, 37)], [*PREFIX, 40, 41, 42], [*PREFIX, *[50] * 3], [7, 8, 9, 10, 11, 12]]
GROUPS = ["a", "a", "a", "b"]
FIRST = [len(PREFIX) + 1] * 3 + [1]  # the first token of each row that is scored


class WordTokenizer:
    """Ids as words: what the engines need of a tokenizer and no more. Answers are compared token for token."""

    eos_token_id = 1
    added_tokens_decoder = types.MappingProxyType({})

    def __call__(self, texts, **options):
        return {"input_ids": [self.encode(text) for text in texts]}

    def encode(self, text, **options):
        return [int(word) for word in text.split()]

    def get_chat_template(self):
        return ""

    def apply_chat_template(self, messages, **options):
        return ""

    def decode(self, ids, **options):
        return " ".join(str(int(i)) for i in ids if int(i) != 1)


def bare(family: Family, tokenizer) -> PreTrainedModel:
    sizes = {"max_position_embeddings": 64, "pad_token_id": tokenizer.pad_token_id}
    return tiny_llm(tokenizer, family.kind, 4, **sizes | family.own).eval()


def build(family: Family, tokenizer) -> PreTrainedModel:
    """A random model of a family; its biases, norms and sinks are no zeros or ones, which would not show."""
    model = bare(family, tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def named(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


@dataclass
class Case:
    """A model with what its own plain calls say of each of ``ROWS``, one at a time.

    Attributes:
        logits: [length, vocabulary] a row.
        states: [layers + 1, length, hidden] a row.
    """

    family: Family
    llm: PreTrainedModel
    described: dict
    log: str
    logits: list[Tensor]
    states: list[Tensor]

    @property
    def engine(self) -> Engine:
        return Engine(self.llm, WordTokenizer(), 4096)

    @property
    def batch(self) -> Batch:
        return collate([[Example(tuple(row), 1)] for row in ROWS], list(range(len(ROWS))))

    @property
    def log_probs(self) -> list[Tensor]:
        """Of every token of a row but the first."""
        pairs = zip(self.logits, ROWS, strict=True)
        return [own.log_softmax(-1)[:-1].gather(-1, torch.tensor(row[1:])[:, None])[:, 0] for own, row in pairs]

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Of the embeddings and of all that lies in the first layer."""
        chosen = [self.llm.get_input_embeddings().weight, *decoder_layers(self.llm)[0].parameters()]
        found = torch.autograd.grad(loss, chosen, allow_unused=True)
        return [torch.zeros(1) if gradient is None else gradient for gradient in found]


def own_words(llm: PreTrainedModel) -> Iterator[tuple[Tensor, Tensor]]:
    """What the model says of each row: its logits and hidden states."""
    for row in ROWS:
        with torch.inference_mode():
            output = llm(torch.tensor([row]), use_cache=False, output_hidden_states=True)
        yield output.logits[0].float(), torch.stack(output.hidden_states)[:, 0].float()


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def case(request, llm, tmp_path_factory, caplog_of_module) -> Case:
    """A model that was saved, described and loaded as those of the jobs are."""
    folder = tmp_path_factory.mktemp(request.param.kind)
    build(request.param, llm[1]).save_pretrained(folder)
    llm[1].save_pretrained(folder)
    described = describe_llm(folder)
    with caplog_of_module() as lines:
        loaded, _ = load_llm(folder)
    logits, states = zip(*own_words(loaded), strict=True)
    return Case(request.param, loaded, described, "\n".join(lines), list(logits), list(states))


@pytest.fixture(scope="module")
def caplog_of_module():
    """What the jobs' log is told inside a block."""

    class Lines(list, logging.Handler):
        def __init__(self):
            list.__init__(self)
            logging.Handler.__init__(self)

        __hash__ = logging.Handler.__hash__

        def emit(self, record):
            self.append(record.getMessage())

        def __enter__(self):
            logging.getLogger("atu").setLevel(logging.INFO)
            logging.getLogger("atu").addHandler(self)
            return self

        def __exit__(self, *error):
            logging.getLogger("atu").removeHandler(self)

    return Lines


def near(found, expected) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


# --- what is compared ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def compare_logits(case: Case) -> None:
    """Behind a shared prefix; of rows that are padded or of one length."""
    read = [len(row) - start for row, start in zip(ROWS, FIRST, strict=True)]
    found = dict(next_token_logits(case.llm, ROWS, read, 4096, "", GROUPS))
    for i, (own, count) in enumerate(zip(case.logits, read, strict=True)):
        near(found[i], own[-count:])


def compare_log_probs(case: Case) -> None:
    """Those of texts, of the next token, and those by which trained methods know the base model."""
    scores = case.engine.score_tokens(ROWS, FIRST, groups=GROUPS)
    for score, own, start in zip(scores, case.log_probs, FIRST, strict=True):
        near(score.log_probs, own[start - 1 :])
    known = [own.log_softmax(-1)[-2] for own in case.logits]  # where the last token of a row is predicted
    means = [(own.exp() * own).sum() for own in known]
    near([score.mean[-1] for score in scores], means)
    spread = [(own.exp() * (own - mean).square()).sum() for own, mean in zip(known, means, strict=True)]
    torch.testing.assert_close([score.variance[-1] for score in scores], spread, atol=1e-3, rtol=1e-3)
    prompts = [" ".join(map(str, row)) for row in ROWS]
    weighed = case.engine.weigh_next(prompts, ["40", "41"], groups=GROUPS)
    near(weighed, [own[-1].log_softmax(-1)[[40, 41]] for own in case.logits])
    items = [[Example(tuple(row), 1)] for row in ROWS]
    near(
        reference_log_probs(case.llm, items, [[0, 1], [2, 3]])[:, 0],
        torch.stack([own.sum() for own in case.log_probs]),
    )


def compare_answers(case: Case) -> None:
    """Token for token those of transformers' ``generate``."""
    attention = case.llm.config._attn_implementation
    answers = case.engine.generate([" ".join(map(str, row)) for row in ROWS], max_new_tokens=12, groups=GROUPS)
    for row, answer in zip(ROWS, answers, strict=True):
        with torch.inference_mode():
            ids = case.llm.generate(torch.tensor([row]), max_new_tokens=12, do_sample=False, pad_token_id=0)[0]
        assert answer == WordTokenizer().decode(ids[len(row) :])
    assert len(set(answers)) > 1
    assert case.llm.config._attn_implementation == attention  # as it was


def compare_states(case: Case) -> None:
    """Of a decoder that is cut at each layer, in a padded batch; of all layers where an answer begins."""
    input_ids, mask = pad([torch.tensor(row) for row in ROWS])
    for layer in range(1, 5):
        with torch.inference_mode(), layers_up_to(case.llm, layer) as decoder:
            found = hidden_states(decoder, input_ids, mask)
        for states, own, row in zip(found, case.states, ROWS, strict=True):
            near(states[: len(row)], own[layer])
    prompts = [" ".join(map(str, row)) for row in ROWS]
    near(last_states(case.engine, prompts, GROUPS), torch.stack([own[:, -1] for own in case.states]))


def compare_training(case: Case) -> None:
    """Losses of a padded batch, and the gradients of one, against transformers' own loss of each row alone."""
    found = descent_loss(*scored_logits(case.llm, case.batch))
    counts = torch.tensor([len(row) - 1.0 for row in ROWS])
    losses = [case.llm(torch.tensor([row]), labels=torch.tensor([row]), use_cache=False).loss for row in ROWS]
    expected = (torch.stack(losses) * counts).sum() / counts.sum()
    near(found, expected)
    near(case.gradients(found), case.gradients(expected))
    reference = torch.tensor([-50.0, -40.0, -30.0, -20.0])
    batch = collate([[Example(tuple(row), 1)] for row in ROWS], [0, 1, 2, 3], reference=reference[:, None])
    ratios = torch.stack([own.sum() for own in case.log_probs]) - reference
    near(NPO(0.1).loss(case.llm, batch), npo_loss(ratios, 0.1))


def compare_unlearning(case: Case) -> None:
    """ATU's loss of a padded batch and its gradients, against its formula over the rows' own hidden states."""
    torch.manual_seed(0)
    predictor, target, layer = EmbeddingPredictor(32, 8, 16, 1, 2).eval(), torch.randn(8), 3
    input_ids, mask = pad([torch.tensor(row) for row in ROWS])
    with layers_up_to(case.llm, layer) as decoder:
        found = unlearn_loss(predictor(hidden_states(decoder, input_ids, mask)), target, -0.2, mask)
    excess = []
    for row in ROWS:
        states = case.llm(torch.tensor([row]), use_cache=False, output_hidden_states=True).hidden_states[layer]
        cosine = torch.cosine_similarity(predictor(states)[0], target[None], dim=-1)
        excess.append((cosine + 0.2).clamp(min=0))
    expected = torch.cat(excess).mean()
    assert expected > 0.01
    near(found, expected)
    near(case.gradients(found), case.gradients(expected))


COMPARED: dict[str, Callable[[Case], None]] = {
    "logits": compare_logits,
    "log-probabilities": compare_log_probs,
    "greedy answers": compare_answers,
    "hidden states": compare_states,
    "training losses": compare_training,
    "the unlearning loss": compare_unlearning,
}


@pytest.mark.parametrize("what", COMPARED)
def test_the_engines_say_what_the_model_says(case, what):
    COMPARED[what](case)


def test_the_path_is_known_before_the_first_job_and_stands_in_the_log(case):
    plain = case.described["plain"]
    assert (PLAIN if plain else SHARED) == case.family.path
    assert plain == why_plain(case.llm)
    name = type(case.llm).__name__
    assert case.described["class"] == name
    line = f"{name} takes the plain path, on which no rows share a prefix: {plain}" if plain else ""
    assert case.log == line


# --- what is refused -------------------------------------------------------------------------------------------------


def refusal(folder: Path, kind: str, settings: dict) -> str:
    """The line by which a config is refused; its tokenizer would do."""
    known = {"num_hidden_layers": 4, "hidden_size": 32, "vocab_size": 400} if kind in ("mamba", "rwkv") else {}
    folder.mkdir(exist_ok=True)
    config = AutoConfig.for_model(kind, **known | settings)
    (folder / "config.json").write_text(config.to_json_string(use_diff=False))
    with pytest.raises(ModelError) as raised:
        describe_llm(folder)
    return str(raised.value)


@pytest.mark.parametrize(("name", "kind", "settings"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_be_used_is_refused_in_one_line_with_the_mend(tmp_path, name, kind, settings):
    line = refusal(tmp_path / "model", kind, settings)
    assert "\n" not in line
    assert "choose " in line


@pytest.mark.parametrize(
    ("family", "where"),
    [
        (ZAMBA2, "a growing cache"),  # its own steps from a cache are not its own pass over a whole text
        (GEMMA3N, "the first 2 layers"),
        (Family("NanoChat", "nanochat"), "the first 2 layers"),
    ],
    ids=["zamba2", "gemma3n", "nanochat"],
)
def test_classes_that_are_refused_by_name_would_be_refused_by_their_numbers(llm, family, where):
    with pytest.raises(ExplainedError, match=f"predict differently .{where} by"):
        check_engine(build(family, llm[1]))


def test_a_plain_path_that_is_not_the_model_is_refused(llm, monkeypatch):
    """Its own cache is compared as well: one that forgets its recurrent states when rows are chosen, say."""
    model = build(named("Qwen3.5"), llm[1])
    check_engine(model)
    monkeypatch.setattr("atu.engine.plain.PlainRows.select", lambda rows, kept: None)
    with pytest.raises(ExplainedError, match="cannot run Qwen3_5ForCausalLM"):
        check_engine(model)


@pytest.mark.parametrize("name", ["gpt-oss", "DiffLlama", "GPT-J", "Qwen3.5", "Gemma 4 E2B, E4B, text"])
def test_a_model_that_takes_the_wrong_path_is_refused(llm, monkeypatch, name):
    """Were nothing known of such models, their numbers would still be compared."""
    model = build(named(name), llm[1])
    for module in ("prefill", "agreement"):
        monkeypatch.setattr(f"atu.engine.{module}.why_plain", lambda llm: None)
    with pytest.raises(ExplainedError, match=r"predict differently|cannot run") as raised:
        check_engine(model)
    assert "\n" not in str(raised.value)


def test_rows_that_have_ended_leave_a_plain_batch(llm):
    """Recurrent states go with their rows: answers are those of prompts that stand alone."""
    model = build(named("Qwen3.5"), llm[1])
    model.generation_config.eos_token_id = list(range(1, 400, 9))
    prompts = [" ".join(map(str, [*range(first, first + 8)])) for first in range(20, 110, 15)]
    together = Engine(model, WordTokenizer(), 4096).generate(prompts, max_new_tokens=30)
    assert together == [
        Engine(model, WordTokenizer(), 1).generate([prompt], max_new_tokens=30)[0] for prompt in prompts
    ]
    assert len({len(answer.split()) for answer in together}) > 2


# --- text models inside others ---------------------------------------------------------------------------------------


def test_a_text_model_is_taken_out_of_a_larger_one_where_transformers_does_so(llm, tmp_path):
    """A directory of Qwen3.5 with its images: what is loaded says what the whole says of text, and is saved alone."""
    text = {"vocab_size": len(llm[1]), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3, "eos_token_id": 1}
    sight = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    torch.manual_seed(0)
    config = AutoConfig.for_model("qwen3_5", text_config=text | DELTA_NET, vision_config=sight)
    whole = AutoModelForImageTextToText.from_config(config).eval()
    whole.save_pretrained(tmp_path)
    llm[1].save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    more = {"mtp.layers.0.mlp.up_proj.weight": torch.zeros(64, 32)}  # of a part that guesses further tokens
    save_file(weights | more, tmp_path / "model.safetensors", metadata={"format": "pt"})
    described = describe_llm(tmp_path)
    assert (described["class"], described["layers"]) == ("Qwen3_5ForCausalLM", 4)
    model, _ = load_llm(tmp_path)
    row = torch.tensor([ROWS[0]])
    with torch.inference_mode():
        near(model(row).logits, whole(input_ids=row).logits)
    # weights that lie elsewhere than transformers looks for them would be random numbers
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    layers = {"num_hidden_layers": 6, "layer_types": [*LINEAR, *LINEAR[:2]]}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "qwen3_5", "text_config": config | layers, "vision_config": sight})
    )
    with pytest.raises(ModelError, match=r"lacks weights that its config\.json asks for"):
        describe_llm(tmp_path)


# --- the document ----------------------------------------------------------------------------------------------------

HEAD_OF_DOCUMENT = f"""# Models

Written by `tests/test_matrix.py`, run as a script. It builds a tiny random model of each family from its config class
and compares the engines with transformers' own plain calls, within 1e-4 in float32:

{{}}
On the **{SHARED}** path prompts that begin alike share the keys and values of their beginning. On the **{PLAIN}** path
each row is run whole, in batches of one length, with transformers' own cache: the same numbers, more time. The log of
the job says when that path is taken, and why. Families that are not listed are tried as well: every job compares the
real model that it loads, too, and refuses it where numbers differ.

A directory of Qwen3.5 with its images will do: transformers takes the text model out of it.

| models | class | path | compared |
| --- | --- | --- | --- |
"""
REST_OF_DOCUMENT = f"""
What cannot be had is refused before the first job, in one line that ends with a way out ("{OTHER}"):

| models | refused with |
| --- | --- |
"""


def document() -> str:
    """The table of all families, what is compared, and what is refused."""
    lines = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "llm")
        build_llm(folder)
        tokenizer = load_llm(folder)[1]
        for family in FAMILIES:
            with torch.device("meta"):
                model = bare(family, tokenizer)
            reason = why_plain(model)
            path = f"{PLAIN}: {reason}" if reason else SHARED
            lines.append(f"| {family.name} | `{type(model).__name__}` | {path} | all {len(COMPARED)} |\n")
        words = [refusal(Path(place, str(i)), *rest).removesuffix(f"; {OTHER}") for i, (_, *rest) in enumerate(REFUSED)]
    refused = [f"| {row[0]} | {said} |\n" for row, said in zip(REFUSED, words, strict=True)]
    told = {name: " ".join(str(compare.__doc__).replace("``", "`").split()) for name, compare in COMPARED.items()}
    what = "".join(f"- **{name}**: {said}\n" for name, said in told.items())
    table = HEAD_OF_DOCUMENT.format(what) + "".join(lines)
    return f"{table}{REST_OF_DOCUMENT}{''.join(refused)}"


def test_the_document_says_what_is_tested():
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run tests/test_matrix.py as a script"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
