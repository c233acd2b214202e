"""Lists that print as a digest, or always alike: Snakemake prints params, and compares them as printed."""

import hashlib


class Rows(list):
    """A list that prints as its length and a digest."""

    def __repr__(self) -> str:
        return f"{len(self)} rows, {hashlib.sha256(list.__repr__(self).encode()).hexdigest()[:16]}"

    __str__ = __repr__

    def __reduce__(self):
        return list, (list(self),)  # a plain list to the scripts, which know nothing of this class


class Uncompared(list):
    """A list that always prints alike: a changed one makes no job run again."""

    def __repr__(self) -> str:
        return "not compared"

    __str__ = __repr__

    def __reduce__(self):
        return list, (list(self),)
