"""The kinds of attacks, and the files of a benchmark that they read. It does not load torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """The properties of a kind of attack.

    Attributes:
        file: the file of each person that it reads, without ending.
        rewords: whether it asks in other words. If so, only probes count that the base model answers in these words;
            the others would measure how well the base model understands them.
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
# What a comparison reads besides the answers under an attack ("files"), and its column in the table.
BESIDE = {"before": "before", "base": "base_before", "base_files": "base_after"}
COMPARED = ("files", *BESIDE)
# Names of files with texts that only attacks read; the part before an underscore is the kind of text.
UNRELATED = "relearn_unrelated"  # texts about nobody, in one file for all targets
RELEARNED = ("relearn", "relearn_neighbors", UNRELATED)
ATTACK_TEXTS = (*RELEARNED, *(kind.file for kind in KINDS.values() if kind.file))
