"""Align-then-Unlearn: alignment, unlearning and RWKU evaluation of language models.

The package does not depend on Snakemake or the config file: every function takes plain values and paths, so each can be
imported and tested alone.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the checkout that contains this library
