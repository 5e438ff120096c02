"""A reader's own model behind the three names that the estimators call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.utils.data import DataLoader, Dataset, IterableDataset

from posterior_collapse import gaussian
from posterior_collapse.errors import BadInput, NotFinite
from posterior_collapse.posteriors import DiagonalNormal, Flowed, gaussian_code

Encode = Callable[[Any], Any]

# The names that public code uses for the parts of a posterior; pythae, scvi-tools and diffusers
# are among them.
_POSTERIORS = ("posterior", "qz", "latent_dist", "q_z_x", "q")
_MEANS = ("mean", "mu", "loc", "z_mean", "embedding", "qz_m", "qzm")
_LOGVARS = ("logvar", "log_var", "log_variance", "log_covariance", "z_log_var", "logvariance")
_VARIANCES = ("variance", "var", "qz_v", "qzv")
_STDS = ("std", "stddev", "scale", "sigma")
_INPUTS = ("x", "data", "X", "inputs", "input", "image", "images", "pixel_values", "input_ids")
_LARGEST_LOGVAR = 700.0  # exp of more does not fit into float64
_EXAMPLES_PER_BATCH = 256


# --- arrays ---------------------------------------------------------------------------------------


def _floats(name: str, values: Any) -> Tensor:
    """Numbers of any kind as a float64 tensor on the CPU."""
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        if array.dtype.kind not in "fiu":
            raise BadInput(
                f"{name} must hold numbers, given {array.dtype} ({type(values).__name__})"
            )
        values = torch.as_tensor(array.astype(np.float64))
    if values.is_complex() or values.dtype == torch.bool:
        raise BadInput(f"{name} must hold real numbers, given {values.dtype}")
    values = values.detach().cpu().double()
    return values[:, None] if values.dim() == 1 else values


def wide_pair(mean: Any, logvar: Any) -> tuple[Tensor, Tensor]:
    """Means and log-variances (N, D) in float64 on the CPU; (N,) is one dimension.

    Raises:
        BadInput: shapes, numbers that are not finite, fewer than two points, or log-variances that
            can't be natural logarithms.
    """
    if mean is None or logvar is None:
        raise BadInput("mean and logvar go together; a known variance v has logvar = log(v)")
    mean, logvar = _floats("mean", mean), _floats("logvar", logvar)
    gaussian.require_pair(mean, logvar)
    if (logvar == -torch.inf).any():
        raise NotFinite(
            "logvar holds -inf: a posterior of variance 0 has an infinite KL, and the model is a "
            "plain autoencoder; clamp the variance, say at 1e-12, to measure the rest"
        )
    gaussian.require_finite(mean=mean, logvar=logvar)
    if len(mean) < 2:
        raise BadInput("a diagnosis compares posteriors, so it needs at least 2 examples, given 1")
    if logvar.abs().max() > _LARGEST_LOGVAR:
        raise BadInput(
            f"logvar is the natural logarithm of the variance, given {logvar.min():.4g} to "
            f"{logvar.max():.4g}"
        )
    return mean, logvar


# --- what an encoder returns ----------------------------------------------------------------------


def code_of(output: Any) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of what an encoder, or a whole model, returned.

    Read are a diagonal Gaussian of torch.distributions; a mapping or an object with the usual
    names (``mu``, ``log_var``, ``qz``, ``embedding``, ``log_covariance``, ...); the pair (mean,
    logvar); and a longer tuple that ends with it, as (reconstruction, mean, logvar) does.

    Raises:
        BadInput: none of these, or a tuple in which several parts could be the mean.
    """
    if isinstance(output, Distribution):
        return _of_distribution(output)
    fields = _fields(output)
    if fields is not None:
        return _of_fields(fields, type(output).__name__)
    if isinstance(output, tuple | list):
        return _of_tuple(list(output))
    raise BadInput(
        f"the encoder returned {_shape(output)}, in which there is no mean with a log-variance; "
        "give encode=lambda x: (mean, logvar)"
    )


def _of_distribution(q: Distribution) -> tuple[Tensor, Tensor]:
    normal = q.base_dist if isinstance(q, Independent) else q
    if isinstance(normal, Normal) and normal.loc.dim() > 1:
        return normal.loc, 2.0 * torch.log(normal.scale)
    code = None if isinstance(q, Flowed) else gaussian_code(q)
    if code is None:
        raise BadInput(
            f"a diagnosis needs diagonal Gaussian posteriors, given {type(q).__name__} with batch "
            f"shape {tuple(q.batch_shape)} and event shape {tuple(q.event_shape)}; "
            "posterior_collapse.evaluate measures other ones"
        )
    return code


def _fields(output: Any) -> Mapping[str, Any] | None:
    """Named parts of an output; None for what is a tensor or a plain tuple."""
    if isinstance(output, Mapping):
        return output
    if isinstance(output, Tensor | tuple | list | np.ndarray) and not hasattr(output, "_fields"):
        return None
    names = (*_POSTERIORS, *_MEANS, *_LOGVARS, *_VARIANCES, *_STDS)
    return {name: getattr(output, name) for name in names if hasattr(output, name)}


def _of_fields(fields: Mapping[str, Any], kind: str) -> tuple[Tensor, Tensor]:
    def first(names: Iterable[str]) -> Any:
        return next((fields[name] for name in names if fields.get(name) is not None), None)

    inner = first(_POSTERIORS)
    if inner is not None and not isinstance(inner, Tensor):
        return code_of(inner)
    mean, logvar, variance, std = map(first, (_MEANS, _LOGVARS, _VARIANCES, _STDS))
    if logvar is None and variance is not None:
        logvar = torch.log(torch.as_tensor(variance))
    if logvar is None and std is not None:
        logvar = 2.0 * torch.log(torch.as_tensor(std))
    if mean is None or logvar is None:
        raise BadInput(
            f"the encoder returned a {kind} with {', '.join(map(str, fields)) or 'no known names'};"
            f" needed are a mean ({', '.join(_MEANS[:4])}, ...) and a log-variance "
            f"({', '.join(_LOGVARS[:3])}, ...); give encode=lambda x: (mean, logvar)"
        )
    return torch.as_tensor(mean), torch.as_tensor(logvar)


def _of_tuple(parts: list[Any]) -> tuple[Tensor, Tensor]:
    for part in parts:
        if isinstance(part, Distribution | Mapping) or (
            isinstance(part, tuple | list) and len(part) == 2
        ):
            return code_of(part)
    tensors = [torch.as_tensor(p) for p in parts if isinstance(p, Tensor | np.ndarray)]
    shapes = [tuple(t.shape) for t in tensors]
    alike = len(tensors) > 1 and shapes[-1] == shapes[-2]
    alike = alike and (len(parts) == 2 or len(shapes[-1]) in (1, 2))  # images come in threes too
    if not alike or shapes.count(shapes[-1]) != 2:
        raise BadInput(
            f"the encoder returned parts of shapes {shapes}; which of them are mean and logvar "
            "can't be seen; give encode=lambda x: (mean, logvar)"
        )
    return tensors[-2], tensors[-1]


def _shape(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"one array of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


# --- the prior ------------------------------------------------------------------------------------


class _Elsewhere(Distribution):
    """A prior of another dtype or device, asked from the CPU in float64."""

    arg_constraints: dict[str, Any] = {}
    has_rsample = False

    def __init__(self, prior: Distribution, like: Tensor) -> None:
        super().__init__(torch.Size(), prior.event_shape, validate_args=False)
        self.prior, self._like = prior, like

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(z), nats, in float64 on the CPU."""
        density: Tensor = self.prior.log_prob(value.to(self._like))
        return density.cpu().double()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of the prior, in float64 on the CPU."""
        drawn: Tensor = self.prior.sample(torch.Size(sample_shape))
        return drawn.cpu().double()


def as_prior(prior: Any, dimensions: int) -> Distribution:
    """A prior with event shape (D,) that takes float64 on the CPU; None is N(0, I).

    Raises:
        BadInput: no distribution, or one over another number of dimensions.
    """
    if prior is None:
        return DiagonalNormal(*torch.zeros(2, dimensions, dtype=torch.float64))
    if isinstance(prior, Distribution) and not prior.event_shape:
        prior = (
            Independent(prior.expand((dimensions,)), 1)
            if prior.batch_shape in ((), (1,), (dimensions,))
            else prior
        )
    if not isinstance(prior, Distribution) or tuple(prior.event_shape) != (dimensions,):
        shape = f" over shape {tuple(prior.event_shape)}" if isinstance(prior, Distribution) else ""
        raise BadInput(
            f"the prior must be a torch distribution over the {dimensions} dimensions of z, given "
            f"{type(prior).__name__}{shape}"
        )
    code = gaussian_code(prior)
    if code is not None:
        return DiagonalNormal(*(part.detach().cpu().double() for part in code))
    return _Elsewhere(prior, prior.sample())


# --- batches and models ---------------------------------------------------------------------------


def split(batches: Any) -> Iterable[Any]:
    """Batches of what a reader calls data: an iterable of batches, a data set, or one array."""
    if isinstance(batches, np.ndarray):
        batches = torch.as_tensor(batches)
    if isinstance(batches, Tensor):
        if batches.dim() < 1 or not len(batches):
            raise BadInput(f"batches is empty: one tensor of shape {tuple(batches.shape)}")
        return batches.split(_EXAMPLES_PER_BATCH)
    if isinstance(batches, Dataset) and not isinstance(batches, IterableDataset):
        return DataLoader(batches, batch_size=_EXAMPLES_PER_BATCH)
    if isinstance(batches, str | bytes | Mapping) or not isinstance(batches, Iterable):
        raise BadInput(
            "batches must be a DataLoader, a list or another iterable of batches, or one tensor of "
            f"examples, given {type(batches).__name__}"
        )
    return batches


def _is_numbers(batch: list[Any]) -> bool:
    """Whether a list is an array written out, and no collection of tensors."""
    while isinstance(batch, list) and batch:
        batch = batch[0]
    return isinstance(batch, int | float)


class Adapted:
    """A reader's model, or functions in place of its methods; posteriors are float64 on the CPU.

    Args:
        model: with ``posterior``, ``encode`` or ``encoder``, or called itself; may be None where
            ``encode`` is given.
        encode: a batch to what :func:`code_of` reads; None takes that of the model.
        log_likelihood: (x, z) with z (B, D) to log p(x|z), nats, (B,); None takes the model's
            ``log_likelihood``, which maps z (S, B, D) to (S, B).
        prior: see :func:`as_prior`; None takes the model's ``prior`` where it is a distribution.
    """

    def __init__(
        self, model: Any, encode: Encode | None, log_likelihood: Any = None, prior: Any = None
    ) -> None:
        model = _unwrapped(model)
        self._encode = encode or _encoder(model)
        self._place = _place(model)
        self._single = log_likelihood
        self._many = getattr(model, "log_likelihood", None)
        own = getattr(model, "prior", None)
        self.prior_given = prior if prior is not None else own
        self.prior_ignored = prior is None and not isinstance(own, Distribution | None)
        if self.prior_ignored:
            self.prior_given = None
        self.prior: Distribution
        self._latent: torch.Size  # of one code

    @property
    def decodes(self) -> bool:
        """Whether log p(x|z) is known."""
        return callable(self._single) or callable(self._many)

    def encodings(self, batches: Any) -> Iterator[tuple[Any, DiagonalNormal]]:
        """Every batch as the model takes it, with its posterior.

        Raises:
            BadInput: the model can't read a batch, or what it returned.
        """
        for batch in split(batches):
            x, (mean, logvar) = self._read(batch)
            if mean.dim() < 2:
                raise BadInput(
                    "an encoder gives means of shape (B, D), one row for each example, given "
                    f"{tuple(mean.shape)} for a batch that is {_shape(batch)}"
                )
            self._latent = mean.shape[1:]
            q = _posterior(mean, logvar)
            if not hasattr(self, "prior"):
                self.prior = as_prior(self.prior_given, q.mean.shape[1])
            yield x, q

    def posterior(self, x: Any) -> DiagonalNormal:
        """q(z|x) of what :meth:`encodings` gave."""
        return _posterior(*code_of(self._encode(x)))

    def _read(self, batch: Any) -> tuple[Any, tuple[Tensor, Tensor]]:
        """The part of a batch that the model reads, and the posterior: all of it, else its x."""
        failure: Exception | None = None
        for x in self._candidates(batch):
            try:
                output = self._encode(x)
            except Exception as error:
                failure = error
                continue
            return x, code_of(output)
        raise BadInput(
            f"the model can't read a batch that is {_shape(batch)} "
            f"({type(failure).__name__}: {failure})"
        ) from failure

    def _candidates(self, batch: Any) -> Iterator[Any]:
        batch = self._moved(batch)
        yield batch
        if isinstance(batch, tuple | list) and batch:
            yield batch[0]
        elif isinstance(batch, Mapping):
            yield from (batch[name] for name in _INPUTS if name in batch)

    def _moved(self, batch: Any) -> Any:
        """Tensors on the model's device, floating-point ones in its dtype."""
        if isinstance(batch, np.ndarray) or (isinstance(batch, list) and _is_numbers(batch)):
            batch = torch.as_tensor(batch)
        if isinstance(batch, Tensor) and self._place is not None:
            return batch.to(self._place if batch.is_floating_point() else self._place.device)
        if type(batch) in (tuple, list):
            return type(batch)(self._moved(part) for part in batch)
        return batch

    def log_likelihood(self, x: Any, z: Tensor) -> Tensor:
        """log p(x|z) in nats, z (S, B, D) -> (S, B); the model gets z in the shape of its means."""
        z = z.to(self._place) if self._place is not None else z
        z = z.reshape(*z.shape[:2], *self._latent)
        if not callable(self._single):
            assert callable(self._many), "asked of a model without a likelihood"
            result: Tensor = self._many(x, z)
            return result.cpu()
        each = torch.stack([torch.as_tensor(self._single(x, part)) for part in z])
        if each.shape != z.shape[:2]:
            raise BadInput(
                "log_likelihood(x, z) gives one number for each example, of shape "
                f"({z.shape[1]},), given {tuple(each.shape[1:])}"
            )
        return each.cpu()


def _posterior(mean: Tensor, logvar: Tensor) -> DiagonalNormal:
    """Of means (B, ...): each number of a map or a sequence of codes is a dimension."""
    mean, logvar = _floats("mean", mean), _floats("logvar", logvar)
    if mean.shape == logvar.shape:
        mean, logvar = mean.flatten(1), logvar.flatten(1)
    gaussian.require_pair(mean, logvar)
    return DiagonalNormal(mean, logvar)


def _unwrapped(model: Any) -> Any:
    """The model inside DistributedDataParallel, Accelerate's wrapper or scvi-tools' model."""
    inner = getattr(model, "module", None)
    known = ("posterior", "encode", "encoder")
    return inner if inner is not None and not any(hasattr(model, n) for n in known) else model


def _encoder(model: Any) -> Encode:
    for name in ("posterior", "encode", "encoder"):
        method = getattr(model, name, None)
        if callable(method):
            encode: Encode = method
            return encode
    if not callable(model):
        raise BadInput(
            "a model needs posterior(x), encode(x), encoder(x) or forward(x), given "
            f"{type(model).__name__}; or give encode=lambda x: (mean, logvar)"
        )
    called: Encode = model
    return called


def _place(model: Any) -> Tensor | None:
    """A tensor of the model's dtype and device; None where it has no parameters."""
    if not isinstance(model, torch.nn.Module):
        return None
    return next((p for p in model.parameters() if p.is_floating_point()), None)
