"""How to forget. One file a method; `load` finds it by name.

A method that trains the LLM on examples (`atu.engine.examples`) subclasses `Trained`.
"""

from importlib import import_module

from atu.training.method import Trained

__all__ = ["Trained", "load"]


def load(name: str, **options) -> Trained:
    """The method that ``workflow/atu/methods/<name>.py`` calls METHOD, with its options set."""
    return import_module(f"atu.methods.{name}").METHOD(**options)
