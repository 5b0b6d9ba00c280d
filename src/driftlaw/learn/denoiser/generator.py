"""A trained denoiser: its score at every time, and its samples, chunk by chunk.

Sampling of many rows takes hours, so it is a sequence of chunks that a caller may keep: chunk c depends on the
generator's state before the first chunk and on c alone, and a killed run goes on after its last finished chunk to the
same numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from driftlaw import seeding
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn.denoiser.config import DenoiserConfig
from driftlaw.learn.denoiser.engine import check_device
from driftlaw.learn.denoiser.epsilon import EpsilonNetwork, Timestepped, to_pipeline
from driftlaw.learn.denoiser.preconditioning import denoised, learned_score
from driftlaw.learn.denoiser.training import digest
from driftlaw.learn.estimator import Chunks
from driftlaw.learn.rows import check_shape
from driftlaw.process.draws import own_generator
from driftlaw.process.flow import velocity
from driftlaw.process.sampler import sample
from driftlaw.process.score import Field, Score, Time, score_from_denoised
from driftlaw.progress import Progress, silent


class DenoiserModel:
    """A trained denoiser: the law that its sampler draws from, and its score.

    Attributes:
        training: numbers of the fit (steps, best_step, train_loss, held_out_loss in all and by bins of time); empty
            for loaded weights. Losses are mean squared errors of a unit-variance target.
    """

    def __init__(
        self,
        config: DenoiserConfig,
        net: nn.Module,
        sigma_data: float,
        shape: tuple[int, ...],
        training: Mapping[str, float],
    ) -> None:
        self.config, self.net, self.sigma_data, self.shape = config, net, sigma_data, shape
        self.training = dict(training)

    @property
    def t0(self) -> float:
        """OU time of the sampled law (the ancestral sampler denoises from there once more)."""
        return self.config.t0

    def to(self, device: str) -> DenoiserModel:
        """The same generator on another device."""
        check_device(device)
        return DenoiserModel(self.config, self.net.to(device), self.sigma_data, self.shape, self.training)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` draws of the learned law, ``[n, ...]`` float32 on the CPU.

        Bias: the solver's (flows: O(steps^-2); ancestral: the chain's), and KL(N(0, I) || q_T) <= e^-T E|x|^2 / 2 nats
        from the starting law.

        Raises:
            InputError: n < 1, or samples that are not finite.
        """
        return self.sample_in_chunks(n, own_generator(generator))

    def sample_in_chunks(
        self,
        n: int,
        generator: torch.Generator,
        chunks: Chunks | None = None,
        progress: Progress = silent,
    ) -> Tensor:
        """:meth:`sample`, which keeps finished chunks of ``sample_batch`` rows and takes up those that are kept.

        Args:
            n: rows.
            generator: source of all randomness.
            chunks: where finished chunks are kept; None keeps none.
            progress: told the fraction that is done.
        """
        if n < 1:
            raise InputError(f"{n} samples were asked", "ask for at least 1")
        start = torch.randn(n, *self.shape, generator=generator, device=generator.device)
        seed = (
            int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
            if self.config.is_random
            else 0
        )
        parts = torch.split(start, self.config.sampling.sample_batch)
        keep = chunks if len(parts) > 1 else None
        identity = self._identity() if keep is not None else ""
        done: list[Tensor] = []
        for c, x in enumerate(parts):
            here = f"{identity}-{seed}-{digest({'x': x})}" if keep is not None else ""
            rows = keep.load(c, here) if keep is not None else None
            if rows is None:
                rows = self._carry(
                    x,
                    seed,
                    c,
                    lambda f, text, c=c: progress((c + f) / len(parts), text),  # type: ignore[misc]
                )
                if keep is not None:
                    keep.save(c, rows, here)
            done.append(rows)
            progress((c + 1) / len(parts), f"{sum(map(len, done))} of {n} rows")
        return torch.cat(done)

    def _carry(self, x: Tensor, seed: int, chunk: int, progress: Progress) -> Tensor:
        """One chunk from its starting noise to samples."""
        config, x = self.config, x.to(next(self.net.parameters()).device)
        score: Score | Field = self if config.sampling.clip is None else self._clipped
        try:
            with torch.inference_mode():  # a few percent faster than no_grad for small networks
                grid, solver = config.route()
                return sample(score, x, grid, solver, seeding.generator(seed, "chunk", chunk), progress=progress).cpu()
        except InputError as error:
            raise InputError(
                f"sampling from the denoiser failed in the {chunk + 1}. batch: {error.what}",
                "train longer or with a lower lr, or raise solver_steps",
            ) from error

    def _clipped(self, x: Tensor, t: Tensor) -> Tensor:
        bound = self.config.sampling.clip or torch.inf
        return score_from_denoised(self.denoised(x, t).clamp(-bound, bound), x, t)

    def _identity(self) -> str:
        settings = json.dumps(self.config.flat(), sort_keys=True)
        return hashlib.blake2b(f"{settings}{digest(self.state())}".encode(), digest_size=16).hexdigest()

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Learned score at OU time t in (0, T], shape and dtype of `x` (evaluated in float32, differentiable)."""
        check_shape(x, self.shape, "the score's argument")
        own = getattr(self.net, "score", None)  # of a network that predicts the noise or the velocity
        if own is not None:
            value: Tensor = own(x.float(), t)
            return value.to(x.dtype)
        return learned_score(self.net, x.float(), t, self.sigma_data).to(x.dtype)

    def denoised(self, x: Tensor, t: Time) -> Tensor:
        """Learned posterior mean of x_0 given x_t = x."""
        check_shape(x, self.shape, "the denoiser's argument")
        return denoised(self.net, x.float(), t, self.sigma_data).to(x.dtype)

    def velocity(self, x: Tensor, s: Time) -> Tensor:
        """Learned velocity E[x_0 - z | x_s = x] of the straight path (1 - s) z + s x_0, at s in (0, 1)."""
        return velocity(self, x, s)

    def state(self) -> dict[str, Tensor]:
        """Averaged weights and sigma_data."""
        weights = {
            f"net.{k}": v.detach().cpu().clone(memory_format=torch.contiguous_format)
            for k, v in self.net.state_dict().items()
        }
        return {**weights, "sigma_data": torch.tensor(self.sigma_data, dtype=torch.float64)}

    def pipeline(self) -> Any:
        """The model as a ``diffusers.DDPMPipeline``, for ``save_pretrained`` and diffusers' own samplers.

        Raises:
            ConfigError: the network is not diffusers' or does not predict at the levels of a chain.
        """
        if not (isinstance(self.net, EpsilonNetwork) and isinstance(self.net.net, Timestepped)):
            raise ConfigError(
                "only a diffusers-unet with prediction 'epsilon', 'sample' or 'v_prediction' is a DDPM pipeline",
                "fit one, for example with driftlaw.learn.from_diffusers",
            )
        return to_pipeline(self.config, self.net.net.net)
