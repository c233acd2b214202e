"""What each rule's jobs need under a config: the sizes from which atu_pipeline.resources computes."""

from dataclasses import asdict, replace
from functools import cache
from math import ceil
from statistics import mean

from atu import ROOT
from atu.common.declared import declared
from atu.common.memory import AUTO as AUTO_MEMORY
from atu.common.memory import Memory, rungs
from atu.data.benchmark import UTILITY, list_targets, read_rows
from atu.data.probe_sets import PROBE_SETS, about_people, judged
from atu.engine.parts import ALL_LAYERS, AUTO, layer_range
from atu_pipeline.resources import (
    ALONE_SECONDS_GPU,
    ALONE_SHARE_CPU,
    WEIGHT,
    Demand,
    activation_bytes,
    answering_flop,
    cache_bytes,
    forward_flop,
    gpu_mem_mb,
    host_bytes,
    logits_bytes,
    lora_parameters,
    rounded_bytes,
    shape,
    sharded_bytes,
    step_on_host,
    training_bytes,
    training_flop,
)
from atu_pipeline.settings import kind_of, reads_retain_set
from atu_pipeline.settings.memory import shards
from atu_pipeline.settings.messages import ConfigError

# Assumptions where the config says nothing: weights and vocabulary of a model whose block has neither, tokens of a
# prompt, and the batch sizes in embed_windows and compute_reference.py.
PARAMETERS = 8e9
VOCABULARY = 2**18
LONG_PROMPT, SHORT_PROMPT = 1000, 150
WINDOW_BATCH = 512
REFERENCE_BATCH = 8
# For a benchmark in a folder: the number of targets to look at, the fields that the rows of a task share, and
# characters per token.
SAMPLED = 3
SHARED_FIELDS = ("examples", "cot")
CHARACTERS = 4


def parameters(config: dict, model: str) -> float:
    """Weights of a model under `models`; one unlearned elsewhere has as many as the LLM unless its block says so."""
    blocks = config["method_settings"].values()
    like = config["llm"] if any(block.get("model") == model for block in blocks) else model
    told = (config["models"][name].get("parameters") for name in (model, like))
    return float(next(filter(None, told), PARAMETERS))


def depth(config: dict) -> float:
    """Layers of the LLM, estimated if its block does not say."""
    return config["models"][config["llm"]].get("layers") or shape(parameters(config, config["llm"]))[0]


def vocabulary(config: dict) -> int:
    """The size of the LLM's vocabulary; that of the largest one in use if its block does not say."""
    return config["models"][config["llm"]].get("vocabulary", VOCABULARY)


def embedding_parameters(config: dict) -> float:
    """Weights of the LLM's embedding: one vector per token of the vocabulary."""
    size = parameters(config, config["llm"])
    return min(size, vocabulary(config) * shape(size)[1])


def logits(config: dict, tokens: float) -> float:
    """Bytes of the logits of ``tokens`` in a loss."""
    return logits_bytes(tokens, vocabulary(config))


def activations(config: dict, tokens: float, precision: str, recomputed: bool = False) -> float:
    """Bytes of the LLM's activations of ``tokens`` that wait for the backward pass."""
    own = config["models"][config["llm"]].get("activation_bytes")
    return activation_bytes(parameters(config, config["llm"]), tokens, precision, recomputed, own)


def key_values(config: dict, tokens: float, precision: str) -> float:
    """Bytes of the LLM's keys and values of ``tokens``."""
    own = config["models"][config["llm"]].get("cache_bytes")
    return cache_bytes(parameters(config, config["llm"]), tokens, precision, own)


def subject_tokens(config: dict, kinds: int = 1) -> float:
    """Tokens of one subject's texts of ``kinds`` kinds, each with ``corpus.texts`` texts of full length."""
    return kinds * config["corpus"]["texts"] * config["corpus"]["max_tokens"]


def aligned_kinds(settings: dict) -> int:
    """The number of kinds of texts on which a method is aligned, summed over the target and the other subjects."""
    return (1 + settings["other_subjects"]) * len(settings["corpora"])


def kinds_read(config: dict) -> int:
    """The most kinds of texts on which any method is aligned."""
    return max(len(block.get("corpora", [None])) for block in config["method_settings"].values())


def of_rwku(name: str) -> tuple[float, float]:
    """The number of a set's probes for one target of RWKU, and the tokens of all their prompts."""
    probe_set = PROBE_SETS[name]
    return probe_set.probes, probe_set.probes * (LONG_PROMPT if probe_set.long_prompt else SHORT_PROMPT)


@cache
def in_folder(folder: str, name: str) -> tuple[float, float]:
    """The same for a benchmark in a folder: for its shared set, or the mean over its first targets.

    The length of prompts is computed from their rows; what probes of one task share (solved examples) counts once.
    Faults in the rows are ignored here, since prepare_probes reports them.
    """
    probe_set, sizes = PROBE_SETS[name], []
    for target in [None, *list_targets(folder)[:SAMPLED]]:
        try:
            rows = read_rows(folder, target, probe_set.file) or []
        except (ValueError, OSError):
            rows = []
        rows = [row for row in rows if isinstance(row, dict)]
        shared = {str(row.get(key)) for row in rows for key in SHARED_FIELDS if key in row}
        own = sum(len(str(value)) for row in rows for key, value in row.items() if key not in SHARED_FIELDS)
        characters = own + len(rows) * len(probe_set.message) + sum(map(len, shared))
        sizes.append((len(rows), characters / CHARACTERS))
    if sizes[0][0]:
        return sizes[0]
    return tuple(map(mean, zip(*sizes[1:], strict=True))) if sizes[1:] else (0.0, 0.0)


def asked(config: dict, sets: list[str], subject: str | None = None) -> tuple[float, float]:
    """Tokens of prompts and of answers when some sets are asked.

    Args:
        subject: a target for its own probes, or ``UTILITY`` for the shared ones; None for both.
    """
    source = config["benchmarks"][config["benchmark"]]
    if subject is not None and source["shared_utility"]:
        sets = [name for name in sets if PROBE_SETS[name].shared == (subject == UTILITY)]
    prompts = answers = 0.0
    for name in sets:
        probes, tokens = in_folder(source["path"], name) if source["source"] == "path" else of_rwku(name)
        prompts += tokens
        if PROBE_SETS[name].ask == "generate":
            answers += probes * min(PROBE_SETS[name].max_new_tokens, config["evaluation"]["max_new_tokens"])
    return prompts, answers


def predictor_parameters(config: dict, settings: dict) -> float:
    """Weights of the embedding predictor: 12 L w^2, and the map from hidden states."""
    layers, width = settings["predictor"]["layers"], settings["predictor"]["width"]
    return 12 * layers * width**2 + width * shape(parameters(config, config["llm"]))[1]


def alignment(config: dict, settings: dict, steps: int) -> Demand:
    """Training the predictor on stored hidden states, with the window embeddings of all subjects in memory."""
    size = predictor_parameters(config, settings)
    tokens = settings["align"]["batch_size"] * config["corpus"]["max_tokens"]
    trained = training_bytes(size, size, settings["align"]["optimizer"], config["precision"], Memory())
    kinds = aligned_kinds(settings)
    windows = windows_bytes(config, kinds)
    return Demand(
        flop=steps * training_flop(size, tokens),
        device=trained + activation_bytes(size, tokens, config["precision"]),
        host=windows,
        moved=states_bytes(config, kinds) + windows,
        kept=WEIGHT["fp32"] * size,
    )


def states_bytes(config: dict, kinds: int) -> float:
    """Stored hidden states of one subject's texts of ``kinds`` kinds: one vector per token."""
    return subject_tokens(config, kinds) * shape(parameters(config, config["llm"]))[1] * WEIGHT[config["precision"]]


def windows_bytes(config: dict, kinds: int) -> float:
    """Stored window embeddings of the same texts: at most one float32 vector per token."""
    return subject_tokens(config, kinds) * shape(parameters(config, config["encoder"]))[1] * WEIGHT["fp32"]


def unlearning(config: dict, settings: dict, memory: Memory, last: bool = False) -> Demand:
    """One stage: train the LLM at tau and write it; unless it is the last, align the predictor on it again."""
    size, unlearn, gpus = parameters(config, config["llm"]), settings["unlearn"], config["gpus_per_job"]
    of_text = config["corpus"]["max_tokens"] * (2 if unlearn["retain_weight"] else 1)
    tokens, own = unlearn["batch_size"] * of_text, ceil(unlearn["batch_size"] / gpus) * of_text
    checkpoint, recomputed = WEIGHT["fp32"] * size, memory.gradient_checkpointing
    whole = unlearn["layers"] == ALL_LAYERS and not unlearn["lora"]["rank"]
    if unlearn["lora"]["rank"]:
        trained = adapter_bytes(config, unlearn) / WEIGHT["fp32"]
    elif whole:
        trained = size * min(1.0, settings["layer"] / depth(config))
    else:
        trained = size * layers_share(config, unlearn)
    embedding = {"embedding": embedding_parameters(config), "embedding_trains": whole}
    passed = size * passed_share(config, unlearn, settings["layer"])
    weights = training_bytes(
        size, trained, unlearn["optimizer"], config["precision"], memory, **embedding, passed=passed
    )
    weights = sharded_bytes(weights, size, vocabulary(config), config["precision"], memory, gpus)
    again = alignment(config, settings, 0 if last else settings["align"]["steps_between"])
    read = 0 if last else subject_tokens(config, aligned_kinds(settings))
    return Demand(
        # each GPU reads all texts for the alignment
        flop=unlearn["steps"] * training_flop(size, tokens, recomputed) / gpus + forward_flop(size, read) + again.flop,
        device=weights + activations(config, own, config["precision"], recomputed) + again.device,
        host=gpus * again.host + rounded_bytes(size, memory),
        # each GPU's process reads it into memory; it is copied once more to be written
        copies=(gpus + 1) * checkpoint + host_bytes(size, trained, unlearn["optimizer"], memory),
        moved=2 * checkpoint + (again.host if last else 2 * again.moved),
        kept=checkpoint + (0 if last else again.kept),
        gpus=gpus,
        waits=unlearn["steps"] * step_on_host(trained, unlearn["optimizer"], memory),
    )


def realignment(config: dict, settings: dict) -> Demand:
    """Computing hidden states of a stage's model on local scratch, and training the predictor on them."""
    size, again = parameters(config, config["llm"]), alignment(config, settings, settings["align"]["steps_between"])
    tokens, checkpoint = subject_tokens(config, aligned_kinds(settings)), WEIGHT["fp32"] * size
    return Demand(
        flop=forward_flop(size, tokens) + again.flop,
        device=checkpoint + again.device,
        host=again.host,
        copies=checkpoint,
        moved=checkpoint + 2 * again.moved,
        kept=again.kept,
    )


def passed_share(config: dict, settings: dict, top: float) -> float:
    """The share of the model's layers that gradients pass, from the lowest trained layer up to layer ``top``."""
    layers = layer_range(settings["layers"])
    lowest = 0 if layers is None else layers.start
    return min(1.0, max(0.0, (top - lowest) / depth(config)))


def layers_share(config: dict, settings: dict) -> float:
    """The share of the model's layers that train, since a block may name some."""
    layers = layer_range(settings["layers"])
    return 1.0 if layers is None else min(1.0, len(layers) / depth(config))


def adapter_bytes(config: dict, settings: dict) -> float:
    """Bytes of a LoRA adapter that is kept apart."""
    lora = settings["lora"]
    # an adapter of one map that makes queries, keys and values has as many weights as those of two square maps
    maps = 2 if lora["modules"] == AUTO else len(lora["modules"])
    whole = lora_parameters(parameters(config, config["llm"]), lora["rank"], maps)
    return WEIGHT["fp32"] * whole * layers_share(config, settings)


def training(config: dict, settings: dict, memory: Memory, people: int = 1) -> Demand:
    """All epochs of a method with a loss on texts about some people; each epoch leaves a checkpoint."""
    size, train, own = parameters(config, config["llm"]), settings["train"], declared(ROOT, settings["method"])
    checkpoint = WEIGHT["fp32"] * size
    saved = checkpoint
    if settings["lora"]["rank"]:
        saved = adapter_bytes(config, settings)
        trained = saved / WEIGHT["fp32"]
    elif own.trained_layers is not None:
        trained = own.trained_layers * size / depth(config)
    else:
        trained = size * layers_share(config, settings)
    kept = own.second_model + (settings["retain"]["loss"] == "kl")  # base models beside the trained one
    sequences = (2 if settings["texts"] == "pair" else 1) + reads_retain_set(settings)
    # GPUs share a batch if the method says how (atu.training.shares)
    gpus = config["gpus_per_job"]
    sharing = gpus if own.mean_over and "others" not in own.reads else 1
    batch = ceil(train["batch_size"] / sharing) * settings["max_tokens"] * sequences
    recomputed, texts = memory.gradient_checkpointing, people * config["corpus"]["texts"]
    length, steps = texts * settings["max_tokens"], ceil(texts / (train["batch_size"] * train["accumulate"]))
    passes = training_flop(size, length * sequences, recomputed) + kept * forward_flop(size, length)
    whole = settings["layers"] == ALL_LAYERS and own.trained_layers is None and not settings["lora"]["rank"]
    embedding = {"embedding": embedding_parameters(config), "embedding_trains": whole}
    if own.trained_layers is None:
        passed = size * passed_share(config, settings, depth(config))
    else:  # it runs no layers above its own
        passed = size * min(1.0, own.trained_layers / depth(config))
    weights = training_bytes(
        size, trained, train["optimizer"], config["precision"], memory, kept, **embedding, passed=passed
    )
    weights = sharded_bytes(weights, size, vocabulary(config), config["precision"], memory, gpus)
    return Demand(
        flop=train["epochs"] * passes / sharing,
        device=weights + activations(config, batch, config["precision"], recomputed) + logits(config, batch),
        host=rounded_bytes(size, memory),
        # each GPU's process reads the model and, if there are several, copies it in memory
        copies=checkpoint * (gpus * (1 + kept) if gpus > 1 else 1)
        + saved
        + host_bytes(size, trained, train["optimizer"], memory),
        moved=checkpoint + train["epochs"] * saved,
        kept=train["epochs"] * saved,
        gpus=gpus,
        waits=train["epochs"] * steps * step_on_host(trained, train["optimizer"], memory),
    )


def answering(config: dict, prompts: float, answers: float) -> float:
    """FLOP of answering probes; if a GPU writes each answer alone, the FLOP that it could have done in that time."""
    size = parameters(config, config["llm"])
    if not config["evaluation"]["batch_invariant"]:
        return answering_flop(size, prompts, answers)
    if config["device"] == "cpu":
        return answering_flop(size, prompts, answers, ALONE_SHARE_CPU)
    rate = config["hardware"]["gpu_tflops"][config["precision"]] * 1e12
    return forward_flop(size, prompts + answers) + answers * depth(config) * ALONE_SECONDS_GPU * rate


def evaluation(config: dict, sets: list[str], subject: str | None = None) -> Demand:
    """Asking the probes of one target, the shared ones, or both, with weights and cache in ``precision``."""
    size, precision = parameters(config, config["llm"]), config["precision"]
    batch = config["evaluation"]["batch_tokens"]
    return Demand(
        flop=answering(config, *asked(config, sets, subject)),
        device=WEIGHT[precision] * size + key_values(config, batch, precision) + logits(config, LONG_PROMPT),
        copies=WEIGHT[precision] * size,
        moved=WEIGHT["fp32"] * size,
    )


def judging(config: dict, sets: list[str], subject: str | None = None, own: bool = False) -> Demand:
    """:func:`evaluation`, after which the base model reads the answers, plus probabilities if they are set.

    Args:
        own: whether the answers are the base model's own, which it reads three times (atu/evaluation/surprise.py);
            otherwise it must be loaded.
    """
    size, whole = parameters(config, config["llm"]), evaluation(config, sets, subject)
    again = (3 if own else 1) * sum(asked(config, [name for name in sets if name in judged()], subject))
    if config["evaluation"]["probability"]:
        again += sum(asked(config, [name for name in sets if name in about_people()], subject))
    gpus = config["gpus_per_evaluation"]  # each asks a part of the probes, on its own copy of the model
    return replace(
        whole,
        flop=(whole.flop + forward_flop(size, again)) / gpus,
        moved=whole.moved * (1 if own else 2),
        copies=whole.copies * gpus,
        gpus=gpus,
    )


def writing(config: dict) -> Demand:
    """Writing texts about one subject by the model itself."""
    size, corpus = parameters(config, config["llm"]), config["corpus"]
    tokens = corpus["texts"] * corpus["max_new_tokens"]
    weights = WEIGHT["fp32"] * size
    cache = key_values(config, corpus["batch_tokens"], "fp32")
    # the prompt, the same for all texts, is read once
    return Demand(answering_flop(size, SHORT_PROMPT, tokens), weights + cache, copies=weights, moved=weights)


def embedding(config: dict) -> Demand:
    """Embedding the windows of one subject's texts: one window of k encoder tokens per token."""
    size, kinds = parameters(config, config["encoder"]), kinds_read(config)
    tokens = subject_tokens(config, kinds)
    widest = max(block.get("k", 1) for block in config["method_settings"].values())
    weights, stored = WEIGHT["fp32"] * size, windows_bytes(config, kinds)
    batch = activation_bytes(size, WINDOW_BATCH * widest, "fp32")
    return Demand(
        flop=forward_flop(size, tokens * widest),
        device=weights + batch,
        host=2 * stored,
        copies=weights,
        moved=weights,
        kept=stored,
    )


def reading(config: dict, tokens: float, kept: float = 0.0, scored: float = 0.0) -> Demand:
    """One pass of the base model over ``tokens``, with float32 weights on the device."""
    size = parameters(config, config["llm"])
    weights = WEIGHT["fp32"] * size
    batch = 2 * activation_bytes(size, REFERENCE_BATCH * config["corpus"]["max_tokens"], "fp32", recomputed=True)
    device = weights + batch + logits(config, scored)
    return Demand(forward_flop(size, tokens), device, kept, moved=weights + kept, kept=kept, copies=weights)


def attacking(config: dict, block: dict, memory: Memory, subject: str | None) -> Demand:
    """Asking a person's probes under an attack, as often as the attack asks, and training if it trains."""
    size, before = parameters(config, config["llm"]), len(block.get("at", [0])) - 1  # the last step
    asking = evaluation(config, block["ask"], subject)
    between = evaluation(config, block.get("between", block["ask"]), subject)
    flop, device, host, gpus = asking.flop + before * between.flop, asking.device, asking.host, 1
    copies, waits = asking.copies, 0.0
    if block["attack"] == "relearn":
        gpus = config["gpus_per_job"]
        rank, tokens = block["lora"]["rank"], ceil(block["batch_size"] / gpus) * block["max_tokens"]
        trained = lora_parameters(size, rank, 2) if rank else size
        recomputed = memory.gradient_checkpointing
        flop += block["steps"] * training_flop(size, tokens, recomputed)
        of = size, trained, block["optimizer"], config["precision"], memory
        sharded = size, vocabulary(config), config["precision"], memory, gpus
        embedding = {"embedding": embedding_parameters(config), "embedding_trains": not rank}
        step = sharded_bytes(training_bytes(*of, **embedding, passed=size), *sharded)
        step += activations(config, tokens, config["precision"], recomputed) + logits(config, tokens)
        # it is asked during training, with weights and the optimiser's state in memory
        between_steps = sharded_bytes(training_bytes(*of, **embedding, gradients=False), *sharded)
        between_steps += key_values(config, config["evaluation"]["batch_tokens"], config["precision"])
        device = max(step, between_steps + logits(config, LONG_PROMPT))
        host = rounded_bytes(size, memory)
        copies = gpus * WEIGHT["fp32"] * size + host_bytes(size, trained, block["optimizer"], memory)
        waits = block["steps"] * step_on_host(trained, block["optimizer"], memory)
    return Demand(flop=flop, device=device, host=host, moved=asking.moved, copies=copies, gpus=gpus, waits=waits)


def layer_states(config: dict, subject: str | None) -> Demand:
    """One pass over a person's prompts, which keeps one float32 vector per prompt and layer."""
    size, precision = parameters(config, config["llm"]), config["precision"]
    prompts, _ = asked(config, config["layer_probe"]["ask"], subject)
    (layers, width), weights = shape(size), WEIGHT[precision] * size
    return Demand(
        flop=forward_flop(size, prompts),
        device=weights + key_values(config, config["evaluation"]["batch_tokens"], precision),
        copies=weights,
        moved=WEIGHT["fp32"] * size,
        kept=WEIGHT["fp32"] * prompts / SHORT_PROMPT * layers * width,
    )


def scoring(config: dict, models: int) -> Demand:
    """Reading all groups of texts by one model or by two in turn, with the logits of one text at a time."""
    size, precision, longest = parameters(config, config["llm"]), config["precision"], config["corpus"]["max_tokens"]
    subjects = sum(block.get("subjects") or 1 for block in config["text_scores"].values())
    batch = activation_bytes(size, config["evaluation"]["batch_tokens"], precision, recomputed=True)
    weights = WEIGHT[precision] * size
    return Demand(
        flop=models * forward_flop(size, subjects * subject_tokens(config)),
        device=models * (weights + logits(config, longest)) + batch,
        copies=weights,
        moved=models * WEIGHT["fp32"] * size,
    )


def memory_of(config: dict, rule: str, name: str) -> Memory:
    """How a job that trains the LLM keeps weights and optimiser state.

    It is what the config says. For ``auto`` it is the most exact way that fits one GPU, or the default on a CPU.

    Args:
        rule: train, unlearn or attack_after.
        name: the name of the method or the attack.

    Raises:
        ConfigError: if no way fits.
    """
    if config["memory"] != AUTO_MEMORY:
        return Memory(**config["memory"])
    if config["device"] == "cpu":
        return Memory()
    room, sizes = config["hardware"]["gpu_memory_gb"], ways(config, rule, name)
    for memory, needed in sizes.items():
        if needed <= room:
            return memory
    table = "attacks" if rule == "attack_after" else "method_settings"
    raise ConfigError(
        f"memory: {table}.{name} needs {min(sizes.values()):.0f} GB of GPU memory at least, and "
        f"hardware.gpu_memory_gb is {room:g}; set a lora.rank or fewer layers, a smaller batch, or name a larger GPU"
    )


def ways(config: dict, rule: str, name: str) -> dict[Memory, float]:
    """GB of GPU memory of a job that trains the LLM, by each way to keep weights and state, the most exact first."""
    return {
        memory: gpu_mem_mb(demand(rule, config, name, memory=memory)) / 1000
        for memory in rungs(config["precision"])
        if config["gpus_per_job"] == 1 or shards(asdict(memory))
    }


def optimizer_of(config: dict, rule: str, name: str) -> str:
    """The optimiser of a job that trains the LLM.

    Args:
        rule: train, unlearn or attack_after.
        name: the name of the method or the attack.
    """
    if rule == "attack_after":
        return config["attacks"][name]["optimizer"]
    return config["method_settings"][name][rule]["optimizer"]


def training_rule(config: dict, name: str) -> str | None:
    """The rule by which a method trains the LLM; None if it does not."""
    return {"aligned": "unlearn", "trained": "train"}.get(kind_of(config["method_settings"][name]))


def demand(
    rule: str,
    config: dict,
    name: str | None = None,
    subject: str | None = None,
    people: int = 1,
    memory: Memory | None = None,
) -> Demand:
    """What one job of a rule needs.

    Args:
        name: the name of the job's method, model or attack, if it has one.
        subject: the subject whose probes the rules of the base model, attacks and layers ask; None for the target's
            and the shared ones.
        people: how many people a run forgets at once.
        memory: how training keeps weights and optimiser state; None for what the config says.

    Raises:
        ConfigError: if training does not fit the GPU.
        KeyError: if the rule handles no model.
    """
    settings = config["method_settings"].get(name, {})
    if "align" in settings:  # alignment reads the texts of all these people
        settings = settings | {"other_subjects": settings["other_subjects"] + people - 1}
    checkpoint = WEIGHT["fp32"] * parameters(config, config["llm"])
    match rule:
        case "download_model":
            size = WEIGHT["fp32"] * parameters(config, name)
            return Demand(host=2 * size, moved=2 * size, kept=size)
        case "write_texts" | "answer_questions":
            return writing(config)
        case "embed_target":
            size = WEIGHT["fp32"] * parameters(config, config["encoder"])
            return Demand(host=2 * size, moved=size)
        case "embed_windows":
            return embedding(config)
        case "hidden_states":
            kinds = kinds_read(config)
            return reading(config, subject_tokens(config, kinds), states_bytes(config, kinds))
        case "align":
            return alignment(config, settings, settings["align"]["steps"])
        case "unlearn" | "unlearn_last":
            kept_in = memory or memory_of(config, "unlearn", name)
            return unlearning(config, settings, kept_in, last=rule == "unlearn_last")
        case "realign":
            return realignment(config, settings)
        case "train":
            return training(config, settings, memory or memory_of(config, "train", name), people)
        case "reference_log_probs":
            longest = max(block.get("max_tokens", 0) for block in config["method_settings"].values())
            return reading(config, 2 * config["corpus"]["texts"] * longest, scored=REFERENCE_BATCH * longest)
        case "find_intervention" if not declared(ROOT, settings["method"]).reads_model:
            return Demand()
        case "find_intervention":
            return reading(config, 2 * people * config["corpus"]["texts"] * SHORT_PROMPT)
        case "keep_weights":
            lora = settings.get("lora", {"rank": 0})
            if lora["rank"] and not lora["merge"]:
                return Demand(kept=adapter_bytes(config, settings))
            size = 2 * checkpoint if lora["rank"] else 0.0  # otherwise weights are linked, not copied
            return Demand(host=size, moved=size, kept=checkpoint)
        case "evaluate_before":
            return judging(config, config["evaluation"]["before_and_after"], subject, own=True)
        case "evaluate_after":
            return judging(config, config["evaluation"]["before_and_after"])
        case "evaluate_between":
            return judging(config, config["evaluation"]["between"])
        case "attack_before" | "attack_after":
            block = config["attacks"][name]
            trains = block["attack"] == "relearn"
            kept_in = memory or (memory_of(config, "attack_after", name) if trains else Memory())
            return attacking(config, block, kept_in, subject)
        case "probe_layers_before" | "probe_layers_after":
            return layer_states(config, subject)
        case "score_texts_before":
            return scoring(config, 1)
        case "score_texts_after":
            return scoring(config, 2)
    raise KeyError(rule)
