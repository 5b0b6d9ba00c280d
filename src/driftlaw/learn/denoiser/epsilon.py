r"""Networks that predict noise at the levels of a DDPM chain, such as those of Hugging Face's diffusers, as a denoiser.

Whatever trains and samples here sees a network F of a unit-variance input
(:mod:`driftlaw.learn.denoiser.preconditioning`). With :math:`\sigma_d = 1` a variance-preserving :math:`x_t` is that
input, and a noise prediction is

.. math:: F(x, \lambda) = (\sigma_t x - \hat\varepsilon(x, k_t)) / a_t, \qquad \hat s_t = -\hat\varepsilon / \sigma_t,

with :math:`k_t` the level of OU time t (:func:`driftlaw.process.ddpm.level_at`, exact at the chain's own times, linear
between). A prediction of :math:`x_0` or v becomes one of the noise by :math:`\hat\varepsilon = (x - a \hat x_0)/\sigma
= a \hat v + \sigma x`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from driftlaw.errors import ConfigError, InputError, nearest
from driftlaw.learn.denoiser.config import DenoiserConfig
from driftlaw.learn.denoiser.network import Dropout
from driftlaw.process.ddpm import level_at
from driftlaw.process.schedule import alpha, expand, sample_times
from driftlaw.process.schedule import sigma as noise_sd
from driftlaw.process.score import Time

#: What a network may predict, as diffusers names it.
PREDICTIONS = ("epsilon", "sample", "v_prediction")

#: Names of beta schedules in diffusers, and here.
SCHEDULES = {
    "linear": "linear",
    "scaled_linear": "scaled-linear",
    "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid",
}


class Timestepped(nn.Module):
    """A network that takes ``(x, timestep)``, as diffusers' do, and may return its result in an attribute ``sample``.

    Args:
        net: the network.
        scale: the timestep is `scale` times the second argument.
        classes: C of a network that takes ``class_labels``, C + 1 of them, the last for none; 0 of any other.
    """

    def __init__(self, net: nn.Module, scale: float = 1.0, classes: int = 0) -> None:
        super().__init__()
        self.net, self.scale, self.classes = net, scale, classes
        if classes:
            self.labels: Tensor | None = None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """``[n, c, h, w]`` and ``[n]`` (or ``[1]``, shared) to the shape of `x`.

        Raises:
            InputError: the network returned another shape.
        """
        if self.classes:
            y = torch.full((len(x),), self.classes, device=x.device) if self.labels is None else self.labels
            out = self.net(x, self.scale * time, class_labels=y)
        else:
            out = self.net(x, self.scale * time)
        value: Tensor = out if isinstance(out, Tensor) else out.sample
        if value.shape != x.shape:
            raise InputError(
                f"the network maps rows of shape {list(x.shape[1:])} to {list(value.shape[1:])}",
                "give it as many output channels as input channels",
            )
        return value


class EpsilonNetwork(nn.Module):
    """F of a network that predicts the noise, x_0 or v at the levels of a chain (sigma_data is 1).

    Args:
        net: ``(x [n, ...], k [n] or [1]) -> [n, ...]``: :class:`Timestepped` gets the chain's level k, any other
            network lambda.
        times: OU times of the levels, ``[K]``.
        prediction: one of :data:`PREDICTIONS`.
    """

    def __init__(self, net: nn.Module, times: Tensor, prediction: str = "epsilon") -> None:
        super().__init__()
        if prediction not in PREDICTIONS:
            raise ConfigError(f"unknown prediction type {prediction!r}", nearest(prediction, PREDICTIONS))
        self.net, self.times, self.prediction = net, times, prediction

    def forward(self, u: Tensor, lam: Tensor) -> Tensor:
        """``[n, ...]`` and ``[n]`` (or ``[1]``, shared) to ``[n, ...]``."""
        square = (2 * lam.double()).exp()
        a, sigma = torch.rsqrt(1 + square), torch.sqrt(square / (1 + square))
        noise = self._noise(u, a, sigma, lam, torch.log1p(square))
        value: Tensor = (_per_row(sigma, u) * u - noise) / _per_row(a, u)
        return value

    def score(self, x: Tensor, t: Time) -> Tensor:
        """-noise / sigma_t at OU time t in the chain, without the way through F."""
        times = sample_times(t, len(x), x.device).reshape(-1)
        a, sigma = alpha(times), noise_sd(times)
        lam = (sigma / a).log().to(x.dtype)
        return self._noise(x, a, sigma, lam, times) / -_per_row(sigma, x)

    def _noise(self, x: Tensor, a: Tensor, sigma: Tensor, lam: Tensor, times: Tensor) -> Tensor:
        """The predicted noise; float64 ``[n]`` or ``[1]`` coefficients, lambda in the dtype of `x`."""
        time = self.level(times).to(x.dtype) if isinstance(self.net, Timestepped) else lam
        out: Tensor = self.net(x, time).to(x.dtype)
        if self.prediction == "sample":
            return (x - _per_row(a, x) * out) / _per_row(sigma, x)
        return out if self.prediction == "epsilon" else _per_row(a, x) * out + _per_row(sigma, x) * x

    def level(self, times: Tensor) -> Tensor:
        """Level at OU times; a whole number where rounding alone keeps it from being one."""
        k = level_at(self.times, times)
        whole = k.round()
        return torch.where((k - whole).abs() < 1e-3, whole, k)


def _per_row(value: Tensor, x: Tensor) -> Tensor:
    return expand(value, x.ndim).to(x.dtype)


def unet2d(shape: tuple[int, ...], settings: Mapping[str, Any], classes: int = 0) -> nn.Module:
    """The UNet2DModel of diffusers for rows of `shape`, uninitialised, with dropout from an explicit generator.

    Args:
        shape: ``(c, h, w)``.
        settings: of ``UNet2DModel``; size and channels are filled in.
        classes: C of a conditional one, which gets C + 1 class embeddings; 0 of an unconditional one.

    Raises:
        ConfigError: diffusers is not installed, or refuses the settings.
        InputError: other channels than the rows have, or a size that the levels cannot halve.
    """
    try:
        from diffusers import UNet2DModel
    except ImportError as error:
        raise ConfigError(
            f"net = 'diffusers-unet' needs the package diffusers ({error})", "install driftlaw[diffusers]"
        ) from None
    own = {k: v for k, v in settings.items() if not k.startswith("_")}
    for key in ("in_channels", "out_channels"):
        if own.setdefault(key, shape[0]) != shape[0]:
            raise InputError(
                f"the UNet2DModel has {key} = {own[key]} and the rows have {shape[0]} channels",
                f"set {key} to {shape[0]}, or change the colour mode of the data",
            )
    given = own.pop("num_class_embeds", None)
    if given is not None and not classes:
        raise ConfigError(f"the UNet2DModel is conditional on {given} classes", "set conditional: true")
    if own.get("class_embed_type") is not None:
        raise ConfigError(
            f"the UNet2DModel has class_embed_type {own['class_embed_type']!r}", "leave it at its default"
        )
    if classes:
        own["num_class_embeds"] = classes + 1
    own["sample_size"] = list(shape[1:])
    try:
        with torch.device("meta"):
            net: nn.Module = UNet2DModel(**own)
    except (TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise ConfigError(f"diffusers' UNet2DModel refuses its settings ({error})", "correct them") from error
    halvings = 2 ** (len(net.config["block_out_channels"]) - 1)  # type: ignore[index]
    if any(side % halvings for side in shape[1:]):
        raise InputError(
            f"images of {shape[1]} x {shape[2]} cannot be halved as often as a UNet2DModel of "
            f"{len(net.config['block_out_channels'])} levels does",  # type: ignore[index]
            f"use fewer levels, or a size that {halvings} divides",
        )
    return explicit_dropout(net)


def explicit_dropout(net: nn.Module) -> nn.Module:
    """Replace each ``nn.Dropout`` inside, which draws from the global random state, by :class:`Dropout`."""
    for name, child in net.named_children():
        if isinstance(child, nn.Dropout):
            setattr(net, name, Dropout(child.p))
        else:
            explicit_dropout(child)
    return net


def to_pipeline(config: DenoiserConfig, unet: nn.Module, clip: float | None) -> Any:
    """A ``DDPMPipeline`` of a trained network, whose denoised predictions are bounded by `clip`."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    with torch.device("meta"):
        plain = UNet2DModel(**{k: v for k, v in unet.config.items() if not k.startswith("_")})  # type: ignore[union-attr,operator]
    plain = plain.to_empty(device="cpu")
    plain.load_state_dict(unet.state_dict())
    names = {v: k for k, v in SCHEDULES.items()}
    scheduler = DDPMScheduler(
        num_train_timesteps=config.diffusion_steps,
        beta_start=config.beta_start,
        beta_end=config.beta_end,
        beta_schedule=names[config.beta_schedule],
        trained_betas=None if config.trained_betas is None else list(config.trained_betas),
        variance_type=f"fixed_{config.spread}",
        prediction_type=config.prediction,
        clip_sample=clip is not None,
        clip_sample_range=clip or 1.0,
    )
    return DDPMPipeline(plain.eval(), scheduler)
