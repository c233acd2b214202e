"""Scores of texts: how much of a text a model has memorised, and how far it is from the base model on it."""

from collections.abc import Iterator, Mapping

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from atu.common.errors import ExplainedError
from atu.data.text_scores import TEXT_SCORES
from atu.engine.engine import Engine
from atu.engine.examples import text_example
from atu.engine.likelihood import next_token_logits

UNLIKE = "so their predictions cannot be compared; take its method out of the experiment that shows text_scores"
COLUMNS = ["group", "subject", "text", "tokens", *TEXT_SCORES]


def exact_memorization(hits: Tensor) -> float:
    """The share of a text's tokens that are the model's likeliest next token (Tirumala et al. 2022, arXiv 2205.10770).

    Args:
        hits: True where the token is the likeliest one, [T].
    """
    return hits.double().mean().item()


def extraction_strength(hits: Tensor) -> float:
    """The share of a text that greedy decoding extracts (Carlini et al. 2021, arXiv 2012.07805).

    It is 1 minus the relative length of the shortest prefix from which greedy decoding writes the rest of the text,
    which is the share of the hits after the last miss. The first token is always given and does not count.

    Args:
        hits: as in :func:`exact_memorization`.
    """
    return hits.flip(0).long().cumprod(0).double().mean().item()


def kl_divergence(base: Tensor, own: Tensor) -> Tensor:
    """KL(base || own) at each position, in nats, [T]; infinite if the model rules out a token that the base allows.

    Args:
        base, own: logits of the base model and of the model, [T, vocabulary].
    """
    expected, found = base.log_softmax(-1), own.log_softmax(-1)
    weighted = expected.exp() * (expected - found)
    # tokens that the base model excludes count 0; otherwise they would give NaN (0 * -inf, or -inf minus -inf)
    weighted.masked_fill_(expected == -torch.inf, 0)
    return weighted.sum(-1).clamp_(min=0)  # only rounding can make it negative


def score_text(own: Tensor, base: Tensor | None, tokens: list[int]) -> dict[str, float]:
    """All scores of one text, by key of ``TEXT_SCORES``; log-likelihood and KL are means over tokens, in nats.

    Args:
        own: logits that predict each token, [T, vocabulary].
        base: the base model's logits; None if the base model itself is scored.
    """
    labels = torch.tensor(tokens, device=own.device)
    hits = own.argmax(-1) == labels
    return {
        "exact_memorization": exact_memorization(hits),
        "extraction_strength": extraction_strength(hits),
        "kl": 0.0 if base is None else kl_divergence(base, own).mean().item(),
        "log_likelihood": -F.cross_entropy(own, labels).item(),
    }


def check_same_tokens(ids: list[list[int]], base_ids: list[list[int]]) -> None:
    """Refuse a model that tokenizes texts differently from the base model.

    Raises:
        ExplainedError: if the tokens differ, since no divergence is then defined.
    """
    if ids != base_ids:
        raise ExplainedError(f"the model's tokenizer makes other tokens of a text than the base model's, {UNLIKE}")


def paired_logits(
    engine: Engine, base: Engine | None, ids: list[list[int]]
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Yield the logits for all tokens of each text but the first, from the model and the base model (None: no base).

    The two models run batch by batch in step, so that each holds at most one batch of states and the logits of one
    text. Their batches are the same, since texts and budget are the same.

    Yields:
        The index of a text and both logits, [T, vocabulary] each.

    Raises:
        ExplainedError: if the vocabularies differ in size, or as :func:`next_token_logits` does.
    """
    before, read = [row[:-1] for row in ids], [len(row) - 1 for row in ids]
    own = next_token_logits(engine.llm, before, read, engine.batch_tokens, "texts")
    if base is None:
        yield from ((i, logits, None) for i, logits in own)
        return
    others = next_token_logits(base.llm, before, read, engine.batch_tokens, "texts, base model")
    for (i, logits), (_, expected) in zip(own, others, strict=True):
        if logits.shape != expected.shape:
            raise ExplainedError(
                f"the model's vocabulary has {logits.shape[1]} tokens, the base model's {expected.shape[1]}, {UNLIKE}"
            )
        yield i, logits, expected


@torch.inference_mode()
def score_texts(
    engine: Engine, base: Engine | None, groups: Mapping[str, Mapping[str, list[dict]]], max_tokens: int
) -> pd.DataFrame:
    """Scores of all texts; each text is read alone, without a chat template or an instruction.

    It needs memory for both models, a batch of states of each, and six times [T, vocabulary] in float32 for one text.

    Args:
        base: the base model, as a separate object; None if the model is the base model, whose KL is 0.
        groups: rows with a field text, by group and subject.
        max_tokens: texts are cut after this many tokens.

    Returns:
        COLUMNS, one row per text: ``text`` is its number among the subject's texts, ``tokens`` the number of scored
        tokens (the first is not scored). A text of a single token has no row.

    Raises:
        ExplainedError: if a group has no text of two tokens, or the two models cannot be compared.
    """
    rows: list[dict] = []
    ids: list[list[int]] = []
    base_ids: list[list[int]] = []
    for group, subjects in groups.items():
        first = len(rows)
        for subject, texts in subjects.items():
            for number, row in enumerate(texts):
                tokens = text_example(engine.tokenizer, row["text"], max_tokens).ids
                if len(tokens) > 1:
                    rows.append({"group": group, "subject": subject, "text": number, "tokens": len(tokens) - 1})
                    ids.append(list(tokens))
                    if base is not None:
                        base_ids.append(list(text_example(base.tokenizer, row["text"], max_tokens).ids))
        if len(rows) == first:
            raise ExplainedError(f"text_scores.{group}: no text is longer than one token; name other texts")
    if base is not None:
        check_same_tokens(ids, base_ids)
    for i, own, expected in paired_logits(engine, base, ids):
        rows[i] |= score_text(own, expected, ids[i][1:])
    return pd.DataFrame(rows, columns=COLUMNS)
