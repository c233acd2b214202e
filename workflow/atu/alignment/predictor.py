"""The embedding predictor E, which maps hidden states to the embedding of the next k tokens."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from atu.common.files import read_json, read_tensors, write_json
from atu.common.recipe import RecipeError


class EmbeddingPredictor(nn.Module):
    """A linear map, a causal transformer and a second linear map (paper section 3.1).

    Args:
        input_size: size of the LLM's hidden states.
        output_size: size of the sentence embeddings.
        width, layers, heads: sizes of the transformer; its feed-forward size is 4 * width.
        dropout: applied during alignment only.
        normalize_input: layer-normalise the hidden states first. Not in the paper, but models whose hidden states have
            a few huge entries hardly align without it.
        released_attention: reproduce the released code, whose layers also attend to *all* positions, including future
            ones (defect 1); False keeps attention causal.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        width: int = 768,
        layers: int = 6,
        heads: int = 8,
        dropout: float = 0.1,
        normalize_input: bool = False,
        released_attention: bool = False,
    ):
        super().__init__()
        self.settings = {
            "input_size": input_size,
            "output_size": output_size,
            "width": width,
            "layers": layers,
            "heads": heads,
            "dropout": dropout,
            "normalize_input": normalize_input,
            "released_attention": released_attention,
        }
        self.texts: list[str] = []  # checksums of the texts on which it was aligned
        self.norm = nn.LayerNorm(input_size) if normalize_input else nn.Identity()
        self.input = nn.Linear(input_size, width)
        if released_attention:
            decoder = nn.TransformerDecoderLayer(width, heads, 4 * width, dropout, batch_first=True)
            self.transformer: nn.Module = nn.TransformerDecoder(decoder, layers)
        else:
            layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, batch_first=True)
            self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.output = nn.Linear(width, output_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Predict embeddings [batch, length, output] from hidden states [batch, length, input].

        Texts are padded on the right, so with a causal mask no real position sees padding.
        """
        x = self.input(self.norm(hidden_states))
        causal = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device, dtype=x.dtype)
        if self.settings["released_attention"]:
            x = self.transformer(x, memory=x, tgt_mask=causal, tgt_is_causal=True)
        else:
            x = self.transformer(x, mask=causal, is_causal=True)
        return self.output(x)

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.contiguous() for name, value in self.state_dict().items()}, directory / "predictor.safetensors"
        )
        write_json(directory / "predictor.json", self.settings | {"texts": self.texts})

    @classmethod
    def load(cls, directory: str | Path, texts: list[str], device: torch.device | str = "cpu") -> "EmbeddingPredictor":
        """Load a predictor that was aligned on these texts.

        Args:
            texts: checksums of the texts of each subject.

        Raises:
            RecipeError: if it was aligned on other texts.
            DamagedError: if a file is cut.
        """
        settings = read_json(Path(directory) / "predictor.json", directory)
        aligned_on = settings.pop("texts", None)
        if aligned_on != texts:
            raise RecipeError(
                f"{directory} was aligned on other texts than those that are read now; delete it to have it made again"
            )
        predictor = cls(**settings)
        predictor.texts = texts
        predictor.load_state_dict(read_tensors(Path(directory) / "predictor.safetensors", directory))
        return predictor.to(device)
