"""Your own checkpoint, unlearned elsewhere and evaluated here like any other: a whole model or a LoRA adapter."""

from atu.methods import External


class Checkpoint(External):
    name = "External"


METHOD = Checkpoint
