"""Whether training of the LLM can keep weights and optimiser state as the config says."""

from collections.abc import Iterator, Mapping

from atu.common.memory import AUTO, Memory


def check_memory(config: dict) -> Iterator[str]:
    """Faults of ``memory``: settings that contradict each other."""
    memory = config["memory"]
    if memory == AUTO:
        return
    try:
        Memory(**memory)
    except ValueError as error:
        yield f"memory.{error}"
    if memory["weights"] != "fp32" and config["precision"] != "bf16":
        yield (
            f"memory.weights: {memory['weights']}, but precision is {config['precision']}, which computes with float32 "
            "weights; set precision to bf16, or memory.weights to fp32"
        )
    if config["gpus_per_job"] > 1 and not shards(memory):
        yield (
            f"memory: with gpus_per_job: {config['gpus_per_job']} only weights and optimizer_state of fp32 can be "
            "sharded; set both to fp32, or gpus_per_job to 1"
        )


def shards(memory: Mapping) -> bool:
    """Whether training with these settings can run on several GPUs."""
    return memory["weights"] == memory["optimizer_state"] == "fp32"
