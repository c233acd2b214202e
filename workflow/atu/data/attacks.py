"""The kinds of attacks, and what they read of a benchmark. No torch is loaded."""

KINDS = ("relearn", "quantize", "few_shot", "paraphrase", "adapter_off")  # each a file of atu/attacks
# What a comparison reads: answers under an attack, and beside them the column of the table that has the others.
BESIDE = {"before": "before", "base": "base_before", "base_files": "base_after"}
COMPARED = ("files", *BESIDE)
# Texts that attacks alone read, by the name of their file; what stands before an underscore is their kind.
UNRELATED = "relearn_unrelated"  # of nobody: one file for all targets
RELEARNED = ("relearn", "relearn_neighbors", UNRELATED)
FILES = {"few_shot": "facts", "paraphrase": "paraphrases"}  # by kind of attack, the file of each person that it reads
ATTACK_TEXTS = (*RELEARNED, *FILES.values())
