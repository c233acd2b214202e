"""Checks that this library can use a model, made before anything is computed and without reading weights."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.pytorch_utils import Conv1D

from atu.engine.chat import chat_prompt, check_template, prompt_ids, set_template_options, turn_end
from atu.engine.models import ModelError, check_complete, decoder_layers, decoder_parts
from atu.engine.plain import takes, why_plain
from atu.engine.prefill import context_length, embeddings_of

OPTIONS = {"local_files_only": True, "trust_remote_code": False}
OTHER = "choose a decoder of text such as Llama, Phi-3, Mistral, Qwen2.5, 3 or 3.5, Gemma 2, OLMo 2 (docs/models.md)"

# Classes that the comparison with their own forward pass would refuse; listed so that nobody has to load them first.
APART = {
    "Gemma3nForCausalLM": "hands several streams from layer to layer, of which its final norm reads one",
    "NanoChatForCausalLM": "has one norm before its layers and behind them",
    "Zamba2ForCausalLM": "says one thing from its cache and another of a whole text",
}


def open_config(directory: str | Path):
    """The config of a language model whose architecture transformers knows.

    A model of text and other media is accepted if transformers loads its text model alone.

    Raises:
        ModelError: if there is no config, or the model is not a decoder of text alone.
    """
    try:
        config = AutoConfig.from_pretrained(directory, **OPTIONS)
    except (ValueError, OSError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"its config.json is of no model that the installed transformers knows: {reason}") from error
    name = config.model_type
    if config.is_encoder_decoder:
        raise ModelError(f"{name} has an encoder and a decoder, and what is unlearned here is a decoder alone; {OTHER}")
    chosen, text = AutoModelForCausalLM._model_mapping.get(type(config), None), config.get_text_config()
    if text is not config and getattr(chosen, "config_class", None) is not type(text):
        raise ModelError(f"{name} is a model of text and other media around a language model; {OTHER}")
    if getattr(config, "quantization_config", None):
        raise ModelError(
            f"its weights are quantized, and such cannot be trained here; choose the variant of {name} that is not"
        )
    if chosen is None:
        raise ModelError(f"{name} is no language model that writes; {OTHER}")
    return config


def check_architecture(llm: PreTrainedModel) -> None:
    """Refuse a class that the engines cannot run on any path.

    Raises:
        ModelError: names the class and what it lacks.
    """
    name = type(llm).__name__
    if name in APART:
        raise ModelError(f"{name} {APART[name]}: the engines cannot say what it says; {OTHER}")
    if not takes(llm, "past_key_values"):
        raise ModelError(f"{name} keeps its states in no cache of transformers that could be gone on from; {OTHER}")
    decoder_parts(llm)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, llm: PreTrainedModel) -> None:
    """Refuse a tokenizer that has no chat template, has no token to end a turn, or belongs to another model.

    Raises:
        ExplainedError: says what to do instead.
    """
    check_template(tokenizer)
    prompt = chat_prompt(tokenizer, "Who?", system="Be brief.")
    if turn_end(tokenizer) is None and tokenizer.eos_token_id is None:
        raise ModelError(
            "its tokenizer has no end of text and its chat template ends no turn with a token: no answer would ever "
            "end; set eos_token in its tokenizer_config.json (a model of source: path), or choose another model"
        )
    (ids,) = prompt_ids(tokenizer, [prompt])
    if getattr(tokenizer, "plain_prompts", False) and ids[-1] == tokenizer.eos_token_id:
        raise ModelError(
            "its tokenizer puts the end of text behind a text, so that a plain prompt would be at its end: give a "
            "template's text as template_options.chat_template of the model in place of template: none"
        )
    known = embeddings_of(llm)
    highest = max([tokenizer.vocab_size - 1, *ids])
    if highest >= known:
        raise ModelError(
            f"its tokenizer writes tokens up to {highest}, and its weights have embeddings for {known}: they do not "
            "belong together; fetch the model again, or choose another"
        )


def describe_llm(directory: str | Path, template_options: dict | None = None) -> dict:
    """Check a language model, and return what methods may need to know about it.

    Returns:
        {class: its name, layers: their number, context: most tokens or None, modules: names of its linear maps and
        embeddings (with * for the number of a layer), offsets: whether its tokenizer gives the place of a token in the
        text, plain: why it takes the plain path (:mod:`atu.engine.plain`), or None}.

    Raises:
        ExplainedError: if the library cannot use the model.
    """
    config = open_config(directory)
    with torch.device("meta"):
        llm = AutoModelForCausalLM.from_config(config)
    check_architecture(llm)
    if llm.config is not config:  # a text model inside a larger one, whose files must have all its weights
        read: Any = AutoModelForCausalLM.from_pretrained(
            directory, device_map="meta", output_loading_info=True, **OPTIONS
        )
        check_complete(read[1]["missing_keys"], read[1]["unexpected_keys"], directory)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, **OPTIONS)
    except (ValueError, OSError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"its tokenizer cannot be loaded: {reason}") from error
    set_template_options(tokenizer, template_options)
    check_tokenizer(tokenizer, llm)
    maps = [name for name, module in llm.named_modules() if isinstance(module, nn.Linear | nn.Embedding | Conv1D)]
    return {
        "class": type(llm).__name__,
        "layers": len(decoder_layers(llm)),
        "context": context_length(llm.config),
        "modules": sorted({re.sub(r"\.\d+\.", ".*.", name) for name in maps}),
        "offsets": tokenizer.is_fast,
        "plain": why_plain(llm),
    }


def check_encoder(directory: str | Path) -> None:
    """Refuse a sentence encoder that cannot embed windows; only JSON files are read.

    Windows are embedded as bare tokens, without CLS, so only mean pooling makes sense.

    Raises:
        ModelError: if it does not use mean pooling, or has parts that this library does not know.
    """

    def read(*parts: str) -> Any:
        path = Path(directory, *parts)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    modules = read("modules.json") or []  # without this file, sentence-transformers uses mean pooling
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    known = {"Transformer", "Pooling", "Dense", "Normalize"}
    if modules and (kinds[:2] != ["Transformer", "Pooling"] or set(kinds) - known):
        raise ModelError(
            f"the encoder is built of {', '.join(kinds)}, and windows can be embedded by Transformer, Pooling by the "
            "mean, and Dense or Normalize behind them; choose another encoder, all-mpnet-base-v2 say"
        )
    for module, kind in zip(modules, kinds, strict=True):
        if kind != "Pooling":
            continue
        pooling = read(module["path"], "config.json")
        # either one name, or one switch per mode
        modes = pooling.get("pooling_mode") or [
            key.removeprefix("pooling_mode_") for key, on in pooling.items() if key.startswith("pooling_mode_") and on
        ]
        modes = [modes] if isinstance(modes, str) else list(modes) or ["mean"]
        if modes not in (["mean"], ["mean_tokens"]):
            raise ModelError(
                f"the encoder pools by {', '.join(modes)}, and windows of bare tokens (no CLS, no SEP) "
                "have a meaning under the mean alone; choose an encoder with mean pooling, all-mpnet-base-v2 say"
            )
