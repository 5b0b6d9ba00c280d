r"""Neural denoiser: a small diffusion model trained by denoising score matching on the OU clock.

``fit`` minimises :math:`E_\rho |F - target|^2` of :mod:`driftlaw.learn.denoiser.preconditioning` with AdamW, keeps an
exponential moving average of the weights, and starts from the previous generation's average when it is given one. The
generator's law is that of the probability-flow solution from N(0, I) at T down to t0: a law at t0, so its
early-stopping blur is part of the innovation (theory section 4.1). With ``solver="ddpm"`` it is that of the ancestral
chain of :mod:`driftlaw.process.ddpm`; ``noise="ddpm"`` trains at the levels of that chain, with its loss.

**Held-out rows and the recursion.** Held-out loss is recorded always, but ``patience > 0`` also selects the weights by
it. Held-out rows are real, so selection lets the target into a generation to which the policy may have denied it; in a
collapsing recursion it stops training early and hides the collapse. The default is no selection. ``validation > 0``
selects by rows set apart from the training set instead, which follow q: the policy is then respected.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from driftlaw import seeding
from driftlaw.errors import InputError
from driftlaw.learn.conditional.embedding import ClassEmbedding, check_labels
from driftlaw.learn.denoiser import processes
from driftlaw.learn.denoiser.config import DenoiserConfig
from driftlaw.learn.denoiser.engine import Accelerated, Engine, Plain, check_device
from driftlaw.learn.denoiser.epsilon import EpsilonNetwork, Timestepped, unet2d
from driftlaw.learn.denoiser.generator import DenoiserModel
from driftlaw.learn.denoiser.network import MLP, UNet, initialise
from driftlaw.learn.denoiser.preconditioning import NoiseLaw, root_mean_square
from driftlaw.learn.denoiser.training import Finished, Told, Training, fingerprint
from driftlaw.learn.estimator import ALONE, FitContext
from driftlaw.learn.rows import check_rows, check_shape
from driftlaw.system import memory


@dataclass(frozen=True, init=False)
class Denoiser(DenoiserConfig):
    """Denoising score matching with a small network.

    The settings are those of :class:`~driftlaw.learn.denoiser.config.DenoiserConfig`.

    Example:
        >>> config = Denoiser(width=32, steps=20, batch=16)
        >>> g = torch.Generator().manual_seed(0)
        >>> model = config.fit(torch.randn(64, 2, generator=g), FitContext(seed=1))
        >>> model.sample(5, g).shape
        torch.Size([5, 2])
    """

    def build_network(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None, classes: int = 0
    ) -> nn.Module:
        """The network for rows of `shape`, initialised from `generator` (left uninitialised without one).

        Args:
            shape: of one row.
            generator: of the initial weights.
            classes: of a conditional network.
        """
        n = self.network
        kind = n.net
        if kind == "auto":
            kind = "mlp" if _flat(shape) else "unet"
        if kind in ("unet", "diffusers-unet") and len(shape) != 3:
            raise InputError(f"a U-Net cannot learn rows of shape {list(shape)}", "use net='mlp' for vectors")
        with torch.device("meta"):  # so that no constructor draws from the global random state
            net: nn.Module
            if kind == "mlp":
                net = MLP(shape, n.width or 256, n.blocks or 3, n.dropout)
            elif kind == "unet":
                width, blocks = n.width or 16, n.blocks or 1
                net = UNet(shape, width, n.multipliers, blocks, n.dropout, n.attention, n.groups)
            else:  # diffusers' sinusoids of the time are made for 0 to 1000
                net = Timestepped(unet2d(shape, self._unet(), classes), self._time_scale, classes)
            if classes and isinstance(net, MLP | UNet):
                net.embed = ClassEmbedding(net.embed, classes, net.embedding)
        weights = sum(p.numel() for p in net.parameters())
        what = f"a network of {weights:,} weights with gradients, an average and the optimiser's moments"
        memory.check(20.0 * weights, what, "lower estimator.width")
        net = net.to_empty(device="cpu")
        if kind != "mlp" and (n.channels_last is True or (n.channels_last == "auto" and kind == "unet")):
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if generator is not None:
            initialise(net, generator)
        return net if self.prediction == "edm" else self._adapted(net)

    @property
    def _time_scale(self) -> float:
        """What a diffusers-unet's time is multiplied by."""
        return 1.0 if self.prediction != "edm" else 100.0

    def _adapted(self, net: nn.Module) -> nn.Module:
        """F of a network that predicts something else."""
        return EpsilonNetwork(net, self.levels(), self.prediction)

    def noise_law(self, sigma_data: float) -> NoiseLaw:
        """Noise levels of training, and the weight of the error at each."""
        levels = self.levels() if self.noise == "ddpm" else None
        return NoiseLaw(self.noise, self.t0, self.T, sigma_data, levels=levels)

    def _unet(self) -> dict[str, Any]:
        """Settings that build the UNet2DModel of diffusers."""
        n = self.network
        if n.unet is not None:
            return n.unet
        width, deep = n.width or 32, len(n.multipliers) - 1
        kinds = [*["Block2D"] * deep, "AttnBlock2D" if n.attention else "Block2D"]
        down = [k.replace("Block", "DownBlock") for k in kinds]
        return {
            "block_out_channels": [width * m for m in n.multipliers],
            "down_block_types": [k.replace("AttnBlock", "AttnDownBlock") for k in down],
            "up_block_types": [k.replace("Down", "Up") for k in reversed(down)],
            "layers_per_block": n.blocks or 1,
            "norm_num_groups": math.gcd(n.groups, width),
            "dropout": n.dropout,
            "add_attention": n.attention,
        }

    def one_thread(self, shape: tuple[int, ...]) -> bool:
        """Whether the network is so small that more threads gain nothing, and lose much on a busy machine."""
        mlp = self.network.net == "mlp" or (self.network.net == "auto" and _flat(shape))
        return mlp and (self.network.width or 256) <= 512

    def check(self, shape: tuple[int, ...], device: str = "cpu") -> None:
        """Find out, before anything is written, whether rows of `shape` can be learned here.

        Raises:
            InputError: a network that does not fit the rows, or an absent device.
            ConfigError: a package that is not installed, or settings that it refuses.
        """
        check_device(device)
        self.build_network(shape, classes=2 if self.conditional else 0)
        if self.engine == "accelerate":
            Accelerated(device, self.precision)

    def fit(self, data: Tensor, context: FitContext = ALONE) -> DenoiserModel:
        """Learn the score of the rows.

        Args:
            data: ``[n, d]`` or ``[n, c, h, w]``, n >= 2.
            context: seed, held-out rows, warm start, checkpoint, progress, device; labels if it is conditional.

        Raises:
            InputError: unusable rows or labels, an absent device, a warm start or checkpoint of another fit, or
                divergence.
        """
        data = check_rows(data)
        shape = tuple(data.shape[1:])
        if context.held_out is not None:
            check_shape(check_rows(context.held_out, "held-out set", minimum=1), shape, "the held-out set")
        check_device(context.device)
        classes = self._classes(context)
        labels = check_labels(context.labels, len(data), classes) if self.conditional else None
        net = self.build_network(shape, seeding.generator(context.seed, "initialise"), classes)
        warm = self._warm_state(net, context, shape)
        train, apart = self._split(data, context.seed)
        if warm is None:
            sigma_data = root_mean_square(train) if self.prediction == "edm" else 1.0
        else:
            sigma_data = float(warm["sigma_data"])
            net.load_state_dict({k.removeprefix("net."): v for k, v in warm.items() if k.startswith("net.")})
        law = self.noise_law(sigma_data)
        steps = self.fit_steps(len(data), warm is not None)
        identity = fingerprint(self.known_by(), data, warm, context, labels)
        if self.processes > 1 and processes.WORKER not in os.environ:
            context = replace(context, checkpoint=Finished(processes.fit(self, data, context)))
            engine: Engine = Plain(context.device)
        else:
            engine = Plain(context.device) if self.engine == "torch" else Accelerated(context.device, self.precision)
        told = None if labels is None else Told(*self._split(labels, context.seed))
        training = Training(self, net.to(engine.device), train, law, steps, context, identity, engine, apart, told)
        training.run()
        largest = self.sampling.clip == "auto" and self.prediction == "epsilon"
        bound = float(data.abs().max()) if largest else None
        counts = None if labels is None else torch.bincount(labels[labels >= 0], minlength=classes).double()
        return DenoiserModel(self, training.average, sigma_data, shape, training.summary(), bound, counts)

    def _classes(self, context: FitContext) -> int:
        """How many classes a conditional network knows."""
        if not self.conditional:
            return 0
        known = 0 if context.labels is None or not len(context.labels) else int(context.labels.max()) + 1
        return known if context.classes is None else len(context.classes)

    def _split(self, data: Tensor, seed: int) -> tuple[Tensor, Tensor | None]:
        """Rows to train on (or their labels), and those set apart."""
        count = round(self.optimiser.validation * len(data))
        if self.optimiser.validation == 0:
            return data, None
        if not 1 <= count <= len(data) - 2:
            raise InputError(
                f"validation = {self.optimiser.validation} sets {count} of {len(data)} rows apart",
                "leave at least 2 rows to train on",
            )
        order = torch.from_numpy(seeding.numpy_generator(seed, "validation").permutation(len(data)).astype(np.int64))
        return data[order[count:].sort().values], data[order[:count]]

    def load(self, state: Mapping[str, Tensor], shape: tuple[int, ...]) -> DenoiserModel:
        """Inverse of :meth:`DenoiserModel.state` for rows of `shape`.

        Raises:
            InputError: the state is not one of this configuration.
        """
        counts = state.get("label_counts")
        if (counts is not None) != self.conditional:
            raise InputError(
                f"the weights are {'un' if counts is None else ''}conditional and conditional is {self.conditional}",
                "load them with the configuration they were trained with",
            )
        net = self.build_network(shape, classes=0 if counts is None else len(counts))
        weights = {k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")}
        expected = {k: tuple(v.shape) for k, v in net.state_dict().items()}
        if {k: tuple(v.shape) for k, v in weights.items()} != expected or "sigma_data" not in state:
            raise InputError(
                f"the weights do not fit {type(self).__name__} for rows of shape {list(shape)}",
                "load them with the configuration they were trained with",
            )
        net.load_state_dict(weights)
        bound = float(state["bound"]) if "bound" in state else None
        net = net.eval().requires_grad_(False)
        return DenoiserModel(self, net, float(state["sigma_data"]), shape, {}, bound, counts)

    def _warm_state(self, net: nn.Module, context: FitContext, shape: tuple[int, ...]) -> dict[str, Tensor] | None:
        if context.warm_start is None:
            return None
        state = context.warm_start.state()
        theirs = {k.removeprefix("net."): tuple(v.shape) for k, v in state.items() if k.startswith("net.")}
        if theirs != {k: tuple(v.shape) for k, v in net.state_dict().items()} or "sigma_data" not in state:
            raise InputError(
                f"the warm start ({type(context.warm_start).__name__}) is not this network for rows of {list(shape)}",
                "start from a generator of the same configuration, or from none",
            )
        return state


def _flat(shape: tuple[int, ...]) -> bool:
    """Whether rows of this shape go to an MLP unless another network is asked for."""
    return len(shape) != 3 or math.prod(shape) <= 256
