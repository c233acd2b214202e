"""Language models of many classes: the engines say what transformers' own calls say, or refuse in one line."""

import copy
import hashlib
import json
import shutil
from datetime import datetime

import pandas as pd
import pytest
import torch
import transformers.utils.chat_template_utils as templates
from safetensors.torch import load_file, save_file
from tokenizers import processors
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from atu.alignment.encoder import load_encoder
from atu.common.runtime import ExplainedError
from atu.engine.agreement import check_engine, differences
from atu.engine.chat import chat_prompt, check_template, of_rendered, set_template_options, turn_end
from atu.engine.checks import check_encoder, describe_llm, open_config
from atu.engine.engine import Engine
from atu.engine.examples import Example, answer_example, collate, scored_logits
from atu.engine.logits import read_logits, refuse_nan
from atu.engine.models import ModelError, load_llm
from atu.engine.prefill import context_length
from atu.evaluation.evaluate import build_prompt, check_score, evaluate
from atu_pipeline.settings import model_needs, unmet_needs
from atu_pipeline.settings.fit import found_before
from conftest import build_encoder, build_llm
from test_matrix import Family, build, named
from test_settings import DEMO, check

ONE = torch.ones(1)


def plain_log_probs(model, row: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([row]), use_cache=False).logits[0].float().log_softmax(-1)


def as_example(row: list[int]) -> Example:
    return Example(tuple(row), 1)


def test_the_logits_of_known_states_by_hand(llm):
    """Gemma-2's soft cap: c tanh(x / c) of the head's output x; gradients flow through it."""
    model = build(named("Gemma 2"), llm[1])
    states = torch.randn(3, 32, requires_grad=True)
    head = model.get_output_embeddings()(states)
    logits = read_logits(model, states)
    torch.testing.assert_close(logits, 2.0 * torch.tanh(head / 2.0))
    (gradient,) = torch.autograd.grad(logits.sum(), states)
    (expected,) = torch.autograd.grad((2.0 * torch.tanh(head / 2.0)).sum(), states)
    torch.testing.assert_close(gradient, expected)
    assert "forward" not in vars(model.get_decoder())


def test_logits_of_llama_are_bit_for_bit_those_of_its_head(llm):
    states = torch.randn(5, 32)
    with torch.inference_mode():
        assert torch.equal(read_logits(llm[0], states), llm[0].get_output_embeddings()(states))


def test_the_head_runs_on_the_read_positions_alone(llm, monkeypatch):
    seen = []
    llm[0].get_output_embeddings().register_forward_hook(lambda head, given, output: seen.append(given[0].shape[-2]))
    try:
        Engine(*llm, 4096).score_tokens([[5, 6, 7, 8, 9, 10, 11, 12]], [6])
        items = [[as_example([5, 6, 7, 8])]]
        scored_logits(llm[0], collate(items, [0]))
    finally:
        llm[0].get_output_embeddings()._forward_hooks.clear()
    assert seen == [2, 3]


def test_bfloat16_agrees_within_its_rounding(llm):
    for name in ("Phi-3", "Gemma 2", "Mixtral", "Qwen3.5", "gpt-oss"):
        check_engine(build(named(name), llm[1]).to(torch.bfloat16))


def test_an_engine_that_is_not_the_model_is_refused(llm, monkeypatch):
    """The logits of the head alone, as they once were: only classes that do no more pass."""
    monkeypatch.setattr("atu.engine.agreement.read_logits", lambda llm, states: llm.get_output_embeddings()(states))
    check_engine(llm[0])
    for name in ("Gemma 2", "Granite 3", "Command R"):
        with pytest.raises(ExplainedError, match="own forward pass predict differently"):
            check_engine(build(named(name), llm[1]))


def test_a_window_that_is_lost_is_refused(llm):
    own = {"sliding_window": 4, "layer_types": ["sliding_attention"] * 4}
    model = build(Family("Mistral", "mistral", own), llm[1])
    for layer in model.model.layers:
        layer.self_attn.config.sliding_window = None
    with pytest.raises(ExplainedError, match="does not hand its window on"):
        check_engine(model)


def test_the_check_touches_no_random_state_and_leaves_the_model_as_it_was(llm):
    model, before = llm[0], torch.get_rng_state()
    attention = model.config._attn_implementation
    check_engine(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.config._attn_implementation == attention
    assert not model.training
    assert max(differences(model).values()) < 1e-5


def test_logits_that_are_nan_are_never_scored(llm):
    assert refuse_nan(torch.tensor([[0.0, -torch.inf]])).shape == (1, 2)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ExplainedError, match="logits are NaN or infinite"):
            refuse_nan(torch.tensor([[0.0, 1.0], [bad, 0.0]]))
    broken = copy.deepcopy(llm[0])
    broken.get_output_embeddings().weight.data[7] = torch.nan
    for ask in (
        lambda: check_engine(broken),
        lambda: Engine(broken, llm[1], 99).generate(["Ada"], max_new_tokens=3),
        lambda: Engine(broken, llm[1], 99).score_tokens([[5, 6, 7]], [1]),
    ):
        with pytest.raises(ExplainedError, match="logits are NaN or infinite"):
            ask()


def test_a_masked_vocabulary_is_no_fault(llm):
    """Mean and variance of log-probabilities leave out what has no probability: by hand over the rest."""
    masked = copy.deepcopy(llm[0])
    head = masked.get_output_embeddings()
    head.register_forward_hook(lambda module, given, output: output.index_fill(-1, torch.tensor([3]), -torch.inf))
    check_engine(masked)
    engine = Engine(masked, llm[1], 99)
    (score,) = engine.score_tokens([[5, 6, 7]], [2])
    rest = torch.arange(len(llm[1])) != 3
    log_probs = plain_log_probs(llm[0], [5, 6, 7])[1][rest].log_softmax(-1)
    mean = (log_probs.exp() * log_probs).sum()
    assert score.mean.item() == pytest.approx(mean.item(), abs=1e-4)
    assert score.variance.item() == pytest.approx((log_probs.exp() * (log_probs - mean) ** 2).sum().item(), abs=1e-3)
    (impossible,) = engine.score_tokens([[5, 6, 3]], [2])
    assert impossible.log_probs.tolist() == [-torch.inf]


def test_a_score_that_is_not_finite_enters_no_mean():
    check_score({"id": "a/0"}, {"score": 0.5, "details": {"answer": "yes"}})
    for score, details in ((float("nan"), {}), (float("-inf"), {}), (0.0, {"zlib": float("inf")})):
        with pytest.raises(ExplainedError, match="a/0: its score is not finite"):
            check_score({"id": "a/0"}, {"score": score, "details": details})


# --- prompts ------------------------------------------------------------------------------------------------------

LLAMA31 = (
    "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n"
    '        {%- set date_string = strftime_now("%d %b %Y") %}\n    {%- else %}\n'
    '        {%- set date_string = "26 Jul 2024" %}\n    {%- endif %}\n{%- endif %}\n'
    '{{- "Today Date: " + date_string + "\\n\\n" }}'
    "{%- for message in messages %}{{- message.role + ': ' + message.content + '<|end|>' }}{%- endfor %}"
)
GRANITE = (
    "  {%- set today = strftime_now('%B %d, %Y') %}\n"
    "{%- macro head() %}Today's Date: {{ strftime_now('%B %-d, %Y') }}.{% endmacro %}\n"
    "{{ head() }} {{ today }}{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
)
GPT_OSS = (
    '{%- macro system() %}{{ "Current date: " + strftime_now("%Y-%m-%d") }}{%- endmacro %}'
    "{{- system() }}{%- for m in messages %}{{ m.content }}<|end|>{%- endfor %}"
)
QWEN3 = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)


def with_template(tokenizer: PreTrainedTokenizerFast, template: str, **options) -> PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(tokenizer)
    set_template_options(tokenizer, options | {"chat_template": template})
    tokenizer.bos_token = "<|user|>"
    return tokenizer


def on(monkeypatch, *day: int) -> None:
    """Let transformers' templates see another day."""

    class Clock(datetime):
        @classmethod
        def now(cls, *arguments):
            return datetime(*day)

    monkeypatch.setattr(templates, "datetime", Clock)


@pytest.mark.parametrize(
    ("template", "told", "chosen"),
    [
        (LLAMA31, "Today Date: 26 Jul 2024\n", "Today Date: 03 Jan 2025\n"),
        (GRANITE, "Today's Date: July 26, 2024. July 26, 2024", "Today's Date: January 3, 2025. January 03, 2025"),
        (GPT_OSS, "Current date: 2024-07-26", "Current date: 2025-01-03"),
    ],
    ids=["llama31", "granite", "gpt_oss"],
)
def test_prompts_are_the_same_on_any_day(llm, monkeypatch, template, told, chosen):
    tokenizer, other = with_template(llm[1], template), with_template(llm[1], template, date_string="03 Jan 2025")
    asked = []
    for day in ((2025, 3, 1), (2031, 12, 24)):
        on(monkeypatch, *day)
        plain = tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
        assert str(day[0]) in plain  # what is not held still
        example = answer_example(tokenizer, "Who?", "Ada", 512)
        asked.append((chat_prompt(tokenizer, "Who?", system="Be brief."), turn_end(tokenizer), example))
    assert asked[0] == asked[1]
    assert told in asked[0][0]
    assert chosen in chat_prompt(other, "Who?")


def test_a_template_that_asks_no_clock_is_rendered_as_it_is(llm):
    """Also where it begins with what the environment would trim: a line break, an indented block."""
    for template in (
        "\n a{% if true %}\nb{% endif %}",
        "  {% if true %}c{% endif %}\n d",
        "{{ bos_token }}\n{%- if 1 %}e{% endif %}",
    ):
        template += "{% for m in messages %}{{ m.content }}{% endfor %}"
        tokenizer = with_template(llm[1], template)
        expected = tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
        assert chat_prompt(tokenizer, "?") == expected


def test_template_options_reach_every_prompt(tiny):
    for options, ends in (({}, "assistant\n"), ({"enable_thinking": False}, "<think>\n\n</think>\n\n")):
        _, tokenizer = load_llm(tiny / "llm", template_options={"chat_template": QWEN3, **options})
        assert chat_prompt(tokenizer, "Who?").endswith(ends)
        assert chat_prompt(tokenizer, "Who?", "Answer:", system="Be brief.").endswith(ends + "Answer:")
        example = answer_example(tokenizer, "Who?", "Ada", 512)
        assert tokenizer.decode(example.ids[: example.first]).endswith(ends)


def test_a_base_model_reads_plain_lines(tiny, tmp_path):
    """Without a template it is refused, unless its prompts are said to be plain; what is set reaches every prompt."""
    shutil.copytree(tiny / "llm", tmp_path / "base")
    (tmp_path / "base/chat_template.jinja").unlink()
    with pytest.raises(ExplainedError, match=r"no chat template.*template_options.chat_template.*template: none"):
        describe_llm(tmp_path / "base")
    described = describe_llm(tmp_path / "base", {"chat_template": None})
    assert described == describe_llm(tiny / "llm")
    _, tokenizer = load_llm(tmp_path / "base", template_options={"chat_template": None})
    assert chat_prompt(tokenizer, "Who?", "Answer:") == "Who?\nAnswer:"
    assert chat_prompt(tokenizer, "Who?\n", "Answer:", system="Be brief.") == "Be brief.\nWho?\nAnswer:"
    assert turn_end(tokenizer) is None
    example = answer_example(tokenizer, "Who?", "Ada", 512)
    assert tokenizer.decode(example.ids) == "Who?\nAda<|end|>"
    assert tokenizer.decode(example.ids[example.first :]) == "Ada<|end|>"
    # one whose tokenizer ends every text would be asked behind an end
    backend, end = tokenizer.backend_tokenizer, ("<|end|>", tokenizer.eos_token_id)
    backend.post_processor = processors.TemplateProcessing(single="$A <|end|>", special_tokens=[end])
    tokenizer.save_pretrained(tmp_path / "base")
    with pytest.raises(ModelError, match=r"puts the end of text behind a text.*in place of template: none"):
        describe_llm(tmp_path / "base", {"chat_template": None})


def test_faults_of_templates_are_one_line(llm):
    none = copy.deepcopy(llm[1])
    none.chat_template = None
    cases = [(none, "has no chat template.*template_options.chat_template")]
    cases += [
        (with_template(llm[1], text), message)
        for text, message in (
            ("{{ raise_exception('give a\\nname') }}", r"cannot be rendered \(TemplateError: give a name\)"),
            ("{{ messages[0].content + 3 }}", "cannot be rendered"),
            ("{% for m in messages", "cannot be rendered"),
            ("hello", "leaves out what the user says, or changes it"),
            ("{{ 1 / 0 }}", "cannot be rendered .ZeroDivisionError"),
            ("{{ 10.0 ** 1000 }}", "cannot be rendered .OverflowError"),
            ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "cannot be rendered .RecursionError"),
            ("{{ messages[0].content }}{{ messages[0].tools[3].name }}", "cannot be rendered"),
        )
    ]
    for tokenizer, message in cases:
        with pytest.raises(ExplainedError, match=message) as raised:
            chat_prompt(tokenizer, "Who?")
        assert "\n" not in str(raised.value)
    for text, message in (
        ("{{ messages[0].content[:400] }}", "leaves out what the user says, or changes it"),
        ("{{ messages[0].content | truncate(9000) }}", "leaves out what the user says, or changes it"),
        ("{% if messages[0].content | length > 99 %}{{ 1 / 0 }}{% endif %}{{ messages[0].content }}", "ZeroDivision"),
        ("{{ messages[0].content }}{{ range(99) | random }}", "writes another prompt each time"),
    ):
        with pytest.raises(ExplainedError, match=message):
            check_template(with_template(llm[1], text))
    check_template(with_template(llm[1], QWEN3))
    for options, message in (
        ({"enable_thinkin": False}, "enable_thinkin: the model's chat template does not read enable_thinkin; correct"),
        ({"tokenize": True}, "tokenize: this is set here"),
        ({"add_generation_prompt": False}, "add_generation_prompt: this is set here"),
    ):
        with pytest.raises(ExplainedError, match=f"template_options.{message}"):
            with_template(llm[1], QWEN3, **options)
    with pytest.raises(ExplainedError, match="date_string: '2025-01-03' is no day such as '26 Jul 2024'"):
        set_template_options(copy.deepcopy(llm[1]), {"date_string": "2025-01-03"})


def probes_of(sets: dict[str, str], **more) -> pd.DataFrame:
    rows = []
    for name, query in sets.items():
        row = {"set": name, "id": f"{name}/0", "split": "test", "type": "", "neighbor": "", "query": query}
        rows.append(row | {"context": "", "answers": ["Ada"], "choices": ["red", "blue"], "mc1": [1, 0], "mc2": [1, 0]})
    return pd.DataFrame([row | more for row in rows])


@pytest.mark.parametrize("name", ["forget_qa", "mia_fm", "utility_tru", "utility_gen"])
def test_a_prompt_longer_than_the_context_is_named_before_anything_is_asked(llm, monkeypatch, name):
    """20,000 characters, of a model that reads 512 tokens; another set's probe stands before it."""
    ran = []
    monkeypatch.setattr(llm[0].get_decoder(), "forward", lambda *args, **kwargs: ran.append(1))
    probes = probes_of({"forget_fb": "Who? ___", name: "Who wrote the song of Rome? " * 720})
    with pytest.raises(ExplainedError, match=rf"{name}/0 has a prompt of \d+ tokens.* context has 512"):
        evaluate(Engine(*llm, 400), probes, ["forget_fb", name], {"truthfulqa": ""})
    assert not ran


def test_the_longest_prompt_that_fits_is_asked(llm):
    """30 new tokens and a prompt of exactly as many as are left."""
    engine, tokenizer = Engine(*llm, 400), llm[1]
    room = 512 - 30
    for words in range(400, 520):
        probes = probes_of({"forget_qa": "A" * words})
        prompt = build_prompt(tokenizer, probes.to_dict("records")[0], {})
        length = len(tokenizer.encode(prompt, add_special_tokens=False))
        if length == room:
            assert len(evaluate(engine, probes, ["forget_qa"], {})) == 1
        if length == room + 1:
            with pytest.raises(ExplainedError, match=f"a prompt of {room + 1} tokens with 30 for the answer"):
                evaluate(engine, probes, ["forget_qa"], {})
            return
    raise AssertionError("no prompt had the length that was sought")


def test_the_engines_refuse_what_the_model_cannot_read(llm):
    engine = Engine(*llm, 99)
    with pytest.raises(ExplainedError, match="a text of 510 tokens and 5 new ones is longer than the model's context"):
        engine.generate([engine.tokenizer.decode([40] * 510)], max_new_tokens=5)
    with pytest.raises(ExplainedError, match="writes token 4000, and the model has embeddings for 4"):
        engine.score_tokens([[5, 4000, 6, 7]], [1])


def test_a_model_with_two_kinds_of_positions_reads_as_far_as_the_first():
    """Phi-3's long variant turns all positions of a batch in another way once one row is long."""
    rope = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    lengths = {"max_position_embeddings": 128, "original_max_position_embeddings": 32}
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "pad_token_id": 0}
    assert context_length(AutoConfig.for_model("phi3", **sizes | lengths, rope_scaling=rope)) == 32
    assert context_length(AutoConfig.for_model("llama", max_position_embeddings=64)) == 64
    assert context_length(AutoConfig.for_model("gpt2", n_positions=48)) == 48


# --- what check_model says ------------------------------------------------------------------------------------------


def test_a_model_is_described_without_its_weights(tiny, tmp_path):
    folder = shutil.copytree(tiny / "llm", tmp_path / "llm")
    (folder / "model.safetensors").unlink()
    described = describe_llm(folder)
    assert (described["layers"], described["context"], described["offsets"]) == (3, 512, True)
    assert "model.layers.*.self_attn.q_proj" in described["modules"]


def test_needs_name_key_value_and_what_there_is(tmp_path):
    build_llm(tmp_path, family="phi3")
    described = describe_llm(tmp_path)
    fits = [{"key": "a", "layer": 3}, {"key": "b", "modules": ["qkv_proj", "mlp.down_proj"]}]
    fits += [{"key": "c", "tokens": 512}, {"key": "d", "offsets": True}, {"key": "e", "range": "0-2"}]
    fits += [{"key": "f", "modules": "auto"}, {"key": "g", "layer_modules": ["qkv_proj"]}]
    assert unmet_needs(fits, described) == []
    for need, message in (
        (
            {"key": "method_settings.rmu.options.layer", "layer": 99},
            "method_settings.rmu.options.layer: 99 is no layer of the model, which has layers 1 to 3",
        ),
        ({"key": "m.layer", "layer": 0}, "m.layer: 0 is no layer of the model, which has layers 1 to 3"),
        (
            {"key": "m.layers", "range": "2-3"},
            "m.layers: 2-3 names layers that the model lacks, which has layers 0 to 2",
        ),
        (
            {"key": "method_settings.ga.lora.modules", "modules": ["q_proj", "o_proj"]},
            "method_settings.ga.lora.modules: q_proj is no linear map of Phi3ForCausalLM, which has down_proj, "
            "embed_tokens, gate_up_proj, lm_head, o_proj, qkv_proj",
        ),
        (
            {"key": "corpus.max_tokens", "tokens": 513},
            "corpus.max_tokens: 513 tokens do not fit into the model's context of 512",
        ),
    ):
        assert unmet_needs([need], described) == [message]
    (slow,) = unmet_needs([{"key": "method_settings.atu", "offsets": True}], described | {"offsets": False})
    assert slow.startswith("method_settings.atu: the model's tokenizer does not say where in a text")


def test_an_unknown_architecture_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nothing_like_it"}))
    with pytest.raises(ModelError, match="no model that the installed transformers knows") as raised:
        open_config(tmp_path)
    assert "\n" not in str(raised.value)


def test_weights_and_config_that_do_not_belong_together_are_refused(tiny, tmp_path):
    """What a checkpoint lacks would be random numbers, and layers that its config does not count would be left out."""

    def changed(kind, name, change):
        folder = shutil.copytree(tiny / kind, tmp_path / name)
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    up = "model.layers.1.mlp.up_proj.weight"
    with pytest.raises(ModelError, match=f"lack lacks weights that its config.json asks for: {up}; they do not belong"):
        load_llm(changed("llm", "lack", lambda weights: weights.pop(up)))
    rotary = changed("llm", "rotary", lambda weights: weights.update({f"{up[:15]}.self_attn.rotary_emb.inv_freq": ONE}))
    load_llm(rotary)
    config = json.loads((rotary / "config.json").read_text())
    (rotary / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with pytest.raises(ModelError, match=r"weights of layers .* does not name: model.layers.2.* and 8 more; they"):
        load_llm(rotary)
    (rotary / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ModelError, match="its weights are quantized"):
        describe_llm(rotary)
    norm = "encoder.layer.0.attention.output.LayerNorm.weight"
    with pytest.raises(ModelError, match=f"encoder lacks weights .*: {norm}; they do not belong"):
        load_encoder(changed("encoder", "encoder", lambda weights: weights.pop(norm)), "cpu")
    load_encoder(changed("encoder", "poolerless", lambda weights: weights.pop("pooler.dense.bias")), "cpu")


def test_tokenizers_that_cannot_be_used_are_refused(tiny, tmp_path):
    def changed(name, change):
        folder = shutil.copytree(tiny / "llm", tmp_path / name)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        change(tokenizer)
        for file in ("chat_template.jinja", "special_tokens_map.json"):
            (folder / file).unlink(missing_ok=True)
        tokenizer.save_pretrained(folder)
        return folder

    plain = changed("plain", lambda tokenizer: setattr(tokenizer, "chat_template", None))
    with pytest.raises(ExplainedError, match="has no chat template, so it is no chat model"):
        describe_llm(plain)
    assert describe_llm(plain, {"chat_template": QWEN3})["layers"] == 3  # the way out

    def endless(tokenizer):
        tokenizer.eos_token = None
        tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"

    with pytest.raises(ModelError, match="no end of text and its chat template ends no turn"):
        describe_llm(changed("endless", endless))
    small = shutil.copytree(tiny / "llm", tmp_path / "small")
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))
    with pytest.raises(ModelError, match=r"tokens up to 39\d, and its weights have embeddings for 300"):
        describe_llm(small)


def test_encoders_are_refused_unless_they_pool_by_the_mean(tmp_path):
    build_encoder(tmp_path / "encoder")
    check_encoder(tmp_path / "encoder")
    (pooling,) = tmp_path.glob("encoder/*Pooling/config.json")
    whole = json.loads(pooling.read_text())
    legacy = {"word_embedding_dimension": 16, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    for settings, modes in (
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["mean", "max"]}, "mean, max"),
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
    ):
        pooling.write_text(json.dumps(whole | settings))
        with pytest.raises(ModelError, match=f"pools by {modes}, and windows"):
            load_encoder(tmp_path / "encoder", "cpu")
    pooling.write_text(json.dumps(legacy | {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
    with pytest.raises(ModelError, match="pools by cls_token"):
        check_encoder(tmp_path / "encoder")
    pooling.write_text(json.dumps(legacy))
    load_encoder(tmp_path / "encoder", "cpu")
    modules = tmp_path / "encoder/modules.json"
    rows = json.loads(modules.read_text())
    modules.write_text(json.dumps([rows[0] | {"type": "sentence_transformers.models.StaticEmbedding"}]))
    with pytest.raises(ModelError, match="built of StaticEmbedding"):
        check_encoder(tmp_path / "encoder")


def test_methods_say_what_they_ask_of_a_model():
    rank = {"ga": {"lora": {"rank": 8}}, "npo": {"layers": "0-4", "lora": {"rank": 8, "modules": "auto"}}}
    config = check(DEMO, methods=["atu", "rmu", "repe", "ga", "npo", "icu"], method_settings=rank)
    needs = model_needs(config, config["methods"])
    by_key = {}
    for need in needs:
        by_key.setdefault(need["key"], []).append({k: v for k, v in need.items() if k != "key"})
    assert by_key["method_settings.atu.layer"] == [{"layer": 15}]
    assert by_key["method_settings.rmu.options.layer"] == [{"layer": 7}]
    assert by_key["method_settings.repe.options.layers"] == [{"layer": layer} for layer in range(13, 18)]
    assert by_key["method_settings.ga.lora.modules"] == [{"modules": ["q_proj", "v_proj"]}]
    assert by_key["method_settings.npo.lora.modules"] == [{"layer_modules": "auto"}]
    assert by_key["method_settings.npo.layers"] == [{"range": "0-4"}]
    assert "method_settings.ga.layers" not in by_key
    assert by_key["method_settings.ga.max_tokens"] == [{"tokens": 96}]
    assert by_key["corpus.max_tokens"] == [{"tokens": 96}]
    assert [need["key"] for need in model_needs(config, ["icu"])] == ["corpus.max_new_tokens"]
    grid = check(DEMO, methods=["ga"], method_settings={"ga": {"train": {"learning_rate": [1e-6, 1e-5]}}})
    keys = [need["key"] for need in model_needs(grid, grid["methods"])]
    assert keys.count("method_settings.ga.max_tokens") == 1


def test_what_is_known_of_a_model_counts_wherever_it_was_found_out(tiny, tmp_path, monkeypatch):
    """By the config's own run or by an experiment's, as long as it is of this model."""
    monkeypatch.chdir(tmp_path)
    source = {"source": "path", "path": str(tiny / "llm")}
    digest = hashlib.sha256((tiny / "llm/config.json").read_bytes()).hexdigest()
    known = {"layers": 3, "source": source, "config_sha256": digest}
    assert found_before("llm", source | {"parameters": 1e5}) is None
    for folder, found, expected in (
        ("experiments/stages", known, known),
        ("", known | {"config_sha256": "another's"}, known),  # that of an experiment is still right
        ("", known | {"layers": 4}, known | {"layers": 4}),
        ("", "damaged", known),
    ):
        file = tmp_path / "results" / folder / "checks/llm.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found)[: -1 if found == "damaged" else None])
        assert found_before("llm", source | {"parameters": 1e5}) == expected
    assert found_before("llm", source | {"path": str(tiny / "encoder")}) is None


# --- the workflow ---------------------------------------------------------------------------------------------------


def over(**blocks) -> str:
    return "method_settings=" + json.dumps(blocks)


def test_a_layer_that_the_model_lacks_is_refused_before_anything_is_computed(workflow):
    layer = over(atu={"layer": 9})
    done = workflow.run("--config", layer, check=False)
    assert done.returncode
    assert "method_settings.atu.layer: 9 is no layer of the model, which has layers 1 to 3" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (workflow.directory / "results/llm/tiny/texts").exists()
    assert not (workflow.directory / "results/checks").exists()


def test_methods_that_are_asked_for_later_are_refused_when_the_config_is_read(finished):
    lora = over(ga={"lora": {"rank": 4, "modules": ["qkv_proj"]}})
    done = finished.run("--dry-run", "--config", lora, "methods=[ga]", check=False)
    assert done.returncode
    assert (
        "method_settings.ga.lora.modules: qkv_proj is no linear map of LlamaForCausalLM, which has"
        in done.stdout + done.stderr
    )
    three = {"hook_layer": {"targets": ["1_Ada"], "methods": ["atu-layer10"], "shows": ["main"]}}
    done = finished.run("--dry-run", "hook_layer", "--config", "experiments=" + json.dumps(three), check=False)
    assert "method_settings.atu-layer10.layer: 10 is no layer of the model" in done.stdout + done.stderr
    fits = over(ga={"lora": {"rank": 4}, "max_tokens": 64})
    jobs = finished.planned("forget", "--config", fits, "methods=[ga]")
    assert jobs["train"] == 1
    assert not {"check_model", "write_texts"} & set(jobs)


def test_template_options_are_part_of_what_is_computed(finished):
    """They ask the model anew; of another model they change nothing here."""
    config = json.loads(finished.config.read_text())
    model = config["models"]["llm"] | {"template_options": {"enable_thinking": False}}
    jobs = finished.planned("--config", "models=" + json.dumps({"llm": model}))
    assert {"write_texts", "evaluate_before"} <= set(jobs)
    assert not {"check_model", "download_model"} & set(jobs)


def test_a_model_that_reads_rendered_prompts_needs_no_options_of_their_template(llm):
    """Those of a model from elsewhere would be refused, as the base model's template does not read them."""
    tokenizer = copy.deepcopy(llm[1])
    with pytest.raises(ExplainedError, match="does not read thinking"):
        set_template_options(tokenizer, {"thinking": True})
    set_template_options(tokenizer, of_rendered({"thinking": True, "date_string": "26 Jul 2024"}))
    assert not tokenizer.plain_prompts
    set_template_options(tokenizer, of_rendered({"chat_template": None}))
    assert tokenizer.plain_prompts  # which have special tokens
    assert of_rendered(None) == {}
