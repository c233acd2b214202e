"""Errors whose message says enough, so that a traceback would only hide it."""


class ExplainedError(Exception):
    """An error whose message says what is wrong and how to fix it.

    Attributes:
        passing: whether another try may succeed without a fix, as after a network failure.
    """

    def __init__(self, message: str, passing: bool = False):
        super().__init__(message)
        self.passing = passing


class DamagedError(ExplainedError, ValueError):
    """A file is cut, or its content was not written by a job; the message names it and what to delete."""


class DivergedError(ExplainedError, FloatingPointError):
    """Training has diverged to numbers that are not finite."""
