"""What prints as a digest, or always alike: Snakemake prints params, and compares them as printed."""

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


class Covered(dict):
    """Settings that the recipe covers: they print alike, as Snakemake need not compare them again."""

    def __repr__(self) -> str:
        return "covered by the recipe"

    __str__ = __repr__

    def __reduce__(self):
        return dict, (dict(self),)  # a plain dict to the scripts, which know nothing of this class
