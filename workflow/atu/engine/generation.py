"""Generation of greedy answers and sampled texts for one batch; rows that have ended are dropped."""

import re
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from atu.engine.logits import read_logits, refuse_nan
from atu.engine.prefill import Prefilled
from atu.engine.sampling import Sampling


@lru_cache(maxsize=2)  # this decodes the whole vocabulary: once per tokenizer, not per mark and probe set
def token_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text of each token by its id."""
    return tokenizer.batch_decode([[i] for i in range(len(tokenizer))])


def tokens_with(tokenizer: PreTrainedTokenizerBase, mark: str) -> list[int]:
    """Ids of all tokens whose text contains a mark, such as a line break."""
    return [i for i, text in enumerate(token_texts(tokenizer)) if mark in text]


def pick_next(logits: Tensor, sampling: Sampling | None, texts: list[int], position: int) -> Tensor:
    """The next token of each row, [batch]: the likeliest, or a sampled one.

    Args:
        logits: [batch, vocabulary].
        texts: the number of each row's text.
        position: how many tokens the texts have so far.
    """
    return logits.argmax(-1) if sampling is None else sampling.draw(logits, texts, position)


def continue_batch(
    llm: PreTrainedModel,
    start: Prefilled,
    stops: Tensor,
    max_new_tokens: int,
    sampling: Sampling | None,
    texts: list[int],
    ends_text: Callable[[Tensor], Tensor] | None = None,
    ended_rows: Callable[[int], object] = lambda count: None,
) -> Tensor:
    """New token ids of each row of a batch, [batch, max_new_tokens]; -1 after a row's last token.

    Rows that have ended are dropped, with their keys and values, once they are an eighth of the batch. Dropping fewer
    would not pay, since it copies the remaining rows.

    Args:
        stops: tokens that end a row.
        sampling: how tokens are drawn; None takes the likeliest.
        texts: the number of each row's text, which determines the draws, [batch].
        ends_text: returns which rows of token ids are complete even without a stop token (None: none is).
        ended_rows: called with the number of rows that have just ended.
    """
    count = len(start.states)
    written = torch.full((count, max_new_tokens), -1, device=llm.device)
    rows = torch.arange(count, device=llm.device)
    going = torch.ones_like(rows, dtype=torch.bool)
    for step in range(max_new_tokens):
        numbers = [texts[row] for row in rows.tolist()]
        token = pick_next(refuse_nan(read_logits(llm, start.states[:, -1])), sampling, numbers, step)
        written[rows[going], step] = token[going]
        ends = going & torch.isin(token, stops)
        if ends_text is not None:
            ends |= going & ends_text(written[rows, : step + 1])
        ended_rows(int(ends.sum()))
        going &= ~ends
        if not going.any() or step == max_new_tokens - 1:
            break
        if (~going).sum() >= len(rows) / 8:
            kept = going.nonzero()[:, 0]
            rows, token, going = rows[kept], token[kept], going[kept]
            start.select(kept)
        start.feed(token[:, None])
    ended_rows(int(going.sum()))
    return written


def text_of(tokenizer: PreTrainedTokenizerBase, tokens: Tensor) -> str:
    """The text of one answer's tokens, [T], without special tokens."""
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    assert isinstance(text, str)  # a batch of answers would give a list
    return text


def text_behind(tokenizer: PreTrainedTokenizerBase, prompt: list[int], tokens: list[int]) -> str:
    """The answer: the text of prompt and answer minus the text of the prompt, both without special tokens.

    Decoded by itself, an answer may lose the blank that it begins with.
    """
    whole, before = (text_of(tokenizer, torch.tensor(ids)) for ids in (prompt + tokens, prompt))
    return whole[len(before) :]


def ending_by(
    sentence: re.Pattern, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """A function that, given token ids [rows, T], returns which rows end with a period and match ``sentence``."""
    periods = torch.tensor(tokens_with(tokenizer, "."), device=device)

    def ends_text(written: Tensor) -> Tensor:
        ends = torch.isin(written[:, -1], periods)
        for row in ends.nonzero()[:, 0].tolist():
            ends[row] = sentence.search(text_of(tokenizer, written[row])) is not None
        return ends

    return ends_text
