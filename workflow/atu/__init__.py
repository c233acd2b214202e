"""Align-then-Unlearn: alignment, unlearning and RWKU evaluation of language models.

The package knows nothing of Snakemake or of the config file: every function takes
plain values and paths, so each can be imported and tested alone.
"""
