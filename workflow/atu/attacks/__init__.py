"""Attacks, which ask again for what was forgotten, after changing the model or in another way.

An attack is a function ``attack(asked, ask, **settings)`` in the file of its kind. It calls ``ask(step, asked)`` with
the model and the probes to ask: once, at step 0, or over the steps of training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pandas as pd

from atu.data.attacks import KINDS
from atu.engine.engine import Engine


@dataclass(frozen=True)
class Asked:
    """A model and the probes to ask it.

    Attributes:
        probes: rows of a benchmark's probes.
        instruction: starts each message.
    """

    engine: Engine
    probes: pd.DataFrame
    instruction: str = ""


Ask = Callable[[int, Asked], None]


def load(kind: str) -> Callable[..., Any]:
    """The attack function of a kind.

    Raises:
        KeyError: if the kind is unknown.
    """
    if kind not in KINDS:
        raise KeyError(f"no attack of kind {kind}")
    return import_module(f"atu.attacks.{kind}").attack
