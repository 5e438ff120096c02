"""The PixelCNN decoder: what a pixel may see, exact likelihoods, sampling with kept activations."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from posterior_collapse import methods
from posterior_collapse.errors import BadInput
from posterior_collapse.estimators import importance_weighted_nll, posterior_moments_1d
from posterior_collapse.networks import VAE, Latent, PixelDecoder, PixelNetwork, build_vae

SMALL = PixelNetwork(maps=6, kernels=(5, 3, 3), planes=2, encoder_maps=(4, 4), features=8)


def stirred(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter and running average drawn anew, in float64, in evaluation mode.

    With first values some norms' shifts are 0, which could hide that something is seen.
    """
    generator = torch.Generator().manual_seed(seed)
    model.double().eval()
    with torch.no_grad():
        for name, values in model.state_dict().items():
            if values.is_floating_point():
                drawn = torch.randn(values.shape, generator=generator, dtype=values.dtype)
                values.copy_(0.5 + drawn.square() if "var" in name else 0.4 * drawn)
    return model


def small_decoder(side: int, dim: int, latent: Latent = Latent.INPUT) -> PixelDecoder:
    return stirred(SMALL.decoder(side * side, dim, latent))


def drawn(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("latent", [Latent.INPUT, Latent.SKIP, Latent.NONE])
def test_a_pixel_depends_on_no_later_pixel(latent) -> None:
    """And on every earlier one within reach: the gradients of all logits by all pixels."""
    decoder = small_decoder(5, 0 if latent is Latent.NONE else 3, latent)
    x = torch.rand(1, 25, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = drawn(1, 0 if latent is Latent.NONE else 3)
    seen = torch.autograd.functional.jacobian(lambda image: decoder.logits(image, z)[0], x)[:, 0]
    assert seen.shape == (25, 25)
    assert (torch.triu(seen) == 0).all()
    assert (seen[1:].diagonal() != 0).sum() >= 20  # the pixel just before, but for a new line's
    assert (seen[5:, 0] != 0).any() and (seen[24, 12:24] != 0).all()


def test_every_pixel_sees_z() -> None:
    decoder, x = small_decoder(4, 3), torch.zeros(1, 16, dtype=torch.float64)
    z = drawn(1, 3)
    seen = torch.autograd.functional.jacobian(lambda code: decoder.logits(x, code)[0], z)[:, 0]
    assert (seen != 0).all()


def test_closed_weights_get_no_gradient_and_do_not_matter() -> None:
    """Whatever a masked weight is: it changes nothing, and the clip and Adam never see it."""
    decoder = small_decoder(5, 3)
    x, z = torch.ones(2, 25, dtype=torch.float64), drawn(3, 2, 3)
    decoder(x, z).sum().backward()
    before = decoder(x, z)
    layers = decoder.masked_layers()
    assert [layer.weight.shape[2:] for layer in layers] == [(3, 5), (2, 3), (2, 3)]
    for layer in layers:
        closed = (layer.mask == 0).expand_as(layer.weight)
        assert closed.any() and (layer.weight.grad[closed] == 0).all()
        assert (layer.weight.grad[~closed] != 0).double().mean() > 0.9
        with torch.no_grad():
            layer.weight[closed] = 1e3
    assert torch.equal(decoder(x, z), before)
    first = decoder.first.mask[0]
    assert first[0].tolist() == [[1] * 5, [1] * 5, [1, 1, 0, 0, 0]]  # the image
    assert (first[1:] == 1).all()  # planes of z
    assert layers[1].mask[0, 0].tolist() == [[1, 1, 1], [1, 1, 0]]


def all_images() -> Tensor:
    """Every binary image of 3 x 3 pixels, (512, 9)."""
    return torch.tensor([*itertools.product((0.0, 1.0), repeat=9)], dtype=torch.float64)


@pytest.mark.parametrize("latent", [Latent.INPUT, Latent.SKIP])
def test_likelihoods_of_all_images_sum_to_one(latent) -> None:
    decoder = small_decoder(3, 2, latent)
    for z in 3.0 * drawn(4, 2):
        total = decoder(all_images(), z.expand(1, 512, 2)).exp().sum()
        assert total.item() == pytest.approx(1.0, abs=1e-12)


def tiny_vae() -> VAE:
    """Images of 3 x 3 pixels with a scalar latent variable."""
    network = PixelNetwork(maps=4, kernels=(3, 3), planes=2, encoder_maps=(3,), features=4)
    method = methods.get("vae")
    return stirred(build_vae(network, 9, 1, method.posterior, method.prior, method.latent), 3)


def test_nll_of_a_small_vae_by_quadrature() -> None:
    """A plain sum over a grid of z, the adaptive one, and importance samples agree."""
    model, x = tiny_vae(), all_images()[::9]
    z = torch.linspace(-9.0, 9.0, 901, dtype=torch.float64)
    log_prior = Normal(0.0, 1.0).log_prob(z) + torch.log(z[1] - z[0])
    with torch.no_grad():
        log_joint = model.log_likelihood(x, z[:, None, None].expand(-1, len(x), 1))
        exact = torch.logsumexp(log_joint + log_prior[:, None], dim=0)
        assert log_joint.exp().std(dim=0).max() > 1e-4  # z matters

        def joint(values: Tensor) -> Tensor:
            prior = model.prior.log_prob(values[..., None])
            return model.log_likelihood(x, values[..., None]) + prior

        adaptive = posterior_moments_1d(joint, len(x), tolerance=1e-6, dtype=torch.float64)
    assert (adaptive.log_evidence - exact).abs().max() < 1e-5
    few = torch.arange(0, len(x), 9)
    weighted = importance_weighted_nll(model, [x[few]], 1000, torch.Generator().manual_seed(0))
    assert ((weighted.value + exact[few]).abs() < 5 * weighted.stderr + 1e-3).all()


@pytest.mark.parametrize("latent", [Latent.INPUT, Latent.SKIP, Latent.NONE])
def test_sampling_with_kept_activations_is_naive_sampling(latent) -> None:
    decoder = small_decoder(6, 0 if latent is Latent.NONE else 3, latent)
    z = drawn(7, 0 if latent is Latent.NONE else 3)
    uniform = torch.rand(7, 36, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    naive = torch.zeros_like(uniform)
    with torch.no_grad():
        for place in range(36):
            chance = torch.sigmoid(decoder.logits(naive, z)[:, place])
            naive[:, place] = (uniform[:, place] < chance).double()
    assert torch.equal(decoder.sample(z, uniform), naive)
    assert 0.1 < naive.mean() < 0.9


def test_samples_have_the_likelihood_that_the_decoder_says() -> None:
    """Frequencies of 3 x 3 images against their exact probabilities, one z: chi-squared."""
    decoder = small_decoder(3, 2)
    z, count = drawn(1, 2), 20000
    drawn_images = decoder.pictures(z.expand(count, 2), torch.Generator().manual_seed(5))
    places = (drawn_images @ (2.0 ** torch.arange(8, -1, -1, dtype=torch.float64))).long()
    expected = count * decoder(all_images(), z.expand(1, 512, 2)).exp()[0].detach()
    found = torch.bincount(places, minlength=512).double()
    often = expected > 5
    rest = torch.stack([found[~often].sum() - expected[~often].sum()])
    apart = torch.cat([(found - expected)[often] / expected[often].sqrt(), rest * 0])
    assert apart.square().sum() < often.sum() + 5 * (2 * often.sum()) ** 0.5


def test_norms_see_the_batch_in_training_only() -> None:
    decoder = small_decoder(4, 2)
    x, z = (drawn(6, 16) > 0).double(), drawn(1, 6, 2)
    assert torch.allclose(decoder(x, z)[:, :3], decoder(x[:3], z[:, :3]))
    decoder.train()
    assert not torch.allclose(decoder(x, z)[:, :3], decoder(x[:3], z[:, :3]))
    with pytest.raises(BadInput, match="evaluation mode"):
        decoder.sample(z[0], torch.zeros(6, 16, dtype=torch.float64))


def test_pieces_change_nothing() -> None:
    """Without gradients many images are decoded piece by piece."""
    decoder = small_decoder(3, 2)
    x, z = all_images()[::3], drawn(2, 171, 2)
    whole = decoder(x, z)
    with torch.no_grad():
        assert torch.allclose(decoder(x, z), whole.detach(), rtol=0, atol=1e-12)


def test_a_batch_of_one_trains() -> None:
    model = build_vae(SMALL, 64, 2, *_slots("vae")).train()
    SMALL.initialise(model, torch.Generator().manual_seed(0))
    x = (torch.rand(1, 64, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    loss = -model.log_likelihood(x, model.posterior(x).mean[None]).sum()
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(p.grad).all() for p in model.parameters())


def _slots(name: str):
    method = methods.get(name)
    return method.posterior, method.prior, method.latent


@pytest.mark.parametrize("name", ["vae", "lstm-lm", "skip-vae"])
def test_no_tensor_is_left_on_the_cpu(name) -> None:
    """On the meta device every operation fails that meets a tensor of the CPU."""
    model = build_vae(SMALL, 16, 3, *_slots(name)).to("meta")
    x = torch.empty(4, 16, device="meta")
    z = model.posterior(x).mean[None]
    out = model.log_likelihood(x, z.expand(2, *z.shape[1:]))
    assert out.device.type == "meta" and out.shape == (2, 4)
    with torch.no_grad():
        decoder = model.eval().decoder
        assert decoder.sample(z[0], torch.empty(4, 16, device="meta")).device.type == "meta"


def test_first_values_are_those_of_the_public_code() -> None:
    network = PixelNetwork(maps=32, kernels=(7, 5), encoder_maps=(16, 16), features=64)
    model = build_vae(network, 64, 8, *_slots("bn-vae"))
    before = {name: values.clone() for name, values in model.state_dict().items()}
    network.initialise(model, torch.Generator().manual_seed(0))
    found = dict(model.named_parameters())
    first = found["decoder.first.weight"]
    assert first.std().item() == pytest.approx((2 / (49 * 32)) ** 0.5, rel=0.05)
    planes = found["decoder.planes.weight"]
    assert (
        planes.abs().max() <= (6 / (8 + 256)) ** 0.5 and (found["decoder.planes.bias"] == 0).all()
    )
    assert torch.equal(found["decoder.first_norm.weight"], torch.ones(32))
    # A head with a batch norm starts as in PyTorch; the encoder before it does not.
    head = found["posterior_head.linear.weight"]
    assert head.abs().max() <= 1 / 8 and not torch.equal(
        head, before["posterior_head.linear.weight"]
    )
    deep = found["encoder.layers.0.main.3.weight"]
    assert deep.std().item() == pytest.approx((2 / (9 * 16)) ** 0.5, rel=0.05)
    again = build_vae(network, 64, 8, *_slots("bn-vae"))
    network.initialise(again, torch.Generator().manual_seed(0))
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_the_paper_has_thirteen_masked_layers() -> None:
    decoder = PixelNetwork().decoder(784, 32, Latent.INPUT)
    reaches = [layer.reach for layer in decoder.masked_layers()]
    assert reaches == [3] * 5 + [2] * 4 + [1] * 4
    assert decoder.planes.out_features == 4 * 784 and PixelNetwork().features == 512


@pytest.mark.parametrize(
    ("constants", "wrong"),
    [
        ({"kernels": (4,)}, "kernels"),
        ({"kernels": ()}, "kernels"),
        ({"maps": 5}, "maps"),
        ({"planes": 0}, "planes"),
        ({"encoder_maps": ()}, "encoder"),
    ],
)
def test_bad_constants_are_refused(constants, wrong) -> None:
    with pytest.raises(BadInput, match=wrong):
        PixelNetwork(**constants)


def test_images_are_square() -> None:
    with pytest.raises(BadInput, match="square"):
        PixelNetwork().decoder(10, 2, Latent.INPUT)
