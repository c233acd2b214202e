"""A check that the engines predict what the model's own forward pass predicts, run on a few tokens before any use."""

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel

from atu.common.errors import ExplainedError
from atu.common.runtime import unrepeatable_explained
from atu.engine.checks import OTHER
from atu.engine.examples import Example, collate, scored_logits
from atu.engine.logits import read_logits, refuse_nan
from atu.engine.models import hidden_states, layers_up_to
from atu.engine.plain import why_plain
from atu.engine.prefill import embeddings_of, prefilled_batches

# How far predictions may differ, relative to their standard deviation. Rounding alone is hundreds of times smaller in
# float32, and a few hundredths in 16 bits.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 1e-1}
SHARED, OWN, GROWN = 5, (3, 6), 3  # numbers of tokens: in the common prefix, after it, and then fed one by one


def apart(found: Tensor, expected: Tensor) -> Tensor:
    """Distance of predictions from the expected ones, both [n, vocabulary], as [n].

    It is the root mean square of the difference of log-probabilities, divided by their standard deviation.
    """
    found, expected = found.float().log_softmax(-1), expected.float().log_softmax(-1)
    told = expected.isfinite()
    difference = torch.where(told, found - expected, torch.where(found.isfinite(), torch.inf, 0.0))
    level = torch.where(told, expected, 0.0).sum(-1, keepdim=True) / told.sum(-1, keepdim=True)
    spread = torch.where(told, expected - level, 0.0).square().sum(-1)
    return (difference.square().sum(-1) / spread.clamp(min=1e-12)).sqrt()


def engine_logits(llm: PreTrainedModel, ids: list[list[int]]) -> Iterator[tuple[str, int, int, Tensor]]:
    """Yield (way, row, position, logits [1, vocabulary]) for everything that the engines do.

    This covers padded rows that share a prefix, a row that stands alone, tokens fed one by one, and the last token fed
    after rows were dropped. On the plain path, rows of one length share a batch.

    Args:
        ids: rows, whose last ``GROWN`` tokens are fed one by one.
    """
    starts, groups = [row[:-GROWN] for row in ids], ["shared"] * len(OWN) + ["alone"]
    first = "rows of one length" if why_plain(llm) else "a shared prefix"
    for batch, start in prefilled_batches(llm, starts, [1] * len(ids), 10**6, groups, GROWN):
        for step in range(GROWN):
            if step:
                start.feed(torch.tensor([[ids[i][len(starts[i]) + step - 1]] for i in batch], device=llm.device))
            for i, row in zip(batch, read_logits(llm, start.states[:, -1]), strict=True):
                yield first if step == 0 else "a growing cache", i, len(starts[i]) - 1 + step, row[None]
            if step == GROWN - 2 and len(batch) > 1:
                batch = batch[1:]
                start.select(torch.arange(1, len(batch) + 1, device=llm.device))


@torch.inference_mode()
def differences(llm: PreTrainedModel) -> dict[str, float]:
    """For each way in which jobs run the model, the distance of its predictions from its own plain forward pass."""
    size, count = embeddings_of(llm), SHARED + sum(OWN) + GROWN * len(OWN)
    tokens = [(7919 * i + 11) % size for i in range(1, count + 1)]
    prefix, behind = tokens[:SHARED], tokens[SHARED:]
    ids = [prefix + behind[: OWN[0] + GROWN], prefix + behind[OWN[0] + GROWN :]]
    ids.append(behind[: len(ids[0])])  # the last row is as long as the first, so on the plain path they share a batch
    plain, middle = [], (llm.config.num_hidden_layers + 1) // 2
    for tokens_of_row in ids:
        output = llm(torch.tensor([tokens_of_row], device=llm.device), use_cache=False, output_hidden_states=True)
        plain.append(refuse_nan(output.logits[0].float()))
    found: dict[str, list[Tensor]] = {}
    for way, number, position, logits in engine_logits(llm, ids):
        found.setdefault(way, []).append(apart(logits, plain[number][position : position + 1]))
    batch = collate([[Example(tuple(row), 1)] for row in ids], list(range(len(ids))), llm.device)
    found["right padding"] = [apart(scored_logits(llm, batch)[0], torch.cat([logits[:-1] for logits in plain]))]
    with layers_up_to(llm, middle) as decoder:
        row = torch.tensor([ids[-1]], device=llm.device)
        cut = hidden_states(decoder, row, torch.ones_like(row))[0].float()
    whole = output.hidden_states[middle][0].float()
    found[f"the first {middle} layers"] = [(cut - whole).norm(dim=-1) / whole.norm(dim=-1).clamp(min=1e-12)]
    # in 16 bits, some tokens may be routed to other experts, so the median over positions counts
    worst = Tensor.max if llm.dtype == torch.float32 else Tensor.median
    return {way: worst(torch.cat(rows)).item() for way, rows in found.items()}


def check_engine(llm: PreTrainedModel) -> None:
    """Compare the engines with the model's plain forward pass on a few tokens.

    It touches no random state. It costs about eight forward passes of some twenty tokens.

    Raises:
        ExplainedError: if the predictions differ by more than rounding, or the engines cannot run the model.
    """
    name = type(llm).__name__
    try:
        with unrepeatable_explained():
            found = differences(llm)
    except (ExplainedError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ExplainedError(f"the engines cannot run {name} ({type(error).__name__}: {reason}); {OTHER}") from error
    tolerance = TOLERANCE[llm.dtype]
    wrong = [f"{way} by {far:.2g}" for way, far in found.items() if not far <= tolerance]
    if wrong:
        raise ExplainedError(
            f"the engines and {name}'s own forward pass predict differently ({', '.join(wrong)}; rounding explains "
            f"{tolerance:g}): no number of theirs would be the model's; {OTHER}"
        )
