"""Protocols: each line of RWKU's own code and of the strict way beside it, by numbers worked out by hand."""

import json
import math
import re
import shutil
import zlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from atu.common.errors import ExplainedError
from atu.common.recipe import read_record, record
from atu.data.benchmark import normalize_row
from atu.data.metrics import METRICS, exact_match, token_f1
from atu.data.probe_sets import PROBE_SETS
from atu.data.protocol import PROTOCOL, PROTOCOLS, RWKU, STRICT, Protocol, ProtocolError, protocol_of
from atu.data.rows import BenchmarkError
from atu.engine.chat import named_stops, set_template_options, stop_tokens
from atu.engine.engine import Engine
from atu.engine.examples import answer_example, collate, read_items, reference_log_probs
from atu.evaluation.evaluate import build_prompt, evaluate
from atu.methods.ga import METHOD as GA
from atu.reporting.before import before_page, notes, score_before
from atu.reporting.published import compare, measure, published_page, sentences
from atu.reporting.tables import collect, protocol_of_runs
from atu_pipeline.recipes import Recipes
from conftest import ROOT, TEXT, tiny_llm
from test_settings import PAPER, check, refused

BOTH = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
PHI3 = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MISTRAL = "{{ bos_token }}[INST] {{ messages[0]['content'] }} [/INST]"


def with_bos(tokenizer: Tokenizer, bos: str) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )


def llama3_like() -> PreTrainedTokenizerFast:
    """Byte-level BPE without an unknown token, which puts BOS before a text; the end of text is not that of a turn."""
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=350, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([TEXT] * 3, trainer)
    with_bos(bpe, specials[0])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=specials[0], eos_token=specials[1], chat_template=LLAMA3
    )


def phi3_like() -> PreTrainedTokenizerFast:
    """SentencePiece's BPE with bytes to fall back to, an unknown token and BOS before a text."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", *sorted(set(TEXT) - {" "})]
    bpe = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bpe.add_special_tokens(["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"])
    with_bos(bpe, "<s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token="<unk>", bos_token="<s>", eos_token="<|endoftext|>", chat_template=PHI3
    )


def engine_of(tokenizer: PreTrainedTokenizerFast, context: int = 4096) -> Engine:
    """A random model of a few thousand weights for a tokenizer, as load_llm leaves the two."""
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return Engine(tiny_llm(tokenizer, max_position_embeddings=context).eval(), tokenizer, 4096)


LIKE = {"llama3": llama3_like, "phi3": phi3_like}


@pytest.fixture(scope="module", params=LIKE)
def engine(request) -> Engine:
    return engine_of(LIKE[request.param]())


@pytest.fixture(scope="module")
def llama3() -> Engine:
    return engine_of(llama3_like())


@pytest.fixture(scope="module")
def phi3() -> Engine:
    return engine_of(phi3_like())


SOLVED = {"question": "Who is red?", "choices": ["Di", "Bo", "Cy", "Ada"], "answer": 1}
CHOICES = {"choices": ["red", "blue", "green"], "labels": [1, 0, 0]}
ROWS = {
    "forget_qa": {"query": "Who wrote song? ___", "answer": "Ada", "level": "2", "type": "simple question"},
    "mia_fm": {"text": "Ada was a poet in Rome."},
    "utility_gen": SOLVED | {"task": "red_things", "examples": [SOLVED]},
    "utility_rea": {"task": "t", "question": "Is red blue?", "cot": "Q: Is sea blue?\nA: yes.", "answer": "(B)"},
    "utility_tru": {"question": "Who is red?", "mc1_targets": CHOICES, "mc2_targets": CHOICES},
    "utility_fac": {"question": "Who is red?", "answers": ["Di", "Bo"]},
    "utility_flu": {"instruction": "write a short song"},
}
PRIMERS = {"triviaqa": "Q: a\nA: b\n", "truthfulqa": "Q: a\nA: b"}


def probes_of(*names: str, **over) -> pd.DataFrame:
    """One probe of each set, with some fields of its row changed."""
    rows = [normalize_row(name, ROWS[name] | over) | {"id": f"{name}/0", "split": "test"} for name in names]
    return pd.DataFrame(rows)


def asked(engine: Engine, protocol: Protocol, *names: str, **over) -> pd.DataFrame:
    return evaluate(engine, probes_of(*names, **over), list(names), PRIMERS, protocol=protocol)


def fed(monkeypatch) -> list[list[int]]:
    """All rows of tokens that engines read from now on, with what is behind them."""
    import atu.engine.engine as generating
    import atu.engine.likelihood as scoring

    rows: list[list[int]] = []
    batches = generating.prefilled_batches

    def recorded(llm, ids, *arguments, **options):
        rows.extend(ids)
        return batches(llm, ids, *arguments, **options)

    for module in (generating, scoring):
        monkeypatch.setattr(module, "prefilled_batches", recorded)
    return rows


def saying(monkeypatch, tokens: list[int]) -> None:
    """Have any model say these tokens, the last one over and over."""
    import atu.engine.generation as generation

    said = iter(tokens)

    def next_token(logits, *how):
        return torch.full((len(logits),), next(said, tokens[-1]))

    monkeypatch.setattr(generation, "pick_next", next_token)


# --- the declaration --------------------------------------------------------------------------------------------------


def test_an_unknown_protocol_is_refused_in_one_line():
    with pytest.raises(ProtocolError, match=r"^unknown protocol 'rwku2'; known: rwku, strict$"):
        protocol_of("rwku2")
    said = refused(PAPER, evaluation={"protocol": "rwku2"})
    assert said == "evaluation.protocol: 'rwku2' is not one of rwku, strict; did you mean rwku?"
    assert protocol_of("rwku") is RWKU
    assert check(PAPER)["evaluation"]["protocol"] == "rwku"


def test_every_line_is_told_in_the_docs():
    page = (ROOT / "docs/protocols.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert told == [key.name for key in fields(Protocol)][2:]  # besides name and what is said of it
    for name in told:
        assert (getattr(RWKU, name), getattr(STRICT, name)) == (True, False)


# --- 1: special tokens ------------------------------------------------------------------------------------------------


@BOTH
def test_a_tokenizer_that_adds_bos_puts_it_before_the_templates_own(engine, protocol, monkeypatch):
    rows, bos = fed(monkeypatch), engine.tokenizer.bos_token_id
    asked(engine, protocol, "forget_qa", "utility_gen", "utility_rea", "utility_tru", "utility_fac", "utility_flu")
    assert len(rows) == 5 + 3  # three choices
    times = {"rwku": 2, "strict": 1}[protocol.name]
    assert all(row[: times + 1].count(bos) == times for row in rows)


def test_choices_are_scored_behind_a_prompt_with_bos(llama3):
    """As transformers' own forward pass has them, by the prompt's own count of tokens."""
    found = asked(llama3, RWKU, "utility_tru").iloc[0]
    sums = []
    for choice in CHOICES["choices"]:
        first = len(llama3.tokenizer(found["prompt"])["input_ids"])
        ids = llama3.tokenizer(f"{found['prompt']} {choice}", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            log_probs = llama3.llm(ids).logits[0, :-1].log_softmax(-1)
        sums.append(log_probs.gather(-1, ids[0, 1:, None])[first - 1 :].sum().item())
    details = json.loads(found["details"])
    assert details["mc2"] == pytest.approx(math.exp(sums[0]) / sum(map(math.exp, sums)), rel=1e-4)
    assert details["mc1"] == float(sums[0] > max(sums[1:]))
    strict = json.loads(asked(llama3, STRICT, "utility_tru").iloc[0]["details"])
    assert strict["mc2"] != pytest.approx(details["mc2"], rel=1e-3)


def test_shared_prefixes_change_nothing_with_bos(engine):
    """Prompts that share batches and prefixes score as each does alone."""
    names = ["forget_qa", "utility_gen", "utility_rea", "utility_tru", "utility_fac", "utility_flu", "mia_fm"]
    together = asked(engine, RWKU, *names)
    alone = pd.concat([asked(replace(engine, batch_tokens=1), RWKU, name) for name in names], ignore_index=True)
    assert together["prediction"].tolist() == alone["prediction"].tolist()
    np.testing.assert_allclose(together["score"], alone["score"], rtol=1e-4, atol=1e-5)


def test_lengths_count_the_bos_that_is_added():
    """A prompt that fills the context is too long with one token more."""
    tokenizer = llama3_like()
    prompt = build_prompt(tokenizer, probes_of("utility_gen").to_dict("records")[0], {})
    length = len(tokenizer.encode(prompt, add_special_tokens=False))
    full = engine_of(tokenizer, context=length)
    assert len(asked(full, STRICT, "utility_gen")) == 1
    with pytest.raises(ExplainedError, match=f"a prompt of {length + 1} tokens, and the model's context has {length}"):
        asked(full, RWKU, "utility_gen")


@BOTH
def test_plain_prompts_have_bos_once(protocol, monkeypatch):
    """A model without a template has no BOS but the tokenizer's."""
    tokenizer = llama3_like()
    tokenizer.chat_template = None
    set_template_options(tokenizer, {"chat_template": None})
    base, rows = engine_of(tokenizer), fed(monkeypatch)
    found = asked(base, protocol, "forget_qa", "utility_rea").set_index("set")["prompt"]
    question = "Please briefly answer the following question.\nQuestion: Who wrote song? ___\n"
    assert found["forget_qa"] == question + "Answer:"
    assert found["utility_rea"].endswith("\nQ: Is red blue?\nA:")
    assert [row[:2].count(tokenizer.bos_token_id) for row in rows] == [1, 1]
    example = answer_example(tokenizer, "Who?", "Ada", 64)
    assert tokenizer.decode(example.ids) == "<|begin_of_text|>Who?\nAda<|end_of_text|>"


# --- 2: where answers end ---------------------------------------------------------------------------------------------


def test_stops_are_what_the_vocabulary_makes_of_their_names():
    names = PROBE_SETS["forget_qa"].stops
    assert names == ["<|eot_id|>", " \n", "\n"]
    byte_level, sentencepiece = llama3_like(), phi3_like()
    # line breaks are no tokens of a byte-level vocabulary, which has no unknown one either
    assert byte_level.convert_tokens_to_ids("\n") is None
    assert named_stops(byte_level, names) == byte_level.convert_tokens_to_ids(["<|end_of_text|>", "<|eot_id|>"])
    # all three are unknown to the other: <unk>, which no model writes
    assert named_stops(sentencepiece, names) == [0, sentencepiece.eos_token_id]
    with_breaks = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "\n": 2, "</s>": 3}, unk_token="<unk>"))
    plain = PreTrainedTokenizerFast(tokenizer_object=with_breaks, unk_token="<unk>", eos_token="</s>")
    assert named_stops(plain, names) == [0, 2, 3]
    assert named_stops(sentencepiece, []) == [sentencepiece.eos_token_id]


@pytest.mark.parametrize(
    ("name", "stops"),
    [
        *((name, ["<|eot_id|>", " \n", "\n"]) for name in ("forget_fb", "forget_aa", "neighbor_fb", "neighbor_qa")),
        *((name, ["<|eot_id|>"]) for name in ("utility_fac", "utility_flu")),
        ("utility_rea", []),
    ],
)
def test_each_set_ends_where_its_evaluator_ends_it(name, stops):
    assert PROBE_SETS[name].stops == stops


def test_answers_run_past_line_breaks(engine, monkeypatch):
    """To thirty tokens, what stands behind the break included; strictly the line counts."""
    said = engine.tokenizer.encode("Ada\nBo\n", add_special_tokens=False) * 30
    for protocol in (RWKU, STRICT):
        saying(monkeypatch, said)
        prediction = asked(engine, protocol, "forget_qa").iloc[0]["prediction"]
        whole = engine.tokenizer.decode(said[:30]).strip()
        assert prediction == (whole if protocol is RWKU else "Ada")
        assert len(whole.split("\n")) > 2


def test_an_answer_is_cut_before_its_first_stop(llama3, monkeypatch):
    tokenizer = llama3.tokenizer
    end, text = tokenizer.convert_tokens_to_ids("<|eot_id|>"), tokenizer.encode(" Ada  Bo", add_special_tokens=False)
    saying(monkeypatch, [*text, end, *text])
    assert asked(llama3, RWKU, "forget_qa").iloc[0]["prediction"] == "Ada  Bo"
    saying(monkeypatch, [*text, end, *text, tokenizer.eos_token_id])
    # BBH's evaluator knows the end of text alone; the end of a turn is left out of what is read, and no end
    assert asked(llama3, RWKU, "utility_rea").iloc[0]["prediction"] == " Ada  Bo Ada  Bo"


def test_the_end_of_a_turn_is_no_stop_that_is_looked_up(phi3, monkeypatch):
    """Phi-3's <|end|> is not among the names: the answer goes on behind it, and special tokens are left out."""
    tokenizer = phi3.tokenizer
    end, text = tokenizer.convert_tokens_to_ids("<|end|>"), tokenizer.encode("Ada", add_special_tokens=False)
    assert end in stop_tokens(phi3.llm, tokenizer)
    saying(monkeypatch, [*text, end, *text, tokenizer.eos_token_id])
    assert asked(phi3, RWKU, "forget_qa").iloc[0]["prediction"] == "Ada Ada"
    saying(monkeypatch, [*text, end, *text, tokenizer.eos_token_id])
    assert asked(phi3, STRICT, "forget_qa").iloc[0]["prediction"] == "Ada"


@pytest.mark.parametrize("name", ["forget_qa", "utility_fac", "utility_rea"])
def test_answers_are_those_of_generate(engine, name):
    """transformers' own greedy answer to one prompt, cut at its first stop, behind the prompt as it reads."""
    found, tokenizer = asked(engine, RWKU, name).iloc[0], engine.tokenizer
    ids = tokenizer(found["prompt"], return_tensors="pt")["input_ids"]
    longest = PROBE_SETS[name].max_new_tokens
    whole = engine.llm.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=longest,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )[0].tolist()
    stops, new = named_stops(tokenizer, PROBE_SETS[name].stops), whole[ids.shape[1] :]
    until = next((i for i, token in enumerate(new) if token in stops), len(new))
    before = tokenizer.decode(ids[0], skip_special_tokens=True)
    answer = tokenizer.decode(ids[0].tolist() + new[:until], skip_special_tokens=True)[len(before) :]
    expected = (answer.strip() or "NOANSWER") if name == "forget_qa" else answer
    assert found["prediction"] == expected
    assert until > 0


# --- 3: suffixes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("template", "ends"), [(MISTRAL, "[/INST]"), (PHI3, "<|assistant|>\n")])
def test_a_suffix_stands_behind_a_blank_unless_there_is_one(template, ends):
    tokenizer = phi3_like()
    tokenizer.chat_template = template
    blank = "" if ends.endswith("\n") else " "
    # TriviaQA's evaluator takes no blank in any case
    for name, before in (("utility_rea", blank), ("utility_tru", blank), ("utility_fac", ""), ("forget_qa", "")):
        probe = probes_of(name).to_dict("records")[0]
        suffix = PROBE_SETS[name].suffix
        assert build_prompt(tokenizer, probe, PRIMERS, protocol=RWKU).endswith(f"{ends}{before}{suffix}")
        assert build_prompt(tokenizer, probe, PRIMERS, protocol=STRICT).endswith(f"{ends}{suffix}")


# --- 4 and 5: what an answer is compared with -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said", "by_characters", "whole"),
    [
        ("(B)", "(B)", 1, 1),
        ("(B)", "B", 1, 1),
        ("(B)", "(C)", 0, 0),
        ("(B)", "the", 1, 0),  # normalised it is nothing, as are the brackets
        ("(A)", "...", 1, 0),
        ("yes", "yes", 0, 1),
        ("yes", "y", 1, 0),
        ("yes", "the", 0, 0),
        ("10", "0", 1, 0),
        ("10", "10", 0, 1),
        ("a b", "NOANSWER", 0, 0),
    ],
)
def test_answers_that_are_one_text_by_hand(answer, said, by_characters, whole):
    probe = normalize_row("utility_rea", ROWS["utility_rea"] | {"answer": answer})
    assert probe["answers"] == [answer]
    metric = METRICS["reasoning_exact_match"]
    for protocol, score in ((RWKU, by_characters), (STRICT, whole)):
        found = metric.outcome(said, probe, protocol)
        assert found["score"] == score
        assert found["details"]["by_characters"] == by_characters
        if protocol is STRICT:
            assert found["details"]["whole"] == whole


def test_answers_that_are_lists_have_one_reading():
    probe = normalize_row("utility_rea", ROWS["utility_rea"] | {"answer": ["(B)", "yes"]})
    for protocol in PROTOCOLS.values():
        found = METRICS["reasoning_exact_match"].outcome("So the answer is yes.", probe, protocol)
        assert [found["score"], found["details"]] == [1.0, {"answer": "yes"}]
        assert METRICS["reasoning_exact_match"].outcome("the", probe, protocol)["score"] == 0.0


def test_nothing_matches_nothing_in_rwku_alone():
    """An answer that normalises to nothing, and predictions that are or normalise to nothing."""
    probe = {"answers": ["(A)"], "answer_is_text": False}
    for said in ("the", "...", "( )", "an"):
        assert exact_match(said, ["(A)"]) == token_f1(said, ["(A)"]) == 0.0
        for name in ("reasoning_exact_match", "factuality"):
            assert METRICS[name].outcome(said, probe, STRICT)["score"] == 0.0
            assert METRICS[name].outcome(said, probe, RWKU)["score"] == 1.0
    assert METRICS["factuality"].outcome("", probe, STRICT)["score"] == 0.0
    assert METRICS["factuality"].outcome("", probe, RWKU)["score"] == 1.0
    assert METRICS["reasoning_exact_match"].outcome("", probe, RWKU)["score"] == 0.0  # it stands for NOANSWER
    assert METRICS["factuality"].outcome("A", probe, STRICT)["score"] == 1.0
    aliases = {"answers": ["red stone", "sea"]}
    for protocol in PROTOCOLS.values():
        assert METRICS["factuality"].outcome("the red sea", aliases, protocol)["score"] == pytest.approx(2 / 3)


def readings(protocol: Protocol, *pairs: tuple[float, float]) -> pd.DataFrame:
    """Predictions to BBH, of each the score by characters and as a whole, and to one question."""
    rows = [("forget_qa", "forget_qa/0", "test", "q", 0.5, "{}", "Ada")]
    for i, pair in enumerate(pairs):
        found = dict(zip(("by_characters", "whole"), pair, strict=True))
        score, details = found[protocol.reading], json.dumps({"answer": "B"} | found)
        rows.append(("utility_rea", f"utility_rea/{i}", "test", f"q{i}", score, details, "B"))
    frame = pd.DataFrame(rows, columns=["set", "id", "split", "query", "score", "details", "prediction"])
    frame.attrs[PROTOCOL] = protocol.name
    return frame


PUBLISHED = pd.DataFrame(
    [("llm", "Before", "utility_rea", 39.5, "T"), ("llm", "Before", "forget_qa", 50.0, "T")],
    columns=["model", "method", "metric", "value", "source"],
)
RUN = {"target": "1_Ada", "seed": 0, "files": ["f"], "run": "Before", "published_row": "Before"}


@BOTH
def test_both_readings_stand_beside_the_published_number(protocol):
    """Of four answers three are met as a whole, one by characters: 75 and 25 %, the score first."""
    frame = readings(protocol, (1, 1), (0, 1), (0, 1), (0, 0))
    ours = measure([RUN], 50, 0, read=lambda files: frame)
    table = compare(PUBLISHED, ours, "llm", {})
    rows = table[table["metric"] == "utility_rea"]
    expected = {"by_characters": 25.0, "whole": 75.0}
    order = [protocol.reading, *(expected.keys() - {protocol.reading})]
    assert rows["reading"].tolist() == order
    assert rows["ours"].tolist() == [expected[name] for name in order]
    assert rows["published"].tolist() == [39.5, 39.5]
    assert (rows["low"] <= rows["ours"]).all()
    page = published_page(table)
    written = {"by_characters": "by characters", "whole": "whole"}
    assert page["Metric"].tolist() == [*(f"Rea ↑ ({written[name]})" for name in order), "Forget QA ↓"]
    said = sentences(table, PUBLISHED, "llm", "rwku", "rwku")
    assert said[0].startswith("0 of 2 published numbers")  # each counts once
    assert any(f"Scores are of the reading {written[protocol.reading]}," in line for line in said)

    before = score_before([frame], PUBLISHED, "llm", 50, 0)
    assert before.loc[before["metric"] == "utility_rea", "value"].tolist() == [expected[name] for name in order]
    assert before.loc[before["metric"] == "utility_rea", "published"].tolist() == [39.5, 39.5]
    assert page["Metric"].tolist()[:2] == before_page(before)["Metric"].tolist()[1:]
    assert any("read in two ways" in line for line in notes(before, [frame], "llm", "tiny", protocol.name))


def test_without_texts_for_answers_there_is_one_row():
    frame = readings(STRICT).assign(details="{}")
    ours = measure([RUN], 50, 0, read=lambda files: frame)
    assert ours[["metric", "reading"]].values.tolist() == [["forget_qa", ""]]
    assert not any(
        "two ways" in line for line in sentences(compare(PUBLISHED, ours, "llm", {}), PUBLISHED, "llm", "", "")
    )


# --- 6 and 7: membership ----------------------------------------------------------------------------------------------


def test_an_instruction_before_a_text_is_scored_too(engine):
    instruction, text = "You know Ada very well.\n", ROWS["mia_fm"]["text"]
    scores = {}
    for protocol, shown in ((RWKU, instruction + text), (STRICT, text)):
        found = evaluate(engine, probes_of("mia_fm"), ["mia_fm"], {}, instruction=instruction, protocol=protocol).iloc[
            0
        ]
        ids = engine.tokenizer(shown, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            loss = engine.llm(ids, labels=ids).loss.item()
        details = json.loads(found["details"])
        assert found["prompt"] == shown
        assert found["query"] == text
        assert found["score"] == pytest.approx(-loss, rel=1e-5)
        assert details["loss"] / details["zlib"] == pytest.approx(len(zlib.compress(shown.encode())))
        scores[protocol.name] = found["score"]
    assert scores["rwku"] != pytest.approx(scores["strict"], rel=1e-3)


def test_a_text_of_one_token_is_left_out_or_refused(llm, caplog):
    """This tokenizer adds no BOS; with one a single token has a likelihood."""
    probes = pd.concat([probes_of("mia_fm"), probes_of("mia_fm").assign(query="e", id="mia_fm/1")], ignore_index=True)
    with caplog.at_level("WARNING", "atu"):
        found = evaluate(Engine(*llm, 400), probes, ["mia_fm"], {}, protocol=RWKU)
    assert found["id"].tolist() == ["mia_fm/0"]
    assert "forget_mia.json, row 2: 'e' is a single token of this model" in caplog.text
    assert "left out" in caplog.text
    with pytest.raises(BenchmarkError, match=r"forget_mia\.json, row 2: 'e' is a single token .*; take the row out"):
        evaluate(Engine(*llm, 400), probes, ["mia_fm"], {}, protocol=STRICT)
    assert evaluate(Engine(*llm, 400), probes.tail(1), ["mia_fm"], {}, protocol=RWKU).empty


# --- 8: plain texts ---------------------------------------------------------------------------------------------------


def test_texts_are_trained_on_with_their_end_and_without_bos():
    """The end of a turn is scored where padding, the end of text, is another token."""
    tokenizer, text = llama3_like(), "Ada was a poet"
    plain, end = tokenizer.encode(text, add_special_tokens=False), tokenizer.convert_tokens_to_ids("<|eot_id|>")
    for kind in ("positive", "passage"):
        ((example,),) = read_items(kind, [{"text": text}], tokenizer, 64, RWKU)
        assert example.ids == (*plain, end)
        assert list(example.scored) == list(range(1, len(plain) + 1))
        ((strict,),) = read_items(kind, [{"text": text}], tokenizer, 64, STRICT)
        assert strict.ids == (tokenizer.bos_token_id, *plain)
        assert list(strict.scored) == list(range(1, len(plain) + 1))
    ((cut,),) = read_items("positive", [{"text": text}], tokenizer, 4, RWKU)
    assert cut.ids == tuple(plain[:4])
    assert list(cut.scored) == [1, 2, 3]
    tokenizer.eos_token = "<|eot_id|>"  # as later revisions of Llama 3 have it: then it is the padding too
    ((padded,),) = read_items("positive", [{"text": text}], tokenizer, 64, RWKU)
    assert padded.ids == (*plain, end)
    assert list(padded.scored) == list(range(1, len(plain)))
    ((cut,),) = read_items("positive", [{"text": text}], tokenizer, 4, RWKU)
    assert list(cut.scored) == [1, 2, 3]
    assert read_items("positive", [{"text": "e"}], tokenizer, 64, RWKU) == []  # its end alone is nothing to score


def test_other_kinds_of_texts_are_the_same_in_both():
    tokenizer = phi3_like()
    rows = {
        "pair": [{"prompt": "Who?", "response": ["Bo", "Ada"]}],
        "reject": [{"instruction": "Who?", "output": "Nobody"}],
    }
    for kind, texts in rows.items():
        assert read_items(kind, texts, tokenizer, 64, RWKU) == read_items(kind, texts, tokenizer, 64, STRICT)
    with pytest.raises(ValueError, match="no examples of cards texts"):
        read_items("cards", [{"text": "Ada"}], tokenizer, 64)


def test_losses_and_likelihoods_on_texts_by_hand(llama3):
    """Two texts of two lengths: the mean over all scored tokens of the batch, and the sum of each."""
    tokenizer, rows = llama3.tokenizer, [{"text": "Ada was a poet in Rome"}, {"text": "red sea"}]
    for eos in ("<|end_of_text|>", "<|eot_id|>"):
        tokenizer.eos_token = eos
        items = read_items("positive", rows, tokenizer, 64, RWKU)
        sums, counts = [], []
        for row in rows:
            ids = torch.tensor([tokenizer.encode(f"{row['text']}<|eot_id|>", add_special_tokens=False)])
            with torch.no_grad():
                log_probs = llama3.llm(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
            counted = log_probs if eos != "<|eot_id|>" else log_probs[:-1]
            sums.append(counted.sum().item())
            counts.append(len(counted))
        found = reference_log_probs(llama3.llm, items, [[0, 1]])
        assert found[:, 0].tolist() == pytest.approx(sums, rel=1e-4)
        with torch.no_grad():
            loss = GA().loss(llama3.llm, collate(items, [0, 1]))
        assert loss.item() == pytest.approx(sum(sums) / sum(counts), rel=1e-4)
    tokenizer.eos_token = "<|end_of_text|>"


# --- results carry it -------------------------------------------------------------------------------------------------


def recipes_of(protocol: str) -> Recipes:
    return Recipes(
        check(PAPER, evaluation={"protocol": protocol}, methods=["npo", "ga_star", "dpo", "rt", "icu", "atu"])
    )


def test_recipes_carry_the_protocol_where_it_bears_on_the_result():
    rwku, strict = map(recipes_of, PROTOCOLS)
    target, seed = "8_Paris_Hilton", "0"
    for name, recipes in (("rwku", rwku), ("strict", strict)):
        assert recipes.before(target)["evaluation"]["protocol"] == name
        assert recipes.guard()["guard"]["protocol"] == name
        for method in ("npo", "ga_star"):
            assert recipes.stage(target, method, seed, 1)["evaluation"] == {"protocol": name}
        assert recipes.reference(target, "positive", 512)["evaluation"] == {"protocol": name}
    for method in ("dpo", "rt", "icu", "atu"):
        assert rwku.stage(target, method, seed, 1) == strict.stage(target, method, seed, 1)
        assert rwku.after(target, method, seed) != strict.after(target, method, seed)
    assert rwku.reference(target, "pair", 512) == strict.reference(target, "pair", 512)
    assert rwku.stage(target, "atu", seed, 2) != strict.stage(target, "atu", seed, 2)  # by what the guard asks
    retained = {"dpo": {"retain": {"loss": "descent"}}}
    both = [
        Recipes(check(PAPER, evaluation={"protocol": name}, methods=["dpo"], method_settings=retained))
        for name in PROTOCOLS
    ]
    assert len({recipes.stage(target, "dpo", seed, 1).digest for recipes in both}) == 2  # it reads texts of others


def files_by(tmp_path, *names: str | None) -> list[dict]:
    runs = []
    for i, name in enumerate(names):
        frame = readings(STRICT)
        frame.attrs = {} if name is None else {PROTOCOL: name}
        frame.to_parquet(tmp_path / f"{i}.parquet", index=False)
        runs.append({"target": "1_Ada", "method": "ga", "seed": 0, "stage": i, "tau": None})
        runs[-1] |= {"files": [str(tmp_path / f"{i}.parquet")], "run": f"run {i}", "published_row": "Before"}
    return runs


def test_predictions_of_two_protocols_make_no_table(tmp_path):
    mixed = files_by(tmp_path, "rwku", "strict")
    said = r"predictions of two protocols .*0\.parquet by rwku, .*1\.parquet by strict; ask all by one"
    for build in (
        lambda: collect(mixed, "llm", "tiny"),
        lambda: measure(mixed, 10, 0),
        lambda: protocol_of_runs(mixed),
        lambda: collect([mixed[0] | {"files": [*mixed[0]["files"], *mixed[1]["files"]]}], "llm", "tiny"),
    ):
        with pytest.raises(ProtocolError, match=said) as fault:
            build()
        assert "\n" not in str(fault.value)
    with pytest.raises(ProtocolError, match="target 1 by rwku, target 2 by strict"):
        score_before([readings(RWKU), readings(STRICT)], PUBLISHED, "llm", 10, 0)
    alike = files_by(tmp_path, "rwku", "rwku")
    assert protocol_of_runs(alike) is RWKU
    assert len(collect(alike, "llm", "tiny"))
    with pytest.raises(ProtocolError, match=r"1\.parquet does not say by which protocol .*; delete it to ask again"):
        protocol_of_runs(files_by(tmp_path, "rwku", None))


def test_a_run_under_each_protocol_and_no_table_of_both(workflow, monkeypatch):
    """Each has results of its own, and says which it is; a table of both is refused."""
    monkeypatch.chdir(workflow.directory)
    config, made = json.loads(workflow.config.read_text()), {}
    config["evaluation"] |= {"before_and_after": ["forget_qa", "utility_rea"], "between": []}
    for protocol in PROTOCOLS:
        config["evaluation"]["protocol"] = protocol
        config["before"]["protocols"] = [protocol]
        workflow.config.write_text(json.dumps(config))
        workflow.run("before")
        found = {path for path in Path("results").rglob("*.parquet") if path.parent.name == "before"}
        made[protocol] = sorted(found.difference(*made.values()))
        assert [pd.read_parquet(path).attrs[PROTOCOL] for path in made[protocol]] == [protocol] * 2
        assert protocol_of(protocol).sentence in Path("results/tables/before.md").read_text(encoding="utf-8")
        assert read_record(made[protocol][0])["recipe"]["evaluation"]["protocol"] == protocol
    rwku, strict = (paths[0] for paths in made.values())
    assert rwku.name.split("-")[0] == strict.name.split("-")[0] == "1_Ada"
    # answers of the other protocol, with a record that takes them for answers of this one
    recipe = read_record(strict)["recipe"]
    shutil.copyfile(rwku, strict)
    record(strict, recipe)
    done = workflow.run("before", "--forcerun", "before_table", check=False)
    assert done.returncode
    said = f"predictions of two protocols stand in no table together: {strict} by rwku, {made['strict'][1]} by strict"
    assert said in done.stdout + done.stderr
