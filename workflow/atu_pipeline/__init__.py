"""The workflow's own side: its config, its plan, what ran and what a number was made of. It may know Snakemake."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # the checkout
