"""Language models: loading, saving, adapters, and running only the layers that are read."""

import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from atu.common.errors import ExplainedError
from atu.common.files import check_weights, write_json
from atu.common.finite import check_finite
from atu.common.memory import Memory
from atu.engine.half import exact_state, exact_weights, keep_in_half, restore
from atu.engine.parts import AUTO, query_value_maps
from atu.engine.sharded import gathered, is_first, is_sharded, ranks

if TYPE_CHECKING:  # slow to import, and not every job that reads this module loads an LLM
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log_of_job = logging.getLogger("atu")
# Names that classes give the list of their layers, and the norm after it.
LAYERS = ("layers", "h")
NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f", "norm_f", "embedding_norm")
# Tables of positions and masks that old checkpoints store in a layer; they are computed, not weights.
COMPUTED = re.compile(r"(inv_freq|masked_bias|attn\.bias|attention\.bias)$")


class ModelError(ExplainedError, ValueError):
    """This library cannot use the model, or the model does not fit the request."""


def check_complete(missing: Iterable[str], unread: Iterable[str], directory: str | Path) -> None:
    """Refuse a model if some weights would be random numbers, or some layers would be left out.

    Args:
        missing: weights that the files lack.
        unread: tensors in the files that have no place in the model.

    Raises:
        ModelError: names one of them.
    """
    layers = [key for key in unread if re.search(rf"\b({'|'.join(LAYERS)})\.\d+\.", key) and not COMPUTED.search(key)]
    for keys, fault in (
        (sorted(missing), "lacks weights that its config.json asks for"),
        (sorted(layers), "has weights of layers that its config.json does not name"),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise ModelError(
                f"{directory} {fault}: {keys[0]}{more}; they do not belong together: fetch the model again, or choose "
                "another"
            )


def load_llm(
    directory: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    template_options: dict | None = None,
    base: str | Path | None = None,
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a causal language model and its tokenizer from a plain safetensors directory.

    If the directory holds only a LoRA adapter, the base model is loaded and the adapter is merged into it; the
    tokenizer is the adapter's, or the base model's if the adapter has none. Nothing is downloaded, and no code that
    came with the model is run.

    Args:
        template_options: options of the chat template; see :func:`atu.engine.chat.set_template_options`.
        base: the directory of an adapter's base model; by default, the directory that the adapter names.

    Raises:
        ExplainedError: if a weight is not finite, or the engines do not predict what the model predicts.
        ModelError: if weights and config do not belong together, or the adapter is not one of the base model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from atu.engine.agreement import check_engine  # imports this module
    from atu.engine.chat import set_template_options
    from atu.engine.plain import why_plain  # loads transformers

    check_weights(directory)
    options = {"local_files_only": True, "trust_remote_code": False}
    whole, adapter = directory, Path(directory, "adapter_config.json").exists()
    if adapter:
        from peft import PeftConfig, PeftModel  # slow to import, and few jobs need it

        from atu.engine.checkpoints import check_adapter  # imports this module

        whole = base or PeftConfig.from_pretrained(str(directory)).base_model_name_or_path
        if not whole or not Path(whole).is_dir():  # transformers would look a hub name up in its cache
            raise ModelError(f"{directory} is an adapter of {whole}, which is no directory here")
        check_weights(whole)
        check_adapter(Path(directory), Path(whole))
    loaded: Any = AutoModelForCausalLM.from_pretrained(  # returns a pair, unlike its annotation
        whole, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
    )
    llm, found = loaded
    check_complete(found["missing_keys"], found["unexpected_keys"], whole)
    if adapter:
        llm = PeftModel.from_pretrained(llm, directory).merge_and_unload()
    own_tokenizer = any(Path(directory).glob("tokenizer*"))
    tokenizer = AutoTokenizer.from_pretrained(directory if own_tokenizer else whole, **options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    set_template_options(tokenizer, template_options)
    llm = llm.to(device).eval()
    check_finite(llm.named_parameters(), directory)
    check_engine(llm)
    if reason := why_plain(llm):
        log_of_job.info("%s takes the plain path, on which no rows share a prefix: %s", type(llm).__name__, reason)
    return llm, tokenizer


def decoder_parts(llm: "PreTrainedModel") -> tuple[str, str]:
    """The names that the decoder of ``llm`` gives its list of layers and its final norm.

    Raises:
        ModelError: if it has no such parts, because the class is built differently.
    """
    children = dict(llm.get_decoder().named_children())
    layers = [name for name in LAYERS if isinstance(children.get(name), nn.ModuleList)]
    norms = [name for name in NORMS if name in children]
    if len(layers) != 1 or len(norms) != 1:
        raise ModelError(
            f"{type(llm).__name__} has no list of layers ({' or '.join(LAYERS)}) with one norm behind it "
            f"({', '.join(NORMS)}): it cannot be cut at a layer; choose a model of another architecture"
        )
    return layers[0], norms[0]


def decoder_layers(llm: "PreTrainedModel") -> nn.ModuleList:
    """The layers of ``llm``, first to last."""
    return getattr(llm.get_decoder(), decoder_parts(llm)[0])


def chosen_layers(llm: "PreTrainedModel", layers: range) -> list[nn.Module]:
    """The chosen layers of ``llm``, counted from 0.

    Raises:
        ModelError: if the model has fewer.
    """
    stack = decoder_layers(llm)
    if layers.stop > len(stack):
        raise ModelError(
            f"layers {layers.start}-{layers.stop - 1} do not all exist: the model has layers 0 to {len(stack) - 1}"
        )
    return [stack[i] for i in layers]


def train_alone(llm: nn.Module, parts: Iterable[nn.Module]) -> list[nn.Parameter]:
    """Restrict the trainable weights (all, or the adapters) to those in ``parts``.

    The others no longer require gradients, so that the backward pass ends at the lowest part that trains.

    Returns:
        The weights that train; empty if no part has any.
    """
    own = {parameter for part in parts for parameter in part.parameters()}
    for parameter in llm.parameters():
        parameter.requires_grad_(parameter.requires_grad and parameter in own)
    return [parameter for parameter in llm.parameters() if parameter.requires_grad]


def load_kept_in(
    directory: str | Path,
    device: torch.device | str,
    memory: Memory,
    template_options: dict | None = None,
    base: str | Path | None = None,
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a model to train with :func:`load_llm`, with its weights kept as ``memory`` says.

    With several processes it stays on the host, and :func:`atu.engine.sharded.shard` moves it part by part.
    """
    half = memory.weights != "fp32"
    place = "cpu" if half or ranks() > 1 else device
    llm, tokenizer = load_llm(directory, place, template_options=template_options, base=base)
    if half:
        keep_in_half(llm)
        nn.Module.to(llm, device)
    return llm, tokenizer


def load_to_train(
    directory: str | Path,
    device: torch.device | str,
    memory: Memory,
    lora: dict,
    layers: range | None = None,
    template_options: dict | None = None,
) -> "tuple[PreTrainedModel, nn.Module, PreTrainedTokenizerBase]":
    """Load a model with :func:`load_kept_in`, and add adapters if ``lora`` has a rank.

    Returns:
        The model, the module to save after training (the model, or a ``peft.PeftModel`` around it), the tokenizer.

    Raises:
        ExplainedError: as :func:`load_llm` and :func:`add_lora` do.
    """
    llm, tokenizer = load_kept_in(directory, device, memory, template_options)
    adapter = {key: lora[key] for key in ("rank", "alpha", "modules")}
    trained = add_lora(llm, **adapter, layers=layers) if lora["rank"] else llm
    if memory.gradient_checkpointing:
        recompute_activations(llm)
    return llm, trained, tokenizer


def add_lora(
    llm: "PreTrainedModel", rank: int, alpha: float, modules: list[str] | str, layers: range | None = None
) -> nn.Module:
    """Add LoRA adapters to ``llm``; after this, only they train.

    The result is a ``peft.PeftModel`` around the model, which saves only the adapters.

    Args:
        modules: names of the linear maps that get an adapter, or "auto" for those that make queries and values.
        layers: the decoder layers whose maps get an adapter, counted from 0; None for the whole model.

    Raises:
        ExplainedError: if "auto" finds no maps, or a map is in none of ``layers``.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    if isinstance(modules, str):
        if modules != AUTO:
            raise ModelError(f"lora.modules: {modules} is neither {AUTO} nor a list of names")
        modules = query_value_maps(name for name, part in llm.named_modules() if isinstance(part, nn.Linear | Conv1D))
    where: dict[str, Any] = {}
    if layers is not None:
        inside = [f".{name}" for layer in chosen_layers(llm, layers) for name, _ in layer.named_modules()]
        if missing := [name for name in modules if not any(there.endswith(f".{name}") for there in inside)]:
            raise ModelError(f"lora.modules: {missing[0]} lies in none of the layers that train; take it out")
        where = {"layers_to_transform": list(layers), "layers_pattern": decoder_parts(llm)[0]}
    scale: Any = alpha  # peft takes any number, and its annotation an integer
    config = LoraConfig(r=rank, lora_alpha=scale, target_modules=modules, task_type="CAUSAL_LM", **where)
    device = llm.device
    with exact_weights(llm):  # otherwise peft would round the adapters' initial values to bf16
        trained = get_peft_model(llm, config)
    nn.Module.to(llm, device)
    return trained


def merge_adapters(
    llm: "PreTrainedModel", trained: nn.Module, memory: Memory, device: torch.device | str
) -> "PreTrainedModel":
    """Merge adapters into the float32 weights below them, and keep the weights as :func:`load_to_train` did.

    The model then computes the same bits as after saving and loading it. With separate adapters, rounding would differ.

    Args:
        llm, trained: from :func:`load_to_train`, with adapters.

    Returns:
        The model without adapters.
    """
    restore(llm)
    whole: Any = trained
    merged = whole.merge_and_unload()
    if memory.weights != "fp32":
        keep_in_half(merged)
        nn.Module.to(merged, device)
    return merged


def recompute_activations(llm: "PreTrainedModel") -> None:
    """Let the backward pass recompute activations, which takes less memory and about a third more time.

    Call this after :func:`add_lora`, which would make the embeddings require gradients again.
    """
    llm.gradient_checkpointing_enable()
    # transformers makes the embeddings require gradients, so the backward pass would go down to them through all frozen
    # layers; this kind of checkpointing does not need that
    llm.disable_input_require_grads()


def name_base(directory: Path, repo: str | None, revision: str | None) -> None:
    """Write into an adapter's config where peft finds the base model, in place of a path on this machine.

    Args:
        repo, revision: the base model on the hub; None if it is not there, and users of the adapter must supply it.
    """
    path = directory / "adapter_config.json"
    named = {"base_model_name_or_path": repo, "revision": revision}
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | named)


def save_llm(llm: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", directory: Path) -> None:
    """Write a directory with float32 weights that ``AutoModelForCausalLM.from_pretrained`` loads.

    For a model around adapters, only the adapters are written. With several processes, all of them call this, and the
    first one writes.
    """
    from transformers import PreTrainedModel

    whole = isinstance(llm, PreTrainedModel)
    # a model around adapters saves only these, and they are float32
    state = exact_state(llm) if whole else None
    if is_sharded(llm):
        state = gathered(llm, "" if whole else "lora_")
    if not is_first():
        return
    llm.save_pretrained(directory, state_dict=state)
    for name in ("is_local", "local_files_only"):  # how it was loaded here does not concern others
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(directory)


@contextmanager
def layers_up_to(llm: "PreTrainedModel", layer: int) -> Iterator[nn.Module]:
    """The decoder of ``llm`` cut after its first ``layer`` layers, without the LM head.

    Inside the block, the decoder's ``last_hidden_state`` equals ``hidden_states[layer]`` of the whole model. The layers
    above are neither run nor kept in the autograd graph.

    Raises:
        ModelError: if the model has fewer layers.
    """
    decoder = llm.get_decoder()
    parts = decoder_parts(llm)
    layers, norm = (getattr(decoder, name) for name in parts)
    if not 1 <= layer <= len(layers):
        raise ModelError(f"hook layer {layer} does not exist: the model has layers 1 to {len(layers)}")
    setattr(decoder, parts[0], layers[:layer])
    if layer < len(layers):  # of all hidden_states, only the last comes after the final norm
        setattr(decoder, parts[1], nn.Identity())
    try:
        yield decoder
    finally:
        for name, part in zip(parts, (layers, norm), strict=True):
            setattr(decoder, name, part)


def hidden_states(decoder: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Hidden states [batch, length, hidden] of a decoder from :func:`layers_up_to`."""
    return decoder(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
