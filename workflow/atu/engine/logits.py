"""Logits from hidden states, computed by the model's own code, since some classes change logits after their head."""

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import MoeModelOutputWithPast

from atu.common.errors import ExplainedError


class Given(MoeModelOutputWithPast):
    """A decoder's output with only its states; everything else that a head asks for is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


def read_logits(llm: PreTrainedModel, states: Tensor) -> Tensor:
    """Logits [n, vocabulary], in float32, of the decoder's last hidden states [n, hidden].

    The model's own forward runs with a decoder that returns ``states``. So soft caps, scales and whatever else a class
    applies after its head are included, the head runs only on these positions, and gradients flow.
    """
    decoder = llm.get_decoder()
    own = vars(decoder).get("forward")  # an instance attribute if something has wrapped it
    decoder.forward = lambda *args, **kwargs: Given(last_hidden_state=states[None])
    try:
        return llm(inputs_embeds=states[None], use_cache=False).logits[0].float()
    finally:
        if own is None:
            del decoder.forward
        else:
            decoder.forward = own


def refuse_nan(logits: Tensor) -> Tensor:
    """Return the logits [n, vocabulary] unchanged, or refuse them.

    -inf is allowed, since some models mask parts of their vocabulary.

    Raises:
        ExplainedError: if a row has NaN or +inf, or only -inf.
    """
    if not torch.isfinite(logits.amax(-1)).all():
        raise ExplainedError(
            "the model's logits are NaN or infinite: its weights are damaged or its training has diverged; nothing of "
            "it is scored. Train it again with a lower learning rate, or fetch its weights again"
        )
    return logits
