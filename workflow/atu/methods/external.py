"""A checkpoint of your own: unlearned elsewhere, whole or as a LoRA adapter, and evaluated here like any other."""

from atu.methods import External


class Checkpoint(External):
    name = "External"


METHOD = Checkpoint
