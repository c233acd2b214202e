"""How to forget. One file a method; `load` finds it by name.

A method subclasses `Trained` (a loss on examples, `atu.engine.examples`), `Applied` (nothing is trained), `Aligned`
(as Align-then-Unlearn) or `External` (a model from elsewhere), and declares there what it reads, takes and is called.
"""

from importlib import import_module

from atu.training.method import Aligned, Applied, External, Method, Trained

__all__ = ["Aligned", "Applied", "External", "Method", "Trained", "load"]


def load(name: str, **options) -> Method:
    """The method that ``workflow/atu/methods/<name>.py`` calls METHOD, with its options set."""
    return import_module(f"atu.methods.{name}").METHOD(**options)
