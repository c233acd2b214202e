"""The unlearning methods: one file per method, which `load` finds by name.

A method subclasses `Trained` (a loss on examples, `atu.engine.examples`), `Applied` (trains nothing), `Aligned` (like
Align-then-Unlearn) or `External` (a model from elsewhere). The class declares its inputs, its options and its name.
"""

from importlib import import_module

from atu.training.method import Aligned, Applied, External, Method, Trained

__all__ = ["Aligned", "Applied", "External", "Method", "Trained", "load"]


def load(name: str, **options) -> Method:
    """The class that ``workflow/atu/methods/<name>.py`` exports as METHOD, constructed with the options."""
    return import_module(f"atu.methods.{name}").METHOD(**options)
