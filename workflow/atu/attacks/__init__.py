"""Attacks: what is forgotten is asked for again, of a model that is changed, or in another way.

An attack is a function ``attack(asked, ask, **settings)`` in the file of its kind. It calls ``ask(step, asked)`` with
what is to be asked then: once, at step 0, or over the steps of a training.
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
    """What a model is asked.

    Attributes:
        probes: rows of a benchmark's probes.
        instruction: stands at the head of each message.
    """

    engine: Engine
    probes: pd.DataFrame
    instruction: str = ""


Ask = Callable[[int, Asked], None]


def load(kind: str) -> Callable[..., Any]:
    """The attack of a kind.

    Raises:
        KeyError: for another kind.
    """
    if kind not in KINDS:
        raise KeyError(f"no attack of kind {kind}")
    return import_module(f"atu.attacks.{kind}").attack
