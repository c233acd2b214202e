"""Align-then-Unlearn (Spohn et al. 2025, arXiv 2506.13181).

Align: a predictor E learns to predict the sentence embedding of the next k tokens from the hidden states of a frozen
LLM. Unlearn: E is frozen, and the LLM is trained until the similarity of the predictions to the embedding of the
target's name is at most tau. The two steps alternate while tau falls.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from atu.alignment.hidden import HiddenStates, write_hidden_states
from atu.alignment.predictor import EmbeddingPredictor
from atu.alignment.windows import WindowedCorpus
from atu.common.errors import ExplainedError
from atu.engine.batching import pad, random_batches
from atu.engine.models import chosen_layers, hidden_states, layers_up_to, train_alone
from atu.engine.sharded import shard
from atu.methods import Aligned
from atu.training.loop import train
from atu.training.shares import Share

if TYPE_CHECKING:  # slow to import, and alignment reads stored hidden states
    from transformers import PreTrainedModel


def align_loss(predicted: Tensor, embeddings: Tensor, mask: Tensor) -> Tensor:
    """Alignment loss: mean of 1 - cos(e_hat_t, e_t) over positions with a full window.

    Args:
        predicted, embeddings: [batch, length, d].
        mask: True where the window is full, [batch, length].
    """
    distance = 1 - F.cosine_similarity(predicted, embeddings, dim=-1)
    return (distance * mask).sum() / mask.sum().clamp(min=1)


def unlearn_loss(predicted: Tensor, target: Tensor, tau: float, mask: Tensor) -> Tensor:
    """Unlearning loss: mean of max(0, cos(e_hat_t, e_target) - tau) over real positions.

    Args:
        predicted: [batch, length, d].
        target: embedding of the name of the target, [d].
        tau: the similarity down to which the predictions are pushed.
        mask: True where the token is not padding, [batch, length].
    """
    excess = F.relu(F.cosine_similarity(predicted, target.expand_as(predicted), dim=-1) - tau)
    return (excess * mask).sum() / mask.sum().clamp(min=1)


def retain_loss(states: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Retain loss: drift of hidden states from the base model's, relative to their size.

    mean_t |h_t - h0_t|^2 / |h0_t|^2 over real positions. It is relative at each position because the first token's
    state is often a hundred times larger than the others. The paper does not use it (weight 0). It needs no second
    model, since the alignment has already computed h0.

    Args:
        states, reference: [batch, length, hidden].
        mask: True where the token is not padding, [batch, length].
    """
    drift = (states.float() - reference).square().sum(-1) / reference.square().sum(-1).clamp(min=1e-6)
    return (drift * mask).sum() / mask.sum().clamp(min=1)


@dataclass
class AlignmentText:
    """Texts of one subject, with their windows and hidden states, which alignment reads."""

    corpus: WindowedCorpus
    states: HiddenStates

    @classmethod
    def load(cls, windows: str | Path, states: str | Path) -> "AlignmentText":
        """Load windows from a file, and the hidden states of the same texts from a directory."""
        corpus = WindowedCorpus.load(windows)
        return cls(corpus, HiddenStates(states, corpus))


class AlignmentData:
    """Texts of several subjects as one list; each batch is read from the memory maps on demand."""

    def __init__(self, parts: list[AlignmentText]):
        self.rows = [(part, part.corpus.text(i)) for part in parts for i in range(len(part.corpus))]
        self.lengths = [row.stop - row.start for _, row in self.rows]

    def input_ids(self, batch: list[int]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, [batch, length] each."""
        return pad([part.corpus.input_ids[row].long() for part, row in map(self.rows.__getitem__, batch)])

    def states(self, batch: list[int]) -> tuple[Tensor, Tensor]:
        """Hidden states [batch, length, hidden] and mask [batch, length]."""
        return pad([part.states[row] for part, row in map(self.rows.__getitem__, batch)])

    def targets(self, batch: list[int]) -> tuple[Tensor, Tensor]:
        """Window embeddings [batch, length, d] and a mask of the full windows [batch, length]."""
        chosen = [(part.corpus, part.corpus.windows[row].long()) for part, row in map(self.rows.__getitem__, batch)]
        embeddings, _ = pad([corpus.embeddings[rows.clamp(min=0)] for corpus, rows in chosen])
        windows, _ = pad([rows for _, rows in chosen], value=-1)
        return embeddings, windows >= 0


def align(
    accelerator: Accelerator,
    predictor: EmbeddingPredictor,
    data: AlignmentData,
    *,
    batch_size: int,
    steps: int,
    seed: int,
    title: str = "align",
    **optimisation,
) -> list[dict[str, float]]:
    """Train the predictor on stored hidden states and return the log of steps; the LLM is not touched."""
    predictor.train()

    def loss_terms(batch: list[int]) -> dict[str, Tensor]:
        states, _ = data.states(batch)
        embeddings, full = data.targets(batch)
        predicted = predictor(states.to(accelerator.device))
        return {"loss": align_loss(predicted.float(), embeddings.to(predicted.device), full.to(predicted.device))}

    batches = random_batches(data.lengths, batch_size, steps, seed)
    log = train(accelerator, predictor.parameters(), batches, loss_terms, steps=steps, title=title, **optimisation)
    predictor.eval()
    return log


def drawn(lengths: list[list[int]], batch_size: int, steps: int, seed: int) -> Iterator[tuple[int, list[int]]]:
    """Yield the batches of an unlearning stage, (person, texts of that person).

    Each batch draws one person; everybody is drawn once before anybody is drawn again.

    Args:
        lengths: tokens of each person's texts.
    """
    if len(lengths) == 1:
        yield from ((0, batch) for batch in random_batches(lengths[0], batch_size, steps, seed))
        return
    draws = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**31, (len(lengths),), generator=draws).tolist()
    texts = [random_batches(of_person, batch_size, steps, own) for of_person, own in zip(lengths, seeds, strict=True)]
    people: list[int] = []
    for _ in range(steps):
        people = people or torch.randperm(len(lengths), generator=draws).tolist()
        person = people.pop()
        yield person, next(texts[person])


@dataclass
class Mentions:
    """The part of a person's texts that unlearning reads if it keeps to the person's mentions.

    Attributes:
        near: tokens that are near a mention, [N].
        texts: the texts that have such tokens.
        states: hidden states of the *base model* on all texts, which the other tokens should keep; None if they are
            free.
    """

    near: Tensor
    texts: list[int]
    states: AlignmentData | None = None

    @classmethod
    def of(cls, near: Tensor, corpus: WindowedCorpus, states: AlignmentData | None = None) -> "Mentions":
        """Find the texts that mention the person.

        Raises:
            ExplainedError: if none does.
        """
        if not (texts := [i for i in range(len(corpus)) if near[corpus.text(i)].any()]):
            raise ExplainedError("no text mentions the person by name; set unlearn.near_mentions to 0")
        return cls(near, texts, states)


def stays_below(log: list[dict[str, float]], tau: float, patience: int) -> bool:
    """Whether the similarity has been at most tau in each of the last ``patience`` steps; False if patience is 0."""
    last = log[-patience:] if patience else []
    return len(last) == patience > 0 and all(row["similarity"] <= tau for row in last)


def unlearn(
    accelerator: Accelerator,
    llm: "PreTrainedModel",
    predictor: EmbeddingPredictor,
    corpora: list[WindowedCorpus],
    targets: Tensor,
    *,
    layer: int,
    tau: float,
    batch_size: int,
    steps: int,
    seed: int,
    retain: AlignmentData | None = None,
    retain_weight: float = 0.0,
    released_padding: bool = False,
    layers: range | None = None,
    patience: int = 0,
    mentions: list[Mentions] | None = None,
    elsewhere_weight: float = 0.0,
    title: str = "unlearn",
    **optimisation,
) -> list[dict[str, float]]:
    """Train the LLM's first ``layer`` layers, or adapters in them, against the frozen predictor.

    If all predictions of a batch have a similarity of at most tau, its loss is zero and there is no gradient. With
    several processes, all of them call this, with the model on the host; the model is sharded here, and the processes
    share each batch.

    Args:
        corpora: texts about each person to forget; a batch comes from one person.
        targets: embeddings of their names, [people, d].
        retain: the retain set with the hidden states of the *base model*; read if ``retain_weight`` > 0.
        released_padding: average over padded positions too, with unmasked attention, as the released code does
            (defects 2 and 3).
        layers: the only layers that train, counted from 0, all below the hook; None for all layers below the hook and
            the embedding.
        patience: the stage ends once the similarity has been at most tau for this many steps in a row; 0 runs all
            steps.
        mentions: for each person, the tokens over which loss and similarity are means; None for all tokens.
        elsewhere_weight: the weight of the drift of hidden states at the other tokens of the same texts; if above 0,
            all ``mentions`` have states.

    Returns:
        One row per step: loss, unlearn_loss, retain_loss, elsewhere_loss, similarity (mean cosine to the target).
    """
    predictor.eval().requires_grad_(False)
    device = accelerator.device
    targets = targets.to(device)
    seeds = torch.Generator().manual_seed(seed)
    forget_seed, retain_seed = torch.randint(2**31, (2,), generator=seeds).tolist()
    held = retain if retain_weight > 0 else None
    chosen = [part.texts for part in mentions] if mentions else [list(range(len(corpus.lengths))) for corpus in corpora]
    lengths = [[corpus.lengths[i] for i in own] for corpus, own in zip(corpora, chosen, strict=True)]
    batches = drawn(lengths, batch_size, steps, forget_seed)
    others = repeat(None) if held is None else random_batches(held.lengths, batch_size, steps, retain_seed)

    share = Share.of(accelerator)
    if share.ranks > 1:
        shard(llm, device)

    with layers_up_to(llm, layer) as decoder:
        decoder.train()
        trained = train_alone(llm, [decoder] if layers is None else chosen_layers(llm, layers))
        if not trained:
            raise ExplainedError(f"{title} trains no weight: no adapter lies in the layers that train")

        def loss_terms(batch: tuple[tuple[int, list[int]], list[int] | None]) -> dict[str, Tensor]:
            person = batch[0][0]
            texts = [chosen[person][i] for i in batch[0][1]]
            corpus, target = corpora[person], targets[person]
            input_ids, mask = pad([corpus.input_ids[corpus.text(i)].long() for i in texts])
            if released_padding:
                mask = torch.ones_like(mask)
            meant = pad([mentions[person].near[corpus.text(i)] for i in texts])[0] if mentions else mask
            elsewhere = mask & ~meant
            counts, free = meant.sum(1).tolist(), elsewhere.sum(1).tolist()
            own = share.part(range(len(texts)))
            if share.ranks > 1:  # keep the padding of the whole batch, since padding may count
                input_ids, mask, meant, elsewhere = (each[own] for each in (input_ids, mask, meant, elsewhere))
            input_ids, mask, meant = input_ids.to(device), mask.to(device), meant.to(device)
            states = hidden_states(decoder, input_ids, mask)
            predicted = predictor(states).float()
            terms = {"unlearn_loss": share.weighed(unlearn_loss(predicted, target, tau, meant), counts)}
            with torch.no_grad():
                terms["similarity"] = share.weighed(unlearn_loss(predicted, target, -1.0, meant) - 1, counts)
            terms["loss"] = terms["unlearn_loss"]
            if mentions and (base := mentions[person].states) and elsewhere_weight > 0:
                reference = base.states([texts[i] for i in own])[0]
                reference = F.pad(reference, (0, 0, 0, mask.shape[1] - reference.shape[1]))
                drift = retain_loss(states, reference.to(device), elsewhere.to(device))
                terms["elsewhere_loss"] = share.weighed(drift, free if sum(free) else None)
                terms["loss"] = terms["loss"] + elsewhere_weight * terms["elsewhere_loss"]
            if held is not None and batch[1] is not None:
                held_back = share.part(batch[1])
                reference, mask = (x.to(device) for x in held.states(held_back))
                input_ids = held.input_ids(held_back)[0].to(device)
                drift = retain_loss(hidden_states(decoder, input_ids, mask), reference, mask)
                terms["retain_loss"] = share.weighed(drift, [held.lengths[i] for i in batch[1]])
                terms["loss"] = terms["loss"] + retain_weight * terms["retain_loss"]
            if not share.sums({"loss": terms["loss"]})["loss"]:
                terms["loss"] = terms["loss"].detach()  # no term can be negative, so all are zero
            return terms

        try:
            return train(
                accelerator,
                trained,
                zip(batches, others, strict=False),
                loss_terms,
                steps=steps,
                title=title,
                enough=lambda log: stays_below(log, tau, patience),
                **optimisation,
            )
        finally:
            predictor.requires_grad_(True)
            llm.eval()


def realign(
    accelerator: Accelerator,
    llm: "PreTrainedModel",
    predictor: EmbeddingPredictor,
    corpora: list[WindowedCorpus],
    *,
    layer: int,
    precision: str,
    scratch: Path,
    steps_between: int,
    steps: int,
    **options,
) -> list[dict[str, float]]:
    """Align the predictor again, on a changed model, for ``steps_between`` steps.

    Args:
        corpora: texts of all subjects on which the predictor was aligned.
        layer: the layer whose hidden states the predictor reads, 1 for the first.
        precision: precision of the stored states, "fp32" or "bf16".
        scratch: a folder for the stored states.
        steps: ignored; accepted because the settings of the first alignment are passed on whole.
        options: passed on to :func:`align`.

    Returns:
        The log of steps.
    """
    parts = []
    for i, corpus in enumerate(corpora):
        folder = scratch / str(i)
        with accelerator.autocast():
            write_hidden_states(llm, corpus, layer, folder, precision)
        parts.append(AlignmentText(corpus, HiddenStates(folder, corpus)))
    log = align(accelerator, predictor, AlignmentData(parts), steps=steps_between, **options)
    for part in parts:
        part.states.close()
    return log


class AlignThenUnlearn(Aligned):
    name = "ATU"
    published = "ATU"
    # the base class takes any settings, so a type checker objects to these signatures
    align = staticmethod(align)  # type: ignore[assignment]
    realign = staticmethod(realign)  # type: ignore[assignment]
    unlearn = staticmethod(unlearn)  # type: ignore[assignment]


METHOD = AlignThenUnlearn
