r"""Any network as a feature space: images in, a fixed vector per image out, with a fingerprint of what made it.

A :class:`FeatureNetwork` is :math:`x \mapsto \psi(g(x))`: the preprocessing g takes images in the project's range
[-1, 1] to what the network was trained on,

.. math:: g(x) = \bigl(s\,\mathrm{resize}(\tfrac{x + 1}{2}) - \mathrm{mean}\bigr) / \mathrm{std},

and :math:`\psi` is a torch module, a plain function, a TorchScript file or an ONNX file. Its `fingerprint` is a BLAKE2b
hash of the weights (of the file's bytes) and of g: the key of a feature cache, and what two sketches must agree on.
:class:`~driftlaw.measure.features.fitted.FeatureMap` whitens its output like that of any other features.

**Trust.** Nothing is unpickled. Weights come from safetensors or ``torch.load(weights_only=True)``. A TorchScript or
ONNX file is a *program* that runs with your rights when you name it, and ``module`` imports Python code that you name:
use files that you made or trust.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from driftlaw.errors import ConfigError, InputError
from driftlaw.numerics.rows import check_finite

#: Images of one forward pass.
BATCH = 128


@runtime_checkable
class FeatureSpace(Protocol):
    """What metrics and sketches need of a feature space; :class:`FeatureNetwork` is one."""

    @property
    def name(self) -> str:
        """What messages and reports call it."""
        ...

    @property
    def dimension(self) -> int:
        """k, the number of features."""
        ...

    @property
    def fingerprint(self) -> str:
        """Content hash of weights and preprocessing."""
        ...

    def __call__(self, rows: Tensor, /) -> Tensor:
        """``[n, c, h, w]`` in [-1, 1] to ``[n, k]`` float64."""
        ...


@dataclass(frozen=True)
class Preprocessing:
    """g: from images in [-1, 1] to the input of a network.

    Args:
        channels: of the network's input; grey images are repeated, other mismatches refused. None takes any.
        size: height and width of the input (bilinear, antialiased); None leaves the images as they are.
        scale: s, the largest value of a pixel before `mean` and `std`: 1, or 255 for bytes.
        mean: subtracted after scaling; one number, or one a channel.
        std: divisor after that; one number, or one a channel.

    Example:
        >>> Preprocessing(scale=255, mean=127, std=128)(torch.ones(1, 1, 2, 2)).flatten().tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    channels: int | None = None
    size: int | None = None
    scale: float = 1.0
    mean: tuple[float, ...] | float = 0.0
    std: tuple[float, ...] | float = 1.0

    def __post_init__(self) -> None:
        if (self.channels is not None and self.channels < 1) or (self.size is not None and self.size < 1):
            raise ConfigError(f"channels = {self.channels}, size = {self.size} of a network's input", "give 1 or more")
        try:
            scale, mean, std = (torch.tensor(v, dtype=torch.float64) for v in (self.scale, self.mean, self.std))
        except (TypeError, ValueError):
            numbers = f"scale = {self.scale!r}, mean = {self.mean!r}, std = {self.std!r}"
            raise ConfigError(f"{numbers} of a network's input", "give numbers, or one number a channel") from None
        if not bool(torch.isfinite(mean).all()) or not bool((std > 0).all()) or not bool((scale > 0).all()):
            raise ConfigError(
                f"scale = {self.scale}, mean = {self.mean}, std = {self.std} of a network's input",
                "give finite numbers, scale and std positive",
            )

    def __call__(self, x: Tensor) -> Tensor:
        """``[n, c, h, w]`` in [-1, 1] to the network's input, float32.

        Raises:
            InputError: another number of channels.
        """
        wanted = self.channels
        if wanted is not None and x.shape[1] != wanted:
            if x.shape[1] != 1:
                raise InputError(
                    f"images with {x.shape[1]} channels were given to a network for {wanted}",
                    "read them with mode: L or mode: RGB, or choose other features",
                )
            x = x.expand(-1, wanted, -1, -1)
        x = (x.float() + 1.0) * (0.5 * self.scale)
        if self.size is not None and x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        return (x - _per_channel(self.mean, x)) / _per_channel(self.std, x)


#: Identity: the network was trained on [-1, 1].
AS_THEY_ARE = Preprocessing(scale=2.0, mean=1.0)


def _per_channel(value: tuple[float, ...] | float, x: Tensor) -> Tensor:
    return torch.tensor(value, dtype=x.dtype, device=x.device).reshape(-1, 1, 1)


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A network as a feature space.

    Args:
        name: what messages call it.
        dimension: k.
        fingerprint: content hash of weights and preprocessing.
        function: input of the network ``[b, c, h, w]`` float32 to ``[b, k]``.
        preprocessing: g.
        device: where `function` wants its input.
        batch: images of one forward pass.

    Example:
        >>> phi = FeatureNetwork.from_module(torch.nn.Flatten(), (1, 4, 4), name="pixels")
        >>> phi(torch.zeros(3, 1, 4, 4)).shape, phi.dimension
        (torch.Size([3, 16]), 16)
    """

    name: str
    dimension: int
    fingerprint: str
    function: Callable[[Tensor], Any] = field(repr=False)
    preprocessing: Preprocessing = AS_THEY_ARE
    device: str = "cpu"
    batch: int = BATCH

    @classmethod
    def from_module(
        cls,
        module: nn.Module | Callable[[Tensor], Tensor],
        shape: tuple[int, ...],
        *,
        name: str = "",
        preprocessing: Preprocessing = AS_THEY_ARE,
        fingerprint: str | None = None,
        device: str = "cpu",
        batch: int = BATCH,
    ) -> FeatureNetwork:
        """Wrap a torch module (put into evaluation mode) or a plain function.

        Args:
            module: ``[b, c, h, w]`` to ``[b, k]``; its weights are not copied and must not be changed afterwards.
            shape: ``(c, h, w)`` of an image; a grey one of it is passed through to find k.
            name: what messages call it; the class's name if empty.
            preprocessing: g.
            fingerprint: hash or version text of what `module` computes. A module is hashed by its weights, buffers and
                printed structure, which does not see the code of its ``forward``; a plain function needs this text.
            device: "cpu" or "cuda".
            batch: images of one forward pass.

        Raises:
            InputError: no fingerprint for a plain function, or an output that is not ``[b, k]`` and finite.
            ConfigError: CUDA was asked for and is not there.
        """
        device = usable_device(device)
        name = name or type(module).__name__
        if isinstance(module, nn.Module):
            module.eval().requires_grad_(False).to(device)
            own = _hash_module(module) if fingerprint is None else fingerprint
        elif fingerprint is None:
            raise InputError(
                f"the feature function {name} has no fingerprint",
                "pass fingerprint='NAME-VERSION' and change it whenever the function changes: caches rely on it",
            )
        else:
            own = fingerprint
        return cls.probed(name, own, module, shape, preprocessing, device, batch)

    @classmethod
    def probed(
        cls,
        name: str,
        content: str,
        function: Callable[[Tensor], Any],
        shape: tuple[int, ...],
        preprocessing: Preprocessing,
        device: str,
        batch: int,
    ) -> FeatureNetwork:
        """The network with the k that two grey images show."""
        if len(shape) != 3:
            raise InputError(
                f"{name} needs images and the rows have shape {tuple(shape)}", "use features: pca or identity for these"
            )
        key = hashlib.blake2b(f"{name}\x1f{content}\x1f{asdict(preprocessing)}".encode(), digest_size=16).hexdigest()
        unknown = cls(name, 0, key, function, preprocessing, device, batch)
        dimension = unknown._forward(torch.zeros(2, *shape), 0).shape[1]
        return cls(name, int(dimension), key, function, preprocessing, device, batch)

    def __call__(self, rows: Tensor) -> Tensor:
        """Features of images in [-1, 1], ``[n, c, h, w] -> [n, k]`` float64.

        Raises:
            InputError: rows that are not images, another number of channels, NaN or infinite rows, or an output that is
                not finite or has another shape; the message counts the rows and names the first.
        """
        if rows.ndim != 4:
            raise InputError(
                f"{self.name} needs images [n, c, h, w], got shape {tuple(rows.shape)}", "use features: pca for vectors"
            )
        check_finite(rows, "images", "drop these rows or find what made them")
        parts = [
            self._forward(part, start * self.batch)
            for start, part in enumerate(torch.split(rows, self.batch))
            if len(part)
        ]
        return torch.cat(parts) if parts else torch.empty(0, self.dimension, dtype=torch.float64)

    @torch.no_grad()
    def _forward(self, part: Tensor, start: int) -> Tensor:
        """Features of one batch, whose first row has the number `start`."""
        prepared = self.preprocessing(part.to(self.device))
        try:
            out = self.function(prepared)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{self.name} fails on images of shape {tuple(part.shape[1:])} ({reason})",
                "give it images of the channels and size that it was made for, or set channels and size",
            ) from error
        if not isinstance(out, Tensor) or out.ndim != 2 or out.shape[0] != len(part):
            got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
            raise InputError(
                f"{self.name} returned {got} for {len(part)} images", "make it return one vector an image: [n, k]"
            )
        if self.dimension and out.shape[1] != self.dimension:
            raise InputError(
                f"{self.name} returned {out.shape[1]} features for images from row {start} on, {self.dimension} before",
                "make the number of features independent of the images",
            )
        features = out.detach().cpu().double()
        fix = "check the network's weights, its preprocessing and this image"
        check_finite(features, f"rows of features that {self.name} returned", fix, start)
        return features


def usable_device(name: str) -> str:
    """Resolve "auto", "cpu" or "cuda".

    Raises:
        ConfigError: CUDA was asked for and is not there, or another name.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device is {name!r}", "use auto, cpu or cuda")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("device is cuda but this machine has no usable CUDA device", "use device: auto or cpu")
    return name if name != "auto" else "cuda" if available else "cpu"


def _hash_module(module: nn.Module) -> str:
    return hash_tensors(module.state_dict().items(), repr(module))


def hash_tensors(tensors: Iterable[tuple[str, Tensor]], text: str = "") -> str:
    """BLAKE2b hash of named tensors and a text."""
    h = hashlib.blake2b(text.encode(), digest_size=16)
    for key, value in sorted(tensors):
        data = value.detach().cpu().contiguous()
        h.update(f"\x1f{key}:{data.dtype}:{tuple(data.shape)}:".encode())
        h.update(data.reshape(-1).view(torch.uint8).numpy().tobytes() if data.numel() else b"")
    return h.hexdigest()


def hash_rows(rows: Tensor | np.ndarray) -> str:
    """BLAKE2b hash of the bytes, shape and dtype of a set of rows."""
    data = np.ascontiguousarray(rows.detach().cpu().numpy() if isinstance(rows, Tensor) else rows)
    h = hashlib.blake2b(f"{data.dtype.str}:{data.shape}:".encode(), digest_size=16)
    h.update(data.reshape(-1).view(np.uint8).data)
    return h.hexdigest()
