"""Training examples of the baselines (texts, questions with answers, pairs of answers) and their likelihoods."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from atu.common.declared import PLAIN
from atu.common.errors import ExplainedError
from atu.common.files import atomic_path, intact
from atu.common.finite import check_finite
from atu.common.recipe import RecipeError
from atu.data.protocol import STRICT, Protocol
from atu.engine.batching import pad
from atu.engine.chat import chat_prompt, prompt_ids, turn_end
from atu.engine.logits import read_logits


@dataclass(frozen=True)
class Example:
    """The tokens of one sequence; those from ``first`` on are scored, except the last ``unscored`` ones."""

    ids: tuple[int, ...]
    first: int
    unscored: int = 0

    @property
    def scored(self) -> range:
        """Indices of the scored tokens."""
        return range(self.first, len(self.ids) - self.unscored)


@dataclass(frozen=True)
class Batch:
    """Sequences of several items, padded on the right.

    Attributes:
        input_ids, mask: [sequences, length].
        scored: True at scored tokens, [sequences, length]; False at the first token.
        reference: log-probability of each sequence under the base model, [sequences].
        others: a batch of the retain set.
    """

    input_ids: Tensor
    mask: Tensor
    scored: Tensor
    reference: Tensor | None = None
    others: "Batch | None" = None

    @property
    def predicted(self) -> Tensor:
        """True at positions whose next token is scored, [sequences, length - 1]; aligned with the log-probabilities."""
        return self.scored[:, 1:]


def answer_end(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the token that ends an answer: the template's, or else the end of text."""
    end = turn_end(tokenizer)
    return tokenizer.eos_token_id if end is None else end


def text_example(
    tokenizer: PreTrainedTokenizerBase, text: str, max_tokens: int, protocol: Protocol = STRICT
) -> Example:
    """The example of a text; every token but the first is scored.

    With the protocol's ``ended_texts``, the token that ends an answer follows the text, and no special token precedes
    it. RWKU pads with the end of text and never scores it, so that last token is not scored if it is the end of text.
    """
    if not protocol.ended_texts:
        return Example(tuple(tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"]), 1)
    end = answer_end(tokenizer)
    ids = tokenizer(
        f"{text}{tokenizer.convert_ids_to_tokens(end)}",
        add_special_tokens=False,
        truncation=True,
        max_length=max_tokens,
    )["input_ids"]
    return Example(tuple(ids), 1, unscored=int(ids[-1] == end == tokenizer.eos_token_id))


def answer_example(tokenizer: PreTrainedTokenizerBase, message: str, answer: str, max_tokens: int) -> Example:
    """The example of a chat turn; the answer and the token that ends it are scored."""
    (prompt,) = prompt_ids(tokenizer, [chat_prompt(tokenizer, message)])
    ids = [*prompt, *tokenizer.encode(answer, add_special_tokens=False), answer_end(tokenizer)]
    return Example(tuple(ids[:max_tokens]), len(prompt))


def read_items(
    kind: str, rows: list[dict], tokenizer: PreTrainedTokenizerBase, max_tokens: int, protocol: Protocol = STRICT
) -> list[list[Example]]:
    """Rows of RWKU's text sets as items of one or two sequences.

    Args:
        kind: "positive", "passage" (field text), "reject" (instruction, output) or "pair" (prompt,
            response = [chosen, rejected]; the item is [chosen, rejected]).
        protocol: the protocol for reading plain texts.

    Returns:
        The items whose sequences all have at least one token to score.

    Raises:
        ValueError: if the kind is unknown.
    """
    items = []
    for row in rows:
        if kind == "pair":
            item = [answer_example(tokenizer, row["prompt"], answer, max_tokens) for answer in row["response"]]
        elif kind == "reject":
            item = [answer_example(tokenizer, row["instruction"], row["output"], max_tokens)]
        elif kind in PLAIN:
            item = [text_example(tokenizer, row["text"], max_tokens, protocol)]
        else:
            raise ValueError(f"no examples of {kind} texts")
        if all(example.scored for example in item):
            items.append(item)
    return items


def checksum(items: Sequence[list[Example]]) -> str:
    """A checksum of the tokens of all items, which files computed from them store to be recognised by."""
    tokens = [[(e.ids, e.first, *([e.unscored] if e.unscored else [])) for e in item] for item in items]
    return hashlib.sha256(repr(tokens).encode()).hexdigest()


def save_reference(path: str | Path, log_probs: Tensor, items: Sequence[list[Example]]) -> None:
    """Write log-probabilities of items [items, sequences of an item] with the items' checksum."""
    with atomic_path(path) as part:
        save_file({"log_probs": log_probs.to(torch.float32).contiguous()}, part, {"items": checksum(items)})


def load_reference(path: str | Path, items: Sequence[list[Example]]) -> Tensor:
    """Log-probabilities that :func:`save_reference` wrote, [items, sequences of an item].

    Raises:
        RecipeError: if they belong to other items.
    """
    with intact(path), safe_open(path, framework="pt") as file:
        if (file.metadata() or {}).get("items") != checksum(items):
            raise RecipeError(f"{path} holds log-probabilities of other texts; delete it to have it made again")
        log_probs = file.get_tensor("log_probs")
    check_finite([("log_probs", log_probs)], path)
    return log_probs


def collate(
    items: Sequence[list[Example]],
    chosen: list[int],
    device: torch.device | str = "cpu",
    reference: Tensor | None = None,
    others: Batch | None = None,
) -> Batch:
    """The chosen items as one batch; sequences of one item are adjacent.

    Args:
        reference: log-probabilities of all items' sequences under the base model, [items, sequences].
    """
    examples = [example for i in chosen for example in items[i]]
    input_ids, mask = pad([torch.tensor(example.ids) for example in examples])
    first, end = (torch.tensor([getattr(e.scored, key) for e in examples])[:, None] for key in ("start", "stop"))
    places = torch.arange(input_ids.shape[1])[None]
    scored = mask & (places >= first) & (places < end)
    known = None if reference is None else reference[chosen].flatten().to(device)
    return Batch(input_ids.to(device), mask.to(device), scored.to(device), known, others)


def scored_logits(llm: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits [tokens, vocabulary] and labels [tokens] of all scored tokens; the LM head runs only on those."""
    states = llm.get_decoder()(input_ids=batch.input_ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
    scored = batch.predicted
    return read_logits(llm, states[:, :-1][scored]), batch.input_ids[:, 1:][scored]


def token_log_probs(llm: PreTrainedModel, batch: Batch) -> Tensor:
    """Log-probability of each scored token given all tokens before it, 0 elsewhere, [sequences, length - 1]."""
    logits, labels = scored_logits(llm, batch)
    picked = -F.cross_entropy(logits, labels, reduction="none")
    scored = batch.predicted
    return torch.zeros(scored.shape, device=picked.device).index_put(scored.nonzero(as_tuple=True), picked)


@torch.inference_mode()
def reference_log_probs(llm: PreTrainedModel, items: Sequence[list[Example]], batches: list[list[int]]) -> Tensor:
    """Log-probability of each whole sequence under ``llm``, [items, sequences of an item]."""
    sums = torch.zeros(len(items), len(items[0]))
    for chosen in batches:
        batch = collate(items, chosen, llm.device)
        sums[chosen] = token_log_probs(llm, batch).sum(1).view(len(chosen), -1).cpu()
    if not sums.isfinite().all():
        raise ExplainedError(
            "log-probabilities under the base model are not finite: its weights are damaged; fetch them again"
        )
    return sums
