"""The likelihood engine: log-probabilities of given tokens, logits only where they are read."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from atu.batching import pad, sorted_batches
from atu.runtime import progress


@dataclass
class TokenScores:
    """Scores of the read tokens of one text, [T] each: log-probability, and mean and variance of the
    log-probability over the vocabulary under the model's own prediction at that position."""

    log_probs: Tensor
    mean: Tensor
    variance: Tensor


def common_prefix(rows: list[list[int]]) -> int:
    """Number of leading tokens that all rows share."""
    first, last = min(rows), max(rows)
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def next_token_logits(
    llm: PreTrainedModel,
    ids: list[list[int]],
    read: list[int],
    batch_size: int,
    title: str,
    groups: Sequence[str] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield (index, logits [n, vocabulary]) of the last ``read[index]`` predictions within each sequence.

    The LM head runs on those positions alone. Sequences of one of ``groups`` (None: all are one) share
    the KV cache of their common prefix (a few-shot header, say), which is run once.
    """
    head, decoder = llm.get_output_embeddings(), llm.get_decoder()
    members: dict[str, list[int]] = {}
    for i in range(len(ids)):
        members.setdefault(groups[i] if groups else "", []).append(i)
    batches = []
    for group in members.values():
        # what is read lies behind the prefix
        unread = min(len(ids[i]) - read[i] for i in group)
        prefix = min(common_prefix([ids[i] for i in group]), unread) if len(group) > 1 else 0
        lengths = [len(ids[i]) for i in group]
        batches += [(prefix, [group[i] for i in batch]) for batch in sorted_batches(lengths, batch_size)]
    cached: tuple[list[int], DynamicCache | None] = ([], None)
    for prefix, batch in progress(batches, title):
        shared = ids[batch[0]][:prefix]
        cache = None
        if prefix:
            if shared != cached[0]:
                start = torch.tensor([shared], device=llm.device)
                cached = (shared, decoder(input_ids=start, use_cache=True).past_key_values)
            cache = copy.deepcopy(cached[1])
            cache.batch_repeat_interleave(len(batch))
        input_ids, mask = pad([torch.tensor(ids[i][prefix:]) for i in batch])
        mask = torch.cat([torch.ones(len(batch), prefix, dtype=mask.dtype), mask], dim=1)
        states = decoder(
            input_ids=input_ids.to(llm.device),
            attention_mask=mask.to(llm.device),
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        for i, row in zip(batch, states, strict=True):
            end = len(ids[i]) - prefix
            yield i, head(row[end - read[i] : end]).float()


@torch.inference_mode()
def score_tokens(
    llm: PreTrainedModel,
    ids: list[list[int]],
    first: list[int],
    batch_size: int,
    title: str = "likelihood",
    groups: Sequence[str] | None = None,
) -> list[TokenScores]:
    """Score the tokens ``ids[i][first[i]:]`` of each sequence given all before them.

    Raises:
        ValueError: if ``first[i]`` leaves no token to score or no token to condition on.
    """
    for row, start in zip(ids, first, strict=True):
        if not 1 <= start < len(row):
            raise ValueError(f"cannot score tokens {start}.. of a text of {len(row)} tokens: it is too short")
    scores: list[TokenScores | None] = [None] * len(ids)
    read = [len(row) - start for row, start in zip(ids, first, strict=True)]
    # the prediction of the last token is never read, so it need not be an input
    for i, logits in next_token_logits(llm, [row[:-1] for row in ids], read, batch_size, title, groups):
        log_probs = logits.log_softmax(-1)
        probs = log_probs.exp()
        mean = (probs * log_probs).sum(-1)
        variance = (probs * log_probs.square()).sum(-1) - mean.square()
        tokens = torch.tensor(ids[i][first[i] :], device=logits.device)[:, None]
        scores[i] = TokenScores(log_probs.gather(-1, tokens)[:, 0].cpu(), mean.cpu(), variance.cpu())
    return scores


@torch.inference_mode()
def pick_token(
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    candidates: list[str],
    batch_size: int,
    title: str = "choices",
    groups: Sequence[str] | None = None,
) -> list[int]:
    """Index of the candidate whose (last) token the model finds likeliest next, for each prompt."""
    tokens = [tokenizer.encode(candidate, add_special_tokens=False)[-1] for candidate in candidates]
    ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    picked = [0] * len(prompts)
    for i, logits in next_token_logits(llm, ids, [1] * len(ids), batch_size, title, groups):
        picked[i] = int(logits[0, tokens].argmax())
    return picked
