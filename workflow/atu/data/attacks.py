"""The kinds of attacks, and what they read of a benchmark. No torch is loaded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What is said of a kind of attack.

    Attributes:
        file: of each person, that it reads; its name without ending.
        rewords: whether it asks in other words. Then those probes alone count that the base model answers in these
            words: of the others it would measure how well the base model reads.
    """

    file: str | None = None
    rewords: bool = False


KINDS = {  # each a file of atu/attacks
    "relearn": Kind(),
    "quantize": Kind(),
    "few_shot": Kind(file="facts"),
    "paraphrase": Kind(file="paraphrases", rewords=True),
    "adapter_off": Kind(),
}
# What a comparison reads: answers under an attack, and beside them the column of the table that has the others.
BESIDE = {"before": "before", "base": "base_before", "base_files": "base_after"}
COMPARED = ("files", *BESIDE)
# Texts that attacks alone read, by the name of their file; what stands before an underscore is their kind.
UNRELATED = "relearn_unrelated"  # of nobody: one file for all targets
RELEARNED = ("relearn", "relearn_neighbors", UNRELATED)
ATTACK_TEXTS = (*RELEARNED, *(kind.file for kind in KINDS.values() if kind.file))
