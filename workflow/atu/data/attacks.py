"""The kinds of attacks, and what they read of a benchmark. No torch is loaded."""

# By kind, what it is in words. Each has a file in atu/attacks.
KINDS = {
    "relearn": "fine-tuned on texts",
    "quantize": "weights rounded",
    "few_shot": "facts about the person before the question",
    "paraphrase": "the question in other words",
    "adapter_off": "the adapter turned off",
}
# Texts that attacks alone read, by the name of their file; what stands before an underscore is their kind.
UNRELATED = "relearn_unrelated"  # of nobody: one file for all targets
RELEARNED = ("relearn", "relearn_neighbors", UNRELATED)
FILES = {"few_shot": "facts", "paraphrase": "paraphrases"}  # by kind of attack, the file of each person that it reads
ATTACK_TEXTS = (*RELEARNED, *FILES.values())
