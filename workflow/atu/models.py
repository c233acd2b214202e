"""Language models: loading, and running only the layers that are read."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from atu.files import check_weights, write_json


def load_llm(
    directory: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    base: str | Path | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer from a plain safetensors directory.

    A directory with a LoRA adapter alone loads its base model and merges the adapter into it.
    Nothing is downloaded and no code that came with the model is run.

    Args:
        base: the directory of the base model of an adapter; without it, the directory that the adapter names.

    Raises:
        FileNotFoundError: if that is no directory.
    """
    check_weights(directory)
    options = {"local_files_only": True, "trust_remote_code": False}
    whole, adapter = directory, Path(directory, "adapter_config.json").exists()
    if adapter:
        from peft import PeftConfig, PeftModel  # slow to import, and few jobs need it

        whole = base or PeftConfig.from_pretrained(directory).base_model_name_or_path
        if not whole or not Path(whole).is_dir():  # a name on the hub would be looked up in its cache
            raise FileNotFoundError(f"{directory} is an adapter of {whole}, which is no directory here")
        check_weights(whole)
    llm = AutoModelForCausalLM.from_pretrained(whole, dtype=dtype, use_safetensors=True, **options)
    if adapter:
        llm = PeftModel.from_pretrained(llm, directory).merge_and_unload()
    tokenizer = AutoTokenizer.from_pretrained(directory, **options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return llm.to(device).eval(), tokenizer


def add_lora(llm: PreTrainedModel, rank: int, alpha: float, modules: list[str]) -> nn.Module:
    """Put LoRA adapters into ``llm``, the only weights that then train.

    What is returned, a ``peft.PeftModel`` around it, saves the adapters alone.

    Args:
        modules: names of the linear maps that get one.
    """
    from peft import LoraConfig, get_peft_model

    return get_peft_model(llm, LoraConfig(r=rank, lora_alpha=alpha, target_modules=modules, task_type="CAUSAL_LM"))


def name_base(directory: Path, repo: str | None, revision: str | None) -> None:
    """Write into an adapter's directory where peft finds its base model, in place of a path of this machine.

    Args:
        repo, revision: on the hub; None if it is not there, and whoever loads the adapter has to bring it.
    """
    path = directory / "adapter_config.json"
    named = {"base_model_name_or_path": repo, "revision": revision}
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | named)


def save_llm(llm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write a directory that ``AutoModelForCausalLM.from_pretrained`` loads."""
    llm.save_pretrained(directory)
    for name in ("is_local", "local_files_only"):  # how it was loaded here is nothing to tell others
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(directory)


@contextmanager
def layers_up_to(llm: PreTrainedModel, layer: int) -> Iterator[nn.Module]:
    """The decoder of ``llm`` cut after its first ``layer`` layers, without the LM head.

    Inside the block the decoder's ``last_hidden_state`` equals ``hidden_states[layer]`` of the
    whole model, and the layers above are neither run nor kept in the autograd graph.

    Raises:
        ValueError: if the model has fewer layers.
    """
    decoder = llm.get_decoder()
    layers, norm = decoder.layers, decoder.norm
    if not 1 <= layer <= len(layers):
        raise ValueError(f"hook layer {layer} does not exist: the model has layers 1 to {len(layers)}")
    decoder.layers = layers[:layer]
    if layer < len(layers):  # the last of hidden_states is the only one behind the final norm
        decoder.norm = nn.Identity()
    try:
        yield decoder
    finally:
        decoder.layers, decoder.norm = layers, norm


def hidden_states(decoder: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Hidden states [batch, length, hidden] of a decoder from :func:`layers_up_to`."""
    return decoder(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
