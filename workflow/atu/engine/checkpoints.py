"""Checkpoints made elsewhere: whether a directory holds a model or a LoRA adapter, and whether the adapter fits."""

from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM

from atu.data.sources import INDEX, WEIGHTS, check_model, read_object, weight_files
from atu.engine.bases import CONFIG, OTHER_BASE, other_base
from atu.engine.checks import open_config
from atu.engine.models import ModelError

ADAPTER = "adapter_model.safetensors"
# What an adapter's config may set. Merging such an adapter gives the weights that were trained.
UNDERSTOOD = {
    *("alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "ensure_weight_tying", "exclude_modules"),
    *("fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha"),
    *("lora_bias", "lora_dropout", "modules_to_save", "peft_type", "peft_version", "r", "rank_pattern", "revision"),
    *("target_modules", "task_type", "use_dora", "use_rslora"),
    *("megatron_core", "qalora_group_size"),  # without megatron_config and use_qalora nothing reads them
}


def checkpoint_kind(directory: Path) -> Literal["model", "adapter"]:
    """Whether a directory holds a whole model or a LoRA adapter; only the headers of weight files are read.

    Raises:
        ModelError: if it holds neither, or both.
        SourceError: if its files are incomplete.
    """
    adapter = (directory / CONFIG).exists()
    whole = any((directory / name).exists() for name in (INDEX, *weight_files(directory)) if name != ADAPTER)
    if adapter and whole:
        raise ModelError(f"{directory} holds a whole model and an adapter; leave one of them there")
    if adapter and not (directory / ADAPTER).exists():
        raise ModelError(f"{directory} has no {ADAPTER}: only weights in safetensors are read; save the adapter again")
    if not adapter and not whole:
        raise ModelError(
            f"{directory} is neither a model (config.json and {WEIGHTS}) nor an adapter ({CONFIG} and {ADAPTER})"
        )
    if whole:
        check_model(directory)
    return "adapter" if adapter else "model"


def check_adapter(directory: Path, base: Path, repo: str | None = None) -> None:
    """Refuse an adapter that is not a LoRA of this base model; no weights are loaded, and none of its code is run.

    Args:
        base: the directory of the base model.
        repo: the base model's name on the hub, if it has one.

    Raises:
        ModelError: says what does not fit.
        SourceError: if its config is not JSON.
    """
    settings = read_object(directory / CONFIG)
    if not isinstance(settings, dict):
        raise ModelError(f"{directory / CONFIG} holds no settings: save the adapter again")
    check_settings(directory, settings)
    if fault := other_base(settings, repo):
        raise ModelError(f"{directory} is {fault}")
    found, expected = stored_shapes(directory / ADAPTER), expected_shapes(directory, base)
    for key, fault in (
        *((key, "which the base has no place for") for key in sorted(set(found) - set(expected))),
        *((key, f"{found[key]}, and the base asks for {expected[key]}") for key in sorted(set(found) & set(expected))),
    ):
        if found[key] != expected.get(key):
            raise ModelError(f"{directory} is no adapter of {base}: it has {key}, {fault}; {OTHER_BASE}")
    if lacking := sorted(set(expected) - set(found)):
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise ModelError(f"{directory} is no adapter of {base}: it lacks {lacking[0]}{more}; {OTHER_BASE}")


def check_settings(directory: Path, settings: dict) -> None:
    """Refuse an adapter's config that is not a LoRA's, asks for code, or has a setting that merging would lose.

    Raises:
        ModelError: names the setting.
    """
    if (kind := settings.get("peft_type")) != "LORA":
        raise ModelError(f"{directory} is an adapter of type {kind}, and only LoRA can be merged; bring a LoRA adapter")
    library = (settings.get("auto_mapping") or {}).get("parent_library") or "transformers."
    if not library.startswith("transformers."):
        raise ModelError(f"{directory} asks for code of {library}, and no code that comes with a model is run")
    for key, value in settings.items():
        if key not in UNDERSTOOD and value:
            raise ModelError(
                f"{directory}: {CONFIG} sets {key}, which is not understood here; bring a plain LoRA adapter"
            )
    if isinstance(start := settings.get("init_lora_weights"), str) and start != "gaussian":
        raise ModelError(
            f"{directory} is relative to base weights that {start} has changed; save it as a plain LoRA adapter "
            "(path_initial_model_for_weight_conversion of peft's save_pretrained)"
        )


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a safetensors file, read from its header.

    Raises:
        ModelError: if the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is missing, truncated or damaged ({error}): bring it again") from error


def expected_shapes(directory: Path, base: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors that an adapter of this base model would have under this config.

    Raises:
        ModelError: if the base model lacks the linear maps that the config names.
    """
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict  # slow to import, and few jobs need it

    with torch.device("meta"):
        llm = AutoModelForCausalLM.from_config(open_config(base))
    try:
        adapted = PeftModel(llm, PeftConfig.from_pretrained(str(directory)), low_cpu_mem_usage=True)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        said = " ".join(str(error).split())[:300]
        raise ModelError(f"{directory} is no adapter of {base}: {said}; {OTHER_BASE}") from error
    state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return {key: tuple(tensor.shape) for key, tensor in state.items()}
