"""The engine: a language model, its tokenizer and a token budget; it generates, scores and weighs candidates."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from atu.common.runtime import progress
from atu.engine.chat import prompt_ids, stop_tokens
from atu.engine.generation import continue_batch, ending_by, text_behind, text_of, tokens_with
from atu.engine.likelihood import TokenScores, next_token_logits, token_scores
from atu.engine.models import load_llm
from atu.engine.prefill import prefilled_batches
from atu.engine.sampling import Sampling


@dataclass(frozen=True)
class Engine:
    """A language model to ask.

    In all methods, prompts of the same group in ``groups`` (None: all are one group) share the cache of their common
    prefix if the model's layers allow it (:func:`atu.engine.plain.why_plain`); ``title`` labels the progress bar.

    Attributes:
        batch_tokens: the most tokens in a batch, including padding and new tokens. The shape of a batch affects the
            last digits of its numbers. None runs each prompt alone, so that no other prompt affects it.
        special_tokens: whether the tokenizer adds its special tokens to prompts, although a template has its own.
    """

    llm: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    batch_tokens: int | None
    special_tokens: bool = False

    @classmethod
    def load(
        cls,
        directory: str | Path,
        batch_tokens: int | None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        template_options: dict | None = None,
        base: str | Path | None = None,
    ) -> "Engine":
        """The engine of the model in a directory; see :func:`load_llm` for the other arguments and the errors."""
        return cls(*load_llm(directory, device, dtype, template_options, base), batch_tokens)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text."""
        return prompt_ids(self.tokenizer, texts, self.special_tokens)

    @torch.inference_mode()
    def generate(
        self,
        prompts: list[str],
        *,
        max_new_tokens: int,
        stop_at_newline: bool = False,
        stop_sentence: re.Pattern | None = None,
        stops: list[int] | None = None,
        sampling: Sampling | None = None,
        groups: Sequence[str] | None = None,
        title: str = "generate",
    ) -> list[str]:
        """Continue each prompt with the likeliest tokens, or with sampled ones.

        An error in any batch is raised, never scored as an empty answer.

        Args:
            stop_sentence: a text ends with the first period that makes this pattern match.
            stops: tokens that end a text and are not part of it, in place of those that end a turn. The answer is then
                what the whole text adds to the text of its prompt (:func:`atu.engine.generation.text_behind`).
            sampling: how tokens are drawn; the draws depend on the prompt's index in this call. None takes the
                likeliest token.

        Returns:
            The continuations in the order of the prompts, cut at the first line break if ``stop_at_newline``.
        """
        llm, tokenizer = self.llm, self.tokenizer
        ending = stop_tokens(llm, tokenizer) if stops is None else stops
        ending = ending + (tokens_with(tokenizer, "\n") if stop_at_newline else [])
        ends_row = torch.tensor(ending, dtype=torch.long, device=llm.device)
        ends = ending_by(stop_sentence, tokenizer, llm.device) if stop_sentence else None

        ids = self.encode(prompts)
        answers = [""] * len(prompts)
        with progress(None, title, total=len(prompts)) as bar:
            for batch, start in prefilled_batches(llm, ids, [1] * len(ids), self.batch_tokens, groups, max_new_tokens):
                written = continue_batch(llm, start, ends_row, max_new_tokens, sampling, batch, ends, bar.update)
                for i, row in zip(batch, written, strict=True):
                    tokens = row[row >= 0]
                    if stops is None:
                        text = text_of(tokenizer, tokens)
                    else:
                        text = text_behind(
                            tokenizer, ids[i], [token for token in tokens.tolist() if token not in stops]
                        )
                    answers[i] = text.split("\n")[0] if stop_at_newline else text
        return answers

    @torch.inference_mode()
    def score_tokens(
        self,
        ids: list[list[int]],
        first: list[int],
        *,
        groups: Sequence[str] | None = None,
        title: str = "likelihood",
    ) -> list[TokenScores]:
        """Score the tokens ``ids[i][first[i]:]`` of each sequence, each given all tokens before it.

        Raises:
            ValueError: if ``first[i]`` leaves no token to score or no token to condition on.
        """
        for row, start in zip(ids, first, strict=True):
            if not 1 <= start < len(row):
                raise ValueError(f"cannot score tokens {start}.. of a text of {len(row)} tokens: it is too short")
        scores: dict[int, TokenScores] = {}
        read = [len(row) - start for row, start in zip(ids, first, strict=True)]
        before = [row[:-1] for row in ids]  # nothing after the last token is scored, so it need not be an input
        for i, logits in next_token_logits(self.llm, before, read, self.batch_tokens, title, groups):
            scores[i] = token_scores(logits, ids[i][first[i] :])
        return [scores[i] for i in range(len(ids))]

    @torch.inference_mode()
    def weigh_next(
        self,
        prompts: list[str],
        candidates: list[str],
        *,
        groups: Sequence[str] | None = None,
        title: str = "choices",
    ) -> list[Tensor]:
        """Log-probability of each candidate's (last) token right after each prompt, [candidates] per prompt."""
        tokens = [self.tokenizer.encode(candidate, add_special_tokens=False)[-1] for candidate in candidates]
        ids = self.encode(prompts)
        found: dict[int, Tensor] = {}
        for i, logits in next_token_logits(self.llm, ids, [1] * len(ids), self.batch_tokens, title, groups):
            found[i] = logits[0].float().log_softmax(-1)[tokens].cpu()
        return [found[i] for i in range(len(prompts))]
