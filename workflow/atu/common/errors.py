"""Errors whose message is enough: a traceback would only hide it."""


class ExplainedError(Exception):
    """An error whose message says what is wrong and how to mend it.

    Attributes:
        passing: whether another try may do without any mend, as where a network failed.
    """

    def __init__(self, message: str, passing: bool = False):
        super().__init__(message)
        self.passing = passing


class DamagedError(ExplainedError, ValueError):
    """A file is cut, or holds what no job has written there; the message names it and what to delete."""


class DivergedError(ExplainedError, FloatingPointError):
    """Training has left the numbers that there are."""
