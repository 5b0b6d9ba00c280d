r"""The image experiments of [KTV] (its Figures 8, 9, 10, and Figure 2 on a trained network), on runs of any images.

- ``fig8``: samples by fresh fraction and generation.
- ``fig9``: drift in the features of a classifier, mean over seeds with the interval between them, beside the floor.
- ``fig10``: the score error of each generation's network. Its training law q_i is known through rows alone, so

  * :math:`G^2`, the part that the samples can feel, is bounded from below by a critic (theory 3.4);
  * a **reference**, the same network trained further on the same rows, gives the excess denoising energy
    :math:`\varepsilon_*^2(\hat s) - \varepsilon_*^2(r)`, a lower bound of :math:`\varepsilon_*^2`, and an observability
    of :math:`e = \hat s - r` by the regression of [KTV], with the reverse paths of r as ideal ones and forward copies
    of them. That :math:`\eta` is of the difference of two networks that share most of their errors, and low by what
    the regressor misses: it can compare generations, and cannot certify a level. The two-copy Stein estimator is not
    used, because it needs :math:`E L = 0`, which holds for the true score alone.

- ``fig2-images``: errors of known form put on a trained network, which then plays the true score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from driftlaw.analysis.opened import OpenRun
from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.files import make_folder
from driftlaw.learn.denoiser.learner import Denoiser
from driftlaw.learn.estimator import FitContext, Model
from driftlaw.loop.history import History
from driftlaw.loop.step.setting import Setting, training_set, unseen_rows
from driftlaw.loop.store import write_atomic
from driftlaw.loop.sweep import Cell
from driftlaw.measure.paths.excess import excess_energy
from driftlaw.measure.paths.gradient import MIN_ROWS, gradient_energy
from driftlaw.measure.paths.regression import observability_regression
from driftlaw.process.laws.kernel_sum import KernelMixture
from driftlaw.process.score import Perturbed, Time
from driftlaw.reproduce.mixture.perturbations import fields
from driftlaw.reproduce.mixture.study import over_seeds
from driftlaw.reproduce.records import IMAGES, FigureData, estimate_of, row
from driftlaw.seeding import stream_seed

#: Images shown of each generation.
TILES = 20

#: ``watch(what)``.
Watch = Callable[[str], None]


@dataclass(frozen=True)
class Effort:
    """How much is spent on the score errors of one generation.

    Args:
        reference_steps: optimiser steps that the reference is trained beyond the network, on the same rows.
        references: seeds of each alpha whose networks get a reference; the others have the critic alone.
        rows: unseen rows of q_i for the critic and the excess energy.
        paths, steps: simulated reverse paths of eta and their Euler-Maruyama steps.
        copies: forward paths from each end point, without which few paths see no eta in many dimensions.
    """

    reference_steps: int = 150
    references: int = 1
    rows: int = 300
    paths: int = 200
    steps: int = 30
    copies: int = 4

    def __post_init__(self) -> None:
        if min(self.reference_steps, self.rows, self.paths, self.steps) < 2 or min(self.references, self.copies) < 0:
            raise InputError(f"the effort {self} has a size below 2", "give larger sizes")


@dataclass(frozen=True)
class Flat:
    """A network's score on flattened rows."""

    model: Model
    shape: tuple[int, ...]

    def score(self, x: Tensor, t: Time) -> Tensor:
        """``[n, d] -> [n, d]``."""
        return self.model.score(x.reshape(-1, *self.shape), t).flatten(1)


def image_figures(
    runs: Mapping[Cell, History],
    folder: Path,
    effort: Effort,
    *,
    names: Sequence[str] = IMAGES,
    seed: int = 0,
    watch: Watch = print,
) -> list[FigureData]:
    """Measure finished image runs.

    Args:
        runs: of one study, by alpha and seed.
        folder: where the classifier and finished parts are kept; a killed analysis goes on with them.
        effort: of the score errors.
        names: figures to make; the others cost nothing.
        seed: of the named streams.
        watch: told about each part.

    Raises:
        InputError: rows that are not images.
    """
    opened = {cell: OpenRun(h) for cell, h in sorted(runs.items(), key=lambda item: (item[0].alpha, item[0].seed))}
    first = next(iter(opened.values()))
    if len(first.study.source.shape) != 3:
        raise InputError(f"{first.study.source.name} has rows of shape {list(first.study.source.shape)}, not images")

    def label(cell: Cell) -> str:
        return str(cell.folder).replace("/", "-")

    def known() -> pd.DataFrame:
        watch("errors of known form on a network")
        settings = _paths(effort, seed)
        return _kept(folder / "perturbations.parquet", settings, partial(perturbed, first, effort, seed))

    def samples() -> pd.DataFrame:
        shown = min(c.seed for c in opened)
        return pd.concat([_tiles(c, r) for c, r in opened.items() if c.seed == shown], ignore_index=True)

    def drift() -> pd.DataFrame:
        parts = []
        for cell, run in opened.items():
            watch(f"{label(cell)}: drift in the classifier's features")
            parts.append(_kept(folder / f"{label(cell)}-drift.parquet", {}, partial(_drift, run, cell, folder)))
        return _over_seeds(pd.concat(parts, ignore_index=True))

    def errors() -> pd.DataFrame:
        parts = []
        for cell, run in opened.items():
            watch(f"{label(cell)}: score errors")
            rank = sorted(c.seed for c in opened if c.alpha == cell.alpha).index(cell.seed)
            used = effort if rank < effort.references else replace(effort, references=0)
            settings = {**asdict(used), "seed": seed}
            path = folder / f"{label(cell)}-errors.parquet"
            parts.append(_kept(path, settings, partial(_errors, run, cell, used, seed)))
        return _over_seeds(pd.concat(parts, ignore_index=True))

    makers = {
        "fig2-images": ("eta", known),
        "fig8": ("samples", samples),
        "fig9": ("drift", drift),
        "fig10": ("errors", errors),
    }
    return [FigureData(name, {table: make()}) for name, (table, make) in makers.items() if name in names]


def _kept(path: Path, settings: Mapping[str, Any], make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table at `path` if it was made with these settings, else a new one that is kept there."""
    if path.is_file():
        try:
            found = pd.read_parquet(path)
        except (OSError, ValueError):
            found = pd.DataFrame()
        if len(found) and found.attrs.get("settings") == dict(settings):
            return found
    made = make()
    made.attrs["settings"] = dict(settings)
    make_folder(path.parent)
    write_atomic(path, lambda f: made.to_parquet(f, index=False))
    return made


# -- drift ------------------------------------------------------------------------------------------------------------


def _drift(run: OpenRun, cell: Cell, folder: Path) -> pd.DataFrame:
    """Set distances of each generation's stored rows in the features of one classifier, and their floor."""
    study = run.study.with_settings({"measures.features": "classifier"})
    setting = Setting(study, folder=folder)
    reference = setting.reference
    if reference is None:
        raise InputError(f"{run.history.directory.path} has no held-out rows to compare with", "set measures.samples")
    rows = [
        row(e, alpha=cell.alpha, seed=cell.seed, generation=0, quantity=f"{k}, floor") for k, e in setting.floor.items()
    ]
    for g in run.history:
        found = reference.compare(torch.from_numpy(np.array(run.samples(g.index))), setting.real_rows(g.index))
        rows += [row(e, alpha=cell.alpha, seed=cell.seed, generation=g.index, quantity=k) for k, e in found.items()]
    return pd.DataFrame(rows)


def _over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with the interval between them; a single seed keeps its own."""
    rows = []
    for (alpha, generation, quantity), group in table.groupby(["alpha", "generation", "quantity"], sort=False):
        found = over_seeds([{"x": estimate_of(r)} for r in group.to_dict("records")])["x"]
        rows.append(row(found, alpha=alpha, generation=generation, quantity=quantity, seeds=len(group)))
    return pd.DataFrame(rows)


# -- score errors -----------------------------------------------------------------------------------------------------


def _errors(run: OpenRun, cell: Cell, effort: Effort, seed: int) -> pd.DataFrame:
    """Score errors of every generation's network."""
    rows = []
    for g in run.history:
        for quantity, e in score_errors(run, g.index, effort, stream_seed(seed, "images", str(cell.folder), g.index)):
            rows.append(row(e, alpha=cell.alpha, seed=cell.seed, generation=g.index, quantity=quantity))
    return pd.DataFrame(rows)


def score_errors(run: OpenRun, index: int, effort: Effort, seed: int) -> Iterator[tuple[str, Estimate]]:
    """Name and estimate of each score error of generation `index`."""
    model, shape = run.model(index), run.study.source.shape
    study = run.study.with_settings({"measures.critic_rows": effort.rows})
    rows = unseen_rows(replace(run.setting, study=study), index, run.past)
    t0, T = horizon(model, run)
    if len(rows) < MIN_ROWS:
        yield "gradient", Estimate.refused("critic", f"{len(rows)} unseen rows; a critic needs {MIN_ROWS}")
        return
    yield "gradient", gradient_energy(model, rows, t0=t0, T=T, critic="fourier", n=len(rows), seed=seed)
    if not effort.references:
        return
    reference = longer(run, index, effort.reference_steps, seed)
    excess = excess_energy(model, reference, rows, t0=t0, T=T, seed=seed)
    yield "excess", excess.total
    for low, high, e in zip(excess.edges[:-1], excess.edges[1:], excess.by_time, strict=True):
        yield f"excess, t = {low:.2g} to {high:.2g}", e
    true = Flat(reference, shape)
    law = KernelMixture(rows.flatten(1), 0.0)
    yield "eta", observability_regression(Flat(model, shape), true, law, **_paths(effort, seed))


def _paths(effort: Effort, seed: int) -> dict[str, int]:
    return {"n": effort.paths, "steps": effort.steps, "copies": effort.copies, "seed": seed}


def horizon(model: Model, run: OpenRun) -> tuple[float, float]:
    """Where the network's score is used: its own t0 and T."""
    measures, config = run.study.measures, getattr(model, "config", None)
    return float(getattr(config, "t0", measures.t0)), float(getattr(config, "T", measures.T))


def longer(run: OpenRun, index: int, steps: int, seed: int) -> Model:
    """The network of generation `index` trained for `steps` more on the same rows.

    Raises:
        InputError: a learner that is not a :class:`~driftlaw.learn.denoiser.learner.Denoiser`.
    """
    estimator = run.study.estimator
    if not isinstance(estimator, Denoiser):
        raise InputError(f"{type(estimator).__name__} cannot be trained further", "use a denoiser, or references=0")
    rows, _ = training_set(run.setting, index, run.past)
    context = FitContext(seed=stream_seed(seed, "reference"), warm_start=run.model(index))
    return replace(estimator, optimiser=replace(estimator.optimiser, warm_steps=steps)).fit(rows, context)


def perturbed(run: OpenRun, effort: Effort, seed: int) -> pd.DataFrame:
    """Observability of errors of known form around the first generation's network, which plays the true score."""
    model, shape = run.model(1), run.study.source.shape
    held_out = run.setting.held_out
    if held_out is None:
        raise InputError(f"{run.history.directory.path} has no held-out rows", "set measures.samples")
    x = held_out.x.flatten(1)
    true, law, rows = Flat(model, shape), KernelMixture(x, 0.0), []
    for kind, text, field in fields(true, x.shape[1], seed):  # type: ignore[arg-type]  # only its score is used
        stream = stream_seed(seed, "images", kind)
        e = observability_regression(Perturbed(true, field), true, law, **_paths(effort, stream))
        rows.append(row(e, law="trained network", kind=kind, text=text, estimator="regression"))
    return pd.DataFrame(rows)


# -- samples ----------------------------------------------------------------------------------------------------------


def _tiles(cell: Cell, run: OpenRun) -> pd.DataFrame:
    """The first images of each generation as bytes ``[c, h, w]``, their values scaled as the real ones' range."""
    real = torch.from_numpy(np.array(run.samples(0)))
    low, high = float(real.min()), float(real.max())
    rows = []
    for n in range(len(run.history) + 1):
        x = np.array(run.samples(n)[:TILES], dtype=np.float64)
        pixels = np.clip((x - low) / max(high - low, 1e-9) * 255, 0, 255).round().astype(np.uint8)
        rows += [
            {"alpha": cell.alpha, "generation": n, "tile": k, "shape": list(image.shape), "pixels": image.tobytes()}
            for k, image in enumerate(pixels)
        ]
    return pd.DataFrame(rows)
