"""The model of a run, before it is trained and after."""

from __future__ import annotations

import torch

from posterior_collapse.networks import VAE, build_vae
from posterior_collapse.runs.spec import Spec, load_data
from posterior_collapse.runs.store import Run


def build_model(spec: Spec) -> VAE:
    """The model of a run with its first parameters, on the CPU."""
    setup, method = spec.setup, spec.choices
    # Layers draw first values from the global random state, which is not ours to move on. What a
    # slot's own module draws there is kept, so it must depend on the seed alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        model = build_vae(
            setup.network,
            load_data(setup).size,
            setup.latent_dim,
            method.posterior,
            method.prior,
            method.latent,
        )
    setup.network.initialise(model, torch.Generator().manual_seed(spec.seed))
    return model


def trained_model(run: Run) -> VAE:
    """The model of a finished run with its best parameters, in evaluation mode, on the CPU."""
    model = build_model(run.spec)
    model.load_state_dict(run.weights())
    return model.eval()
