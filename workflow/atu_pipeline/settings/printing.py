"""Params that print as a digest or always the same, since Snakemake compares params in their printed form."""

import hashlib


class Rows(list):
    """A list that prints as its length and a digest."""

    def __repr__(self) -> str:
        return f"{len(self)} rows, {hashlib.sha256(list.__repr__(self).encode()).hexdigest()[:16]}"

    __str__ = __repr__

    def __reduce__(self):
        return list, (list(self),)  # scripts get a plain list, since they do not know this class


class Uncompared(list):
    """A list that always prints the same, so that a change makes no job run again."""

    def __repr__(self) -> str:
        return "not compared"

    __str__ = __repr__

    def __reduce__(self):
        return list, (list(self),)


class Covered(dict):
    """Settings that the recipe covers; they always print the same, since Snakemake need not compare them again."""

    def __repr__(self) -> str:
        return "covered by the recipe"

    __str__ = __repr__

    def __reduce__(self):
        return dict, (dict(self),)  # scripts get a plain dict, since they do not know this class
