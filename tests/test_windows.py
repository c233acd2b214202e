"""Windows, batches and hidden states, against what can be worked out by hand."""

import numpy as np
import pytest
import torch

from atu.alignment.encoder import embed_target
from atu.alignment.hidden import HiddenStates, write_hidden_states
from atu.alignment.windows import WindowedCorpus, build_corpus, token_ends, window_starts
from atu.engine.batching import pad, random_batches, sorted_batches
from atu.engine.models import layers_up_to


def windows_by_loop(llm_ends, encoder_ends, k):
    """The definition, spelled out."""
    starts = []
    for end in llm_ends:
        later = [j for j, encoder_end in enumerate(encoder_ends) if encoder_end > end]
        starts.append(later[0] if len(later) >= k else -1)
    return starts


def test_window_starts_by_hand():
    # "ab cd ef": LLM tokens end at 2, 5, 8; encoder tokens at 1, 2, 4, 5, 7, 8
    starts = window_starts(np.array([2, 5, 8]), np.array([1, 2, 4, 5, 7, 8]), k=2)
    assert starts.tolist() == [2, 4, -1]
    assert window_starts(np.array([2, 5, 8]), np.array([1, 2, 4, 5, 7, 8]), k=4).tolist() == [2, -1, -1]


def test_window_starts_equal_the_loop():
    rng = np.random.default_rng(0)
    for _ in range(20):
        llm_ends = np.sort(rng.integers(0, 60, size=25))
        encoder_ends = np.sort(rng.integers(0, 60, size=30))
        assert window_starts(llm_ends, encoder_ends, 3).tolist() == windows_by_loop(llm_ends, encoder_ends, 3)


def test_windows_of_a_non_ascii_text(llm, encoder):
    text = "Beyoncé wrote a song in Rome"
    ids, ends = token_ends(llm[1], text)
    assert llm[1].decode(ids) == text
    assert ends[-1] == len(text)  # characters, not bytes
    corpus = build_corpus([text], llm[1], encoder, k=2, max_tokens=64)
    encoder_ids, encoder_ends = token_ends(encoder.tokenizer, text, add_special_tokens=False)
    expected = windows_by_loop(ends, encoder_ends, 2)
    # each token's embedding is that of the two bare encoder tokens behind it
    for start, row in zip(expected, corpus.windows.tolist(), strict=True):
        assert (start < 0) == (row < 0)
        if start >= 0:
            window = torch.tensor([encoder_ids[start : start + 2]])
            alone = encoder({"input_ids": window, "attention_mask": torch.ones_like(window)})["sentence_embedding"][0]
            torch.testing.assert_close(corpus.embeddings[row], alone.float(), atol=1e-5, rtol=1e-5)


def test_each_distinct_window_is_embedded_once(llm, encoder):
    texts = ["Ada was born in Rome by the sea"] * 3
    one, three = (build_corpus(texts[:n], llm[1], encoder, k=2, max_tokens=64) for n in (1, 3))
    assert len(one.embeddings) == len(three.embeddings)
    assert three.windows.tolist() == one.windows.tolist() * 3


def test_odd_texts(llm, encoder):
    """An empty and a one-word text have tokens without windows; a long text is cut."""
    corpus = build_corpus(["", "Ada", "the sea was red " * 50], llm[1], encoder, k=3, max_tokens=16)
    assert corpus.lengths[0] == 0
    assert (corpus.windows[corpus.text(1)] == -1).all()
    assert corpus.lengths[2] == 16
    assert (corpus.windows[corpus.text(2)] >= 0).all()  # the windows look beyond the cut
    with pytest.raises(ValueError, match="long enough for a window of 3"):
        build_corpus(["", "Ada"], llm[1], encoder, k=3, max_tokens=16)


def test_corpus_survives_the_disk(llm, encoder, tmp_path):
    corpus = build_corpus(["Ada was born in Rome", "Bo lived"], llm[1], encoder, k=2, max_tokens=64)
    corpus.save(tmp_path / "corpus.safetensors")
    loaded = WindowedCorpus.load(tmp_path / "corpus.safetensors")
    for name, value in vars(corpus).items():
        assert torch.equal(value, getattr(loaded, name))


def test_name_is_embedded_as_a_sentence(encoder):
    sentence = encoder.encode("Beyoncé", convert_to_tensor=True)
    assert torch.equal(embed_target(encoder, ["Beyoncé"]), sentence.cpu())


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_cut_model_gives_the_hidden_states_of_the_whole(llm, layer):
    model = llm[0]
    input_ids = torch.randint(5, 50, (2, 7), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = model(input_ids, output_hidden_states=True).hidden_states[layer]
        with layers_up_to(model, layer) as decoder:
            assert len(decoder.layers) == layer
            cut = decoder(input_ids).last_hidden_state
    torch.testing.assert_close(cut, whole)
    assert len(model.get_decoder().layers) == 3  # restored


def test_cut_beyond_the_model_is_refused(llm):
    with (
        pytest.raises(ValueError, match="hook layer 4 does not exist: the model has layers 1 to 3"),
        layers_up_to(llm[0], 4),
    ):
        pass


def test_hidden_states_on_disk(llm, encoder, tmp_path):
    """Shards hold what the model computes for each text alone, whatever the batch."""
    texts = ["Ada was born in Rome", "Bo", "Cy wrote a song by the sea and lived in Paris", "Di painted", "red stone"]
    corpus = build_corpus(texts, llm[1], encoder, k=1, max_tokens=64)
    write_hidden_states(llm[0], corpus, 2, tmp_path / "states", batch_size=3, shard_tokens=20)
    states = HiddenStates(tmp_path / "states", corpus)
    assert len(states.slices) > 1
    assert states.tokens == len(corpus.input_ids)
    for i in range(len(corpus)):
        input_ids = corpus.input_ids[corpus.text(i)].long()[None]
        with torch.inference_mode():
            alone = llm[0](input_ids, output_hidden_states=True).hidden_states[2][0]
        torch.testing.assert_close(states[corpus.text(i)], alone, atol=1e-5, rtol=1e-4)


def test_batches():
    lengths = [3, 9, 1, 7, 5]
    assert sorted_batches(lengths, 2) == [[1, 3], [4, 0], [2]]
    batches = list(random_batches(lengths, 2, steps=50, seed=0))
    assert all(len(batch) == 2 for batch in batches)
    assert {i for batch in batches for i in batch} == set(range(5))
    assert batches == list(random_batches(lengths, 2, steps=50, seed=0))
    assert batches != list(random_batches(lengths, 2, steps=50, seed=1))
    assert len(next(random_batches(lengths, 8, steps=1, seed=0))) == 5  # fewer texts than a batch


def test_pad():
    rows, mask = pad([torch.tensor([1, 2]), torch.tensor([3])])
    assert rows.tolist() == [[1, 2], [3, 0]]
    assert mask.tolist() == [[True, True], [True, False]]
