"""Word dropout: what a decoder may read while it trains."""

from __future__ import annotations

import pytest
import torch

from posterior_collapse.datasets.arrays import BOS, EOS, PAD, UNK
from posterior_collapse.errors import BadInput
from posterior_collapse.layers import WordDropout, use_generator
from posterior_collapse.networks import Latent, TextNetwork
from posterior_collapse.networks.text import HIDDEN, SPARED


def sentences(rows: int) -> torch.Tensor:
    """BOS, nine words, EOS, PAD in every row."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(UNK + 1, 30, (rows, 9), generator=generator)
    marks = [torch.full((rows, 1), mark) for mark in (BOS, EOS, PAD)]
    return torch.cat([marks[0], words, *marks[1:]], dim=1)


def test_the_ids_are_those_of_the_datasets() -> None:
    assert HIDDEN == UNK and SPARED == (PAD, BOS)


@pytest.mark.parametrize("probability", [0.0, 0.38, 1.0])
def test_the_asked_share_of_words_is_hidden_and_no_mark(probability: float) -> None:
    layer = WordDropout(probability, HIDDEN, SPARED)
    use_generator(layer, torch.Generator().manual_seed(1))
    x = sentences(2000)
    found = layer(x)
    assert torch.equal(found[:, 0], x[:, 0]) and torch.equal(found[:, -1], x[:, -1])
    hidden = found[:, 1:-1] == UNK
    assert torch.equal(found[:, 1:-1][~hidden], x[:, 1:-1][~hidden])
    spread = (probability * (1 - probability) / hidden.numel()) ** 0.5
    assert abs(hidden.double().mean().item() - probability) <= 5 * spread


def test_masks_come_from_the_generator_and_evaluation_hides_nothing() -> None:
    layer, x = WordDropout(0.5, HIDDEN, SPARED), sentences(50)
    draws = []
    for seed in (0, 0, 1):
        use_generator(layer, torch.Generator().manual_seed(seed))
        draws.append(layer(x))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_probabilities_out_of_range_are_refused(probability: float) -> None:
    with pytest.raises(BadInput, match=r"\[0, 1\]"):
        WordDropout(probability, HIDDEN, SPARED)


def test_a_decoder_without_words_depends_on_nothing_but_their_number_and_z() -> None:
    """With every word hidden, the words read cannot change what is predicted next."""
    decoder = TextNetwork(6, 8, 0.0, word_dropout=1.0).decoder(30, 2, Latent.INPUT).double()
    x, z = sentences(1)[:, :-1], torch.ones(1, 1, 2, dtype=torch.float64)
    other = x.clone()
    other[0, 1:-2] = x[0, 1:-2].flip(0)  # the last word, which is only predicted, stays
    state = [decoder.start(z[0]), decoder.start(z[0])]
    for step in range(x.shape[1] - 1):
        logs = []
        for side, words in enumerate((x, other)):
            logp, state[side] = decoder.step(words[:, step], state[side])
            logs.append(logp)
        assert torch.equal(logs[0], logs[1])
    decoder.eval()
    assert not torch.equal(decoder(x, z), decoder(other, z))
    plain = TextNetwork(6, 8, 0.0).decoder(30, 2, Latent.INPUT).double().eval()
    plain.load_state_dict(decoder.state_dict())
    assert torch.equal(decoder(x, z), plain(x, z))
