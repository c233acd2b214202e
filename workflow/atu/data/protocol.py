"""Protocols: how probes are asked and scored, and plain texts are trained on, where RWKU's own code has peculiarities.

RWKU's protocol follows jinzhuoran/RWKU at a23df67: the evaluators in LLaMA-Factory/src/llmtuner/eval and, for training
texts, train/ga, train/npo and data/template.py beside them. Align-then-Unlearn copies these evaluators.
"""

from dataclasses import dataclass

from atu.common.errors import ExplainedError

PROTOCOL = "protocol"  # key in the metadata of files of predictions: the name of their protocol
# How to read answers that are one text in the data; RWKU's code iterates over the text as if it were a list of answers.
READINGS = {"by_characters": "by characters", "whole": "whole"}


class ProtocolError(ExplainedError, ValueError):
    """There is no such protocol, or one table would mix numbers of two protocols."""


@dataclass(frozen=True)
class Protocol:
    """One choice for each peculiarity of RWKU's code; docs/protocols.md explains each.

    Attributes:
        about: the description of the protocol below tables.
        special_tokens: the tokenizer adds its special tokens (BOS) to prompts, before those of the chat template.
        named_stops: answers end at the end of text and at the tokens named in a probe set's ``stops``, as the tokenizer
            looks them up; not at every token that ends a turn or contains a line break.
        spaced_suffix: sets with ``spaced_suffix`` have a blank before their suffix, unless the template ends in one.
        by_characters: an answer that is one text counts as one answer per character.
        blanks_match: answers are compared only by their normalised words, so two empty texts match.
        instructed_texts: an instruction (ICU) also precedes texts whose likelihood is measured.
        skips_single_tokens: a text of one token has no likelihood and is left out; otherwise it is refused.
        ended_texts: plain texts are trained on as text and end of turn, without the tokenizer's special tokens.
    """

    name: str
    about: str
    special_tokens: bool
    named_stops: bool
    spaced_suffix: bool
    by_characters: bool
    blanks_match: bool
    instructed_texts: bool
    skips_single_tokens: bool
    ended_texts: bool

    @property
    def reading(self) -> str:
        """The one of READINGS that is the score."""
        return "by_characters" if self.by_characters else "whole"

    @property
    def sentence(self) -> str:
        """The sentence below tables with its numbers."""
        return f"Protocol: {self.name} ({self.about})."


RWKU = Protocol(
    name="rwku",
    about="asked and scored as RWKU's own code does, from which the published numbers are",
    special_tokens=True,
    named_stops=True,
    spaced_suffix=True,
    by_characters=True,
    blanks_match=True,
    instructed_texts=True,
    skips_single_tokens=True,
    ended_texts=True,
)
STRICT = Protocol(
    name="strict",
    about="asked and scored as the model's chat template and the answers mean it, not as RWKU's own code does",
    special_tokens=False,
    named_stops=False,
    spaced_suffix=False,
    by_characters=False,
    blanks_match=False,
    instructed_texts=False,
    skips_single_tokens=False,
    ended_texts=False,
)
PROTOCOLS = {protocol.name: protocol for protocol in (RWKU, STRICT)}


def protocol_of(name: str) -> Protocol:
    """The protocol with this name.

    Raises:
        ProtocolError: if the name is unknown; names the known ones.
    """
    if name not in PROTOCOLS:
        raise ProtocolError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
