"""The workflow's own side: its config, its plan, what ran and what a number was made of. It may know Snakemake."""
