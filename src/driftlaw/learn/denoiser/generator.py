"""A trained denoiser: its score at every time, and its samples, chunk by chunk.

Sampling of many rows takes hours, so it is a sequence of chunks that a caller may keep: chunk c depends on the
generator's state before the first chunk and on c alone, and a killed run goes on after its last finished chunk to the
same numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from driftlaw import seeding
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn.conditional.embedding import check_labels, labelled
from driftlaw.learn.denoiser.config import DenoiserConfig
from driftlaw.learn.denoiser.engine import check_device
from driftlaw.learn.denoiser.epsilon import EpsilonNetwork, Timestepped, to_pipeline
from driftlaw.learn.denoiser.preconditioning import denoised, learned_score
from driftlaw.learn.denoiser.training import digest
from driftlaw.learn.estimator import Chunks
from driftlaw.learn.rows import check_shape
from driftlaw.process.draws import own_generator
from driftlaw.process.flow import velocity
from driftlaw.process.sampler import Solver, sample
from driftlaw.process.schedule import alpha, sigma
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
        bound: float | None = None,
        label_counts: Tensor | None = None,
    ) -> None:
        self.config, self.net, self.sigma_data, self.shape, self.bound = config, net, sigma_data, shape, bound
        self.label_counts = label_counts
        self.training = dict(training)

    @property
    def t0(self) -> float:
        """OU time of the sampled law (the ancestral sampler denoises from there once more)."""
        return self.config.t0

    def to(self, device: str) -> DenoiserModel:
        """The same generator on another device."""
        check_device(device)
        net = self.net.to(device)
        return DenoiserModel(
            self.config, net, self.sigma_data, self.shape, self.training, self.bound, self.label_counts
        )

    def draw_labels(self, n: int, generator: torch.Generator | None = None) -> Tensor | None:
        """Classes ``[n]`` int64 of `n` samples, drawn like those of the training rows; None if there are none."""
        if self.label_counts is None:
            return None
        return torch.multinomial(self.label_counts, n, replacement=True, generator=own_generator(generator))

    def sample(self, n: int, generator: torch.Generator | None = None, labels: Tensor | None = None) -> Tensor:
        """`n` draws of the learned law, ``[n, ...]`` float32 on the CPU; of these classes, if any are given.

        Bias: the solver's (flows: O(steps^-2); ancestral: the chain's), and KL(N(0, I) || q_T) <= e^-T E|x|^2 / 2 nats
        from the starting law.

        Raises:
            InputError: n < 1, or samples that are not finite.
        """
        return self.sample_in_chunks(n, own_generator(generator), labels=labels)

    def sample_in_chunks(
        self,
        n: int,
        generator: torch.Generator,
        chunks: Chunks | None = None,
        progress: Progress = silent,
        labels: Tensor | None = None,
    ) -> Tensor:
        """:meth:`sample`, which keeps finished chunks of ``sample_batch`` rows and takes up those that are kept.

        Args:
            n: rows.
            generator: source of all randomness.
            chunks: where finished chunks are kept; None keeps none.
            progress: told the fraction that is done.
            labels: ``[n]`` classes of the rows of a conditional model; None draws them.
        """
        if n < 1:
            raise InputError(f"{n} samples were asked", "ask for at least 1")
        if self.label_counts is not None:
            drawn = self.draw_labels(n, generator) if labels is None else labels
            labels = check_labels(drawn, n, len(self.label_counts))
        elif labels is not None:
            raise InputError("labels were given to a model without classes", "leave them out")
        start = torch.randn(n, *self.shape, generator=generator, device=generator.device)
        seed = (
            int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
            if self.config.is_random
            else 0
        )
        parts = torch.split(start, self.config.sampling.sample_batch)
        kinds = [None] * len(parts) if labels is None else torch.split(labels, self.config.sampling.sample_batch)
        keep = chunks if len(parts) > 1 else None
        identity = self._identity() if keep is not None else ""
        done: list[Tensor] = []
        for c, x in enumerate(parts):
            y = kinds[c]
            what = {"x": x} if y is None else {"x": x, "labels": y}
            here = f"{identity}-{seed}-{digest(what)}" if keep is not None else ""
            rows = keep.load(c, here) if keep is not None else None
            if rows is None:
                rows = self._carry(
                    x,
                    seed,
                    c,
                    lambda f, text, c=c: progress((c + f) / len(parts), text),  # type: ignore[misc]
                    y,
                )
                if keep is not None:
                    keep.save(c, rows, here)
            done.append(rows)
            progress((c + 1) / len(parts), f"{sum(map(len, done))} of {n} rows")
        return torch.cat(done)

    def _carry(self, x: Tensor, seed: int, chunk: int, progress: Progress, labels: Tensor | None = None) -> Tensor:
        """One chunk from its starting noise to samples."""
        device = next(self.net.parameters()).device
        x, y = x.to(device), None if labels is None else labels.to(device)
        plain = self.clip is None and y is None
        score: Score | Field = self if plain else lambda x, t: self._sampled(x, t, y)
        try:
            with torch.inference_mode():  # a few percent faster than no_grad for small networks
                grid, solver = self.sampler_steps()
                return sample(score, x, grid, solver, seeding.generator(seed, "chunk", chunk), progress=progress).cpu()
        except InputError as error:
            raise InputError(
                f"sampling from the denoiser failed in the {chunk + 1}. batch: {error.what}",
                "train longer or with a lower lr, or raise solver_steps",
            ) from error

    @property
    def clip(self) -> float | None:
        """Bound on denoised predictions while sampling."""
        clip = self.config.sampling.clip
        return self.bound if clip == "auto" else clip

    def sampler_steps(self) -> tuple[Tensor, Solver | str]:
        """The times that sampling goes through, from T down, and its solver."""
        return self.config.route()

    @torch.no_grad()
    def acting(self, rows: Tensor, seed: int, labels: Tensor | None = None) -> dict[str, float]:
        """Shares of denoised values that the bound, and guidance, move by more than a tenth of the rows' deviation.

        At 8 times up to 1, where most of the signal is left, on noised rows.

        Args:
            rows: ``[n, ...]`` that the model learned from.
            seed: of the noise.
            labels: ``[n]`` their classes.
        """
        bound, w = self.clip or torch.inf, self.config.guidance
        if bound == torch.inf and not w:
            return {}
        device = next(self.net.parameters()).device
        y = None if labels is None else labels[:64].to(device)
        g, x0 = seeding.generator(seed, "acting"), rows[:64]
        first, last = self.config.t0, min(1.0, self.config.T)
        clipped, guided, least = [], [], 0.1 * float(rows.std())
        for t in torch.logspace(math.log10(first), math.log10(max(first, last)), 8, dtype=torch.float64).tolist():
            x = float(alpha(t)) * x0 + float(sigma(t)) * torch.randn(x0.shape, generator=g)
            x = x.to(device)
            plain, d = self._denoised_given(x, t, y), self._guided(self._denoised_given, x, t, y)
            clipped.append(float((d.abs() > bound + least).double().mean()))
            guided.append(float(((d - plain).abs() > least).double().mean()))
        return {"clip": sum(clipped) / len(clipped), "guidance": sum(guided) / len(guided)}

    def _sampled(self, x: Tensor, t: Time, labels: Tensor | None) -> Tensor:
        """The score that sampling follows."""
        if self.clip is None:
            return self._guided(self._given, x, t, labels)
        denoised = self._guided(self._denoised_given, x, t, labels)
        return score_from_denoised(denoised.clamp(-self.clip, self.clip), x, t)

    def _guided(
        self, what: Callable[[Tensor, Time, Tensor | None], Tensor], x: Tensor, t: Time, labels: Tensor | None
    ) -> Tensor:
        """A score or denoised rows of these classes, moved away from those of all classes."""
        value, w = what(x, t, labels), self.config.guidance
        return value + w * (value - what(x, t, None)) if w and labels is not None else value

    def _given(self, x: Tensor, t: Time, labels: Tensor | None) -> Tensor:
        """The score of rows of these classes; of all together without them."""
        with labelled(self.net, labels):
            own = getattr(self.net, "score", None)  # of a network that predicts the noise or the velocity
            if own is not None:
                value: Tensor = own(x.float(), t)
                return value.to(x.dtype)
            return learned_score(self.net, x.float(), t, self.sigma_data).to(x.dtype)

    def _denoised_given(self, x: Tensor, t: Time, labels: Tensor | None) -> Tensor:
        with labelled(self.net, labels):
            return denoised(self.net, x.float(), t, self.sigma_data).to(x.dtype)

    def score_given(self, x: Tensor, t: Time, labels: Tensor) -> Tensor:
        """Learned score of rows of these classes ``[n]``, of a conditional model; without guidance."""
        check_shape(x, self.shape, "the score's argument")
        counts = 0 if self.label_counts is None else len(self.label_counts)
        return self._given(x, t, check_labels(labels, len(x), counts))

    def _identity(self) -> str:
        settings = json.dumps(self.config.known_by(), sort_keys=True)
        return hashlib.blake2b(f"{settings}{digest(self.state())}".encode(), digest_size=16).hexdigest()

    def score(self, x: Tensor, t: Time) -> Tensor:
        """Learned score at OU time t in (0, T], shape and dtype of `x` (evaluated in float32, differentiable).

        That of all classes together in a conditional model, which label dropout teaches it.

        Raises:
            NotImplementedError: a conditional model that was never trained without labels.
        """
        check_shape(x, self.shape, "the score's argument")
        if self.label_counts is not None and not self.config.label_dropout:
            raise NotImplementedError("a conditional network without label dropout has no score of all classes")
        return self._given(x, t, None)

    def denoised(self, x: Tensor, t: Time) -> Tensor:
        """Learned posterior mean of x_0 given x_t = x."""
        check_shape(x, self.shape, "the denoiser's argument")
        return self._denoised_given(x, t, None)

    def velocity(self, x: Tensor, s: Time) -> Tensor:
        """Learned velocity E[x_0 - z | x_s = x] of the straight path (1 - s) z + s x_0, at s in (0, 1)."""
        return velocity(self, x, s)

    def state(self) -> dict[str, Tensor]:
        """Averaged weights and sigma_data."""
        weights = {
            f"net.{k}": v.detach().cpu().clone(memory_format=torch.contiguous_format)
            for k, v in self.net.state_dict().items()
        }
        numbers = {"sigma_data": self.sigma_data} | ({} if self.bound is None else {"bound": self.bound})
        counts = {} if self.label_counts is None else {"label_counts": self.label_counts}
        return weights | {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()} | counts

    def pipeline(self) -> Any:
        """The model as a ``diffusers.DDPMPipeline``, for ``save_pretrained`` and diffusers' own samplers.

        Raises:
            ConfigError: the network is not diffusers' or does not predict at the levels of a chain.
        """
        net = self.net.net if isinstance(self.net, EpsilonNetwork) and self.label_counts is None else None
        if not isinstance(net, Timestepped):
            raise ConfigError(
                "only a diffusers-unet without classes, with prediction 'epsilon', 'sample' or 'v_prediction', is a "
                "DDPM pipeline",
                "fit one, for example with driftlaw.learn.from_diffusers",
            )
        return to_pipeline(self.config, net.net, self.clip)
