"""Log-probabilities of given tokens; logits are computed only where they are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from atu.common.runtime import progress
from atu.engine.logits import read_logits, refuse_nan
from atu.engine.prefill import prefilled_batches


@dataclass
class TokenScores:
    """Scores of the scored tokens of one text, [T] each.

    These are the token's log-probability, and the mean and variance of the log-probability over the vocabulary under
    the model's own prediction at that position.
    """

    log_probs: Tensor
    mean: Tensor
    variance: Tensor


def next_token_logits(
    llm: PreTrainedModel,
    ids: list[list[int]],
    read: list[int],
    batch_tokens: int | None,
    title: str,
    groups: Sequence[str] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield (index, logits [n, vocabulary]) of the last ``read[index]`` positions of each sequence.

    The LM head runs only on those positions.
    """
    with progress(None, title, total=len(ids)) as bar:
        for batch, prefilled in prefilled_batches(llm, ids, read, batch_tokens, groups):
            for i, states in zip(batch, prefilled.states, strict=True):
                yield i, refuse_nan(read_logits(llm, states[-read[i] :]))
            bar.update(len(batch))


def token_scores(logits: Tensor, tokens: list[int]) -> TokenScores:
    """Scores of tokens, [T], from the logits that predict each of them, [T, vocabulary]."""
    log_probs = logits.log_softmax(-1)
    found = log_probs.gather(-1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
    log_probs.clamp_(min=torch.finfo(log_probs.dtype).min)  # avoids 0 * -inf for tokens of probability 0
    weighted = log_probs.exp().mul_(log_probs)  # in place, since allocating tensors this wide is slow
    mean = weighted.sum(-1)
    variance = weighted.mul_(log_probs).sum(-1) - mean.square()
    return TokenScores(found.cpu(), mean.cpu(), variance.cpu())
