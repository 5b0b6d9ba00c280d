r"""Denoising score matching as a pure, resumable function of (data, seed, warm start).

Step k draws its rows, noise levels, noise and dropout masks from streams named by k, so no generator state is carried:
a fit that was stopped anywhere continues from its last checkpoint to the same bits (same machine and thread count).
Rows follow seeded permutations of the training set; noise levels are stratified, :math:`\lambda_i = Q((i + U_i)/B)`.

The exponential moving average uses the decay :math:`\min(\beta, (1 + k)/(10 + k))`: short-sighted at first, so that the
average of a short fit is not its starting point. Losses on held-out rows use fixed levels and noise: a difference
between two evaluations is learning, not luck.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from driftlaw import seeding
from driftlaw.errors import InputError
from driftlaw.learn import optimisers
from driftlaw.learn.conditional.embedding import UNKNOWN, labelled
from driftlaw.learn.denoiser.config import DenoiserConfig
from driftlaw.learn.denoiser.engine import Engine, Plain
from driftlaw.learn.denoiser.network import Dropout, compiled, flatten
from driftlaw.learn.denoiser.preconditioning import Network, NoiseLaw, noised
from driftlaw.learn.estimator import FitContext

#: Rows of a fixed-noise evaluation, and the number of equal-probability bins of noise levels it is reported in.
EVALUATION_ROWS, BINS = 512, 4
#: Part of a fit after which the training loss is taken, to see at the end whether it still falls.
LATE = 0.8


def learning_rate(config: DenoiserConfig, step: int, steps: int) -> float:
    """Rate of `step` (from 0): linear warm-up over `warmup` steps, then constant or a half cosine to 0."""
    ramp = min(1.0, (step + 1) / (config.optimiser.warmup + 1))
    decay = 0.5 * (1 + math.cos(math.pi * step / steps)) if config.optimiser.schedule == "cosine" else 1.0
    return config.optimiser.lr * ramp * decay


def ema_decay(limit: float, step: int) -> float:
    """Decay of the average after `step` steps (from 0)."""
    return min(limit, (1 + step) / (10 + step))


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash of named tensors: names, shapes and values."""
    h = hashlib.blake2b(digest_size=16)
    for key in sorted(tensors):
        h.update(f"{key}{tuple(tensors[key].shape)}".encode())
        h.update(memoryview(tensors[key].detach().cpu().contiguous().numpy()).cast("B"))  # type: ignore[arg-type]
    return h.hexdigest()


def fingerprint(
    config: Mapping[str, Any],
    data: Tensor,
    warm: Mapping[str, Tensor] | None,
    context: FitContext,
    labels: Tensor | None = None,
) -> dict[str, Any]:
    """What a checkpoint must agree with to be continued: settings, seed, device, and hashes of data and warm start."""
    held_out = {} if context.held_out is None else {"x": context.held_out}
    rows = {"x": data} if labels is None else {"x": data, "labels": labels}
    tensors = {"data": rows, "warm start": warm or {}, "held-out rows": held_out}
    hashes = {name: digest(group) for name, group in tensors.items()}
    return {**config, "seed": context.seed, "device": context.device, **hashes}


class Evaluation:
    """The loss of a network on given rows at fixed noise levels and noise, with their labels if it takes any."""

    def __init__(
        self, rows: Tensor, law: NoiseLaw, seed: int, device: str | torch.device, labels: Tensor | None = None
    ) -> None:
        g = seeding.generator(seed, "evaluation")
        m = EVALUATION_ROWS
        index = torch.randperm(len(rows), generator=g).repeat(-(-m // len(rows)))[:m]
        u = (torch.arange(m) + torch.rand(m, generator=g)) / m
        x0 = rows[index.to(rows.device)].to(device)
        z = torch.randn(x0.shape, generator=g).to(device)
        self._lam = law.quantile(u).to(device)
        self._input, self._target = noised(x0, z, self._lam, law.sigma_data)
        self._weight = law.weight(self._lam)
        self._labels = None if labels is None else labels[index.to(labels.device)].to(device)

    @torch.no_grad()
    def __call__(self, net: Network) -> list[float]:
        """Mean squared error in each of ``BINS`` bins of increasing noise level; their mean is the loss."""
        errors = []
        for part in torch.split(torch.arange(len(self._lam), device=self._lam.device), 128):
            with labelled(net, None if self._labels is None else self._labels[part]):
                out = net(self._input[part], self._lam[part])
            errors.append((out - self._target[part]).square().flatten(1).mean(dim=1))
        error = torch.cat(errors) if self._weight is None else torch.cat(errors) * self._weight
        return [float(e) for e in error.double().view(BINS, -1).mean(dim=1)]


@dataclass(frozen=True)
class Finished:
    """The checkpoint of a fit that is done, to take its result up."""

    saved: tuple[dict[str, Tensor], dict[str, Any]]

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and metadata of the last checkpoint."""
        return self.saved

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Nothing is left to save."""


@dataclass(frozen=True)
class Told:
    """What a conditional network is told: classes of the training rows ``[n]`` and of those set apart ``[m]``."""

    train: Tensor
    apart: Tensor | None = None


@dataclass
class _State:
    """Everything that a checkpoint holds besides AdamW's moments."""

    step: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    stale: int = 0
    done: bool = False
    earlier_loss: float = math.nan


class Training:
    """One fit: build it, call :meth:`run`, read :attr:`average` and :meth:`summary`.

    Args:
        config: the estimator.
        net: the network, initialised; it is trained in place.
        data: ``[n, ...]`` float32 rows.
        law: noise levels.
        steps: optimisation steps.
        context: seed, held-out rows, checkpoint, progress, device.
        identity: see :func:`fingerprint`.
        engine: where it runs; None means PyTorch alone on the context's device.
        apart: rows to select by, ``[m, ...]``; None selects by the held-out rows.
        told: classes of the rows of a conditional network.
    """

    def __init__(
        self,
        config: DenoiserConfig,
        net: nn.Module,
        data: Tensor,
        law: NoiseLaw,
        steps: int,
        context: FitContext,
        identity: Mapping[str, Any],
        engine: Engine | None = None,
        apart: Tensor | None = None,
        told: Told | None = None,
    ) -> None:
        self.config, self.law, self.steps, self.context, self.identity = config, law, steps, context, identity
        self.engine = engine or Plain(context.device)
        self.device = self.engine.device
        self.data = data.to(self.device)
        self.labels = None if told is None else told.train.to(self.device)
        self.net = net.train()
        self.average = copy.deepcopy(net).eval().requires_grad_(False)
        self.forward: Network = compiled(net) if config.compiles(context.device) else net
        # net's parameters are views of `weights` and average's of `averages`
        self.weights, self.averages = flatten(net), flatten(self.average)
        self.best: Tensor | None = None
        o, arguments = config.optimiser, dict(config.optimiser.arguments or {})
        self.fused = o.algorithm == optimisers.DEFAULT
        if self.fused:
            arguments = {"betas": (0.9, o.beta2), "fused": True} | arguments
        self.optimiser = optimisers.build(o.algorithm, self.weights, o.lr, o.weight_decay, arguments)
        self.state = _State()
        self.dropouts = [m for m in net.modules() if isinstance(m, Dropout) and m.p > 0]
        self._order: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64))
        self.held_out = None
        if context.held_out is not None:
            known = None if told is None else context.held_out_labels
            self.held_out = Evaluation(context.held_out, law, context.seed, self.device, known)
        known = None if told is None else told.apart
        self.apart = None if apart is None else Evaluation(apart, law, context.seed, self.device, known)
        self.judged_loss: float | None = None

    def run(self) -> None:
        """Train to the end, or to the early stop, from the last checkpoint if there is one."""
        self._resume()
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            while not self.state.done:
                self._step(self.state.step)
                self.state.step += 1
                step, last = self.state.step, self.state.step == self.steps
                if step == round(LATE * self.steps) and not last:
                    self.state.earlier_loss = self._train_loss()
                if last or step % self.config.optimiser.holdout_every == 0:
                    self._evaluate()
                self.state.done = last or (0 < self.config.optimiser.patience <= self.state.stale)
                if self.state.done or (self.config.checkpoint_every and step % self.config.checkpoint_every == 0):
                    self._save()
                self.context.progress(step / self.steps, self._text())
        if self.best is not None:
            self.averages.copy_(self.best)

    def summary(self) -> dict[str, float]:
        """Numbers of the fit; losses are those of the returned weights at fixed noise levels and noise."""
        out = {"steps": float(self.state.step), "best_step": float(self.state.best_step or self.state.step)}
        out["train_loss"] = self._train_loss()
        if math.isfinite(self.state.earlier_loss) and self.best is None:
            out["train_loss_at_80_percent"] = self.state.earlier_loss
        if self.apart is not None:
            out["validation_loss"] = math.fsum(self.apart(self.average)) / BINS
        if self.held_out is not None:
            bins = self.held_out(self.average)
            out["held_out_loss"] = math.fsum(bins) / BINS
            for b, value in enumerate(bins):
                out[f"held_out_loss[{self._bin(b / BINS, (b + 1) / BINS)}]"] = value
        return out

    def _bin(self, low: float, high: float) -> str:
        """What the noise levels between two quantiles are called."""
        return f"t={self.law.time(low):.3g}..{self.law.time(high):.3g}"

    def _train_loss(self) -> float:
        loss = Evaluation(self.data, self.law, self.context.seed, self.device, self.labels)
        return math.fsum(loss(self.average)) / BINS

    def _batch(self, step: int) -> Tensor:
        return self.data[self._index(step)]

    def _index(self, step: int) -> Tensor:
        """Numbers of the rows of a step."""
        n, b = len(self.data), self.config.optimiser.batch
        position, parts = step * b, []
        while b:
            epoch, offset = divmod(position, n)
            if self._order[0] != epoch:
                g = seeding.generator(self.context.seed, "order", epoch)
                self._order = (epoch, torch.randperm(n, generator=g))
            parts.append(self._order[1][offset : offset + b])
            position, b = position + len(parts[-1]), b - len(parts[-1])
        return (torch.cat(parts) if len(parts) > 1 else parts[0]).to(self.device)

    def _step(self, step: int) -> None:
        g = seeding.generator(self.context.seed, "step", step, device=self.device)
        index = self._index(step)
        x0, y = self.data[index], None
        z = torch.empty_like(x0).normal_(generator=g)
        u = torch.rand(len(x0), generator=g, device=self.device)
        lam = self.law.quantile((torch.arange(len(x0), device=self.device) + u) / len(x0))
        if self.labels is not None:
            left_out = torch.rand(len(x0), generator=g, device=self.device) < self.config.label_dropout
            y = torch.where(left_out, UNKNOWN, self.labels[index])
        self._prepare(step, g)
        if self.engine.processes > 1:
            mine = slice(self.engine.rank, None, self.engine.processes)
            x0, z, lam = x0[mine], z[mine], lam[mine]
            y = None if y is None else y[mine]
            if self.engine.rank and self.dropouts:
                g.manual_seed(seeding.stream_seed(self.context.seed, "step", step, "rank", self.engine.rank))
        x, target = noised(x0, z, lam, self.law.sigma_data)
        weight = self.law.weight(lam)
        with self.engine.autocast(), labelled(self.net, y):
            out = self.forward(x, lam)
        if weight is None:
            loss = torch.nn.functional.mse_loss(out.float(), target)
        else:
            loss = ((out.float() - target).square().flatten(1).mean(dim=1) * weight).mean()
        self._descend(loss, step)

    def _prepare(self, step: int, g: torch.Generator) -> None:
        """Set dropout masks and learning rate of a step."""
        for module in self.dropouts:
            module.generator = g
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, step, self.steps)

    def _descend(self, loss: Tensor, step: int) -> None:
        """Follow the gradient of a loss; the average follows the weights."""
        self.optimiser.zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.weights.grad is not None:
            self.engine.mean(self.weights.grad)
        self.optimiser.step()
        self.averages.lerp_(self.weights, 1 - ema_decay(self.config.optimiser.ema, step))

    def _evaluate(self) -> None:
        if not bool(torch.isfinite(self.averages).all()):
            raise InputError(
                f"training diverged: weights are not finite after step {self.state.step}",
                f"lower lr (now {self.config.optimiser.lr}) or raise warmup, and check the scale of the data",
            )
        judge = self.apart or self.held_out
        if judge is None:
            return
        self.judged_loss = loss = math.fsum(judge(self.average)) / BINS
        if loss < self.state.best_loss:
            self.state.best_loss, self.state.best_step, self.state.stale = loss, self.state.step, 0
            if self.config.optimiser.patience:
                self.best = self.averages.clone()
        else:
            self.state.stale += 1

    def _text(self) -> str:
        name = "validation" if self.apart is not None else "held-out"
        shown = "" if self.judged_loss is None else f", {name} loss {self.judged_loss:.4f}"
        return f"step {self.state.step}/{self.steps}{shown}"

    def _save(self) -> None:
        if self.context.checkpoint is None or self.engine.rank:
            return
        memory = self.optimiser.state[self.weights]
        tensors = {"weights": self.weights, "averages": self.averages}
        tensors |= {k: v for k, v in memory.items() if isinstance(v, Tensor)}
        numbers = {k: v for k, v in memory.items() if isinstance(v, int | float)}
        if self.best is not None:
            tensors["best"] = self.best
        copies = {k: v.to("cpu", copy=True) for k, v in tensors.items()}
        state = {k: str(v) if isinstance(v, float) else v for k, v in vars(self.state).items()}
        self.context.checkpoint.save(
            copies, {"fit": json.loads(json.dumps(self.identity)), "state": state, "memory": numbers}
        )

    def _resume(self) -> None:
        found = self.context.checkpoint.load() if self.context.checkpoint is not None else None
        if found is None:
            return
        tensors, meta = found
        theirs, ours = meta.get("fit", {}), json.loads(json.dumps(self.identity))
        if theirs != ours:
            key = next(k for k in [*ours, *theirs] if theirs.get(k) != ours.get(k))
            raise InputError(
                f"the training checkpoint belongs to another fit: its {key} is {theirs.get(key)!r}, "
                f"here it is {ours.get(key)!r}",
                "continue with the settings and data of that fit, or remove the checkpoint to start over",
            )

        self.weights.copy_(tensors["weights"])
        self.averages.copy_(tensors["averages"])
        self.best = tensors["best"].to(self.device, copy=True) if "best" in tensors else None
        own = {k: v for k, v in tensors.items() if k not in {"weights", "averages", "best"}}
        self.optimiser.state[self.weights] = meta.get("memory", {}) | {
            k: v.to(self.device if v.ndim or self.fused else "cpu", copy=True) for k, v in own.items()
        }
        numbers = {k: float(meta["state"].get(k, math.nan)) for k in ("best_loss", "earlier_loss")}
        self.state = _State(**meta["state"] | numbers)
