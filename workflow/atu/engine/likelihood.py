"""The likelihood engine: log-probabilities of given tokens, logits only where they are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from atu.common.runtime import progress
from atu.engine.logits import read_logits, refuse_nan
from atu.engine.prefill import prefilled_batches


@dataclass
class TokenScores:
    """Scores of the read tokens of one text, [T] each: log-probability, and mean and variance of the
    log-probability over the vocabulary under the model's own prediction at that position."""

    log_probs: Tensor
    mean: Tensor
    variance: Tensor


def next_token_logits(
    llm: PreTrainedModel,
    ids: list[list[int]],
    read: list[int],
    batch_tokens: int,
    title: str,
    groups: Sequence[str] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield (index, logits [n, vocabulary]) of the last ``read[index]`` predictions within each sequence.

    The LM head runs on those positions alone.
    """
    with progress(None, title, total=len(ids)) as bar:
        for batch, prefilled in prefilled_batches(llm, ids, read, batch_tokens, groups):
            for i, states in zip(batch, prefilled.states, strict=True):
                yield i, refuse_nan(read_logits(llm, states[-read[i] :]))
            bar.update(len(batch))


@torch.inference_mode()
def score_tokens(
    llm: PreTrainedModel,
    ids: list[list[int]],
    first: list[int],
    batch_tokens: int,
    title: str = "likelihood",
    groups: Sequence[str] | None = None,
) -> list[TokenScores]:
    """Score the tokens ``ids[i][first[i]:]`` of each sequence given all before them.

    Args:
        batch_tokens: the most tokens of a batch, padding included.
        groups: sequences of one group share the cache of their common prefix (None: all are one).

    Raises:
        ValueError: if ``first[i]`` leaves no token to score or no token to condition on.
    """
    for row, start in zip(ids, first, strict=True):
        if not 1 <= start < len(row):
            raise ValueError(f"cannot score tokens {start}.. of a text of {len(row)} tokens: it is too short")
    scores: dict[int, TokenScores] = {}
    read = [len(row) - start for row, start in zip(ids, first, strict=True)]
    # the prediction of the last token is never read, so it need not be an input
    for i, logits in next_token_logits(llm, [row[:-1] for row in ids], read, batch_tokens, title, groups):
        log_probs = logits.log_softmax(-1)
        tokens = torch.tensor(ids[i][first[i] :], device=logits.device)[:, None]
        found = log_probs.gather(-1, tokens)[:, 0]
        log_probs.clamp_(min=torch.finfo(log_probs.dtype).min)  # 0 * -inf: what a model never says weighs nothing
        weighted = log_probs.exp().mul_(log_probs)  # in place: new memory a vocabulary wide is slow to come by
        mean = weighted.sum(-1)
        variance = weighted.mul_(log_probs).sum(-1) - mean.square()
        scores[i] = TokenScores(found.cpu(), mean.cpu(), variance.cpu())
    return [scores[i] for i in range(len(ids))]


@torch.inference_mode()
def pick_token(
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    candidates: list[str],
    batch_tokens: int,
    title: str = "choices",
    groups: Sequence[str] | None = None,
) -> list[int]:
    """Index of the candidate whose (last) token the model finds likeliest next, for each prompt."""
    tokens = [tokenizer.encode(candidate, add_special_tokens=False)[-1] for candidate in candidates]
    ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    picked = [0] * len(prompts)
    for i, logits in next_token_logits(llm, ids, [1] * len(ids), batch_tokens, title, groups):
        picked[i] = int(logits[0, tokens].argmax())
    return picked
