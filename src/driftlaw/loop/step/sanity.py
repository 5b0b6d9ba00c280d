r"""What makes a generation's numbers mean something else than they seem to, found before any measure is computed.

Each check compares a model with the rows it learned from, and gives a :class:`~driftlaw.loop.record.Finding` or none:

- *spread*: samples wider or narrower than the training rows, in all or in one direction: the log ratio of the standard
  deviations is beyond max(log 4/3, 5 standard errors of it were both one law). Directions are principal ones of half
  the rows and of half the samples, judged on the other halves;
- *start*: samples start from N(0, I) at time T, where the rows' law has
  :math:`KL = \tfrac12 \sum_i (\lambda_i - 1 - \log \lambda_i) + \tfrac12 e^{-T} |m|^2`, with :math:`\lambda_i - 1 =
  e^{-T} (v_i - 1)`, m and v_i the rows' mean and variances, if it is Gaussian: more than :data:`MOST_START` nats;
- *blur*: noise of :math:`\sqrt{e^{t_0} - 1}` at t0 hides what the rows have at smaller scales: more than half of the
  pairs that are within three blurs of each other are within one;
- *solver*: the model's own solver on the exact score of a Gaussian with the rows' variances, propagated without
  sampling (both are linear): the standard deviation is off by more than :data:`MOST_SOLVER`;
- *clip*, *guidance*: they move more than 1 % of the denoised values by more than a tenth of the rows' deviation;
- *training*: the loss fell by more than :data:`MOST_FALL` over the last fifth of the fit;
- *classes*: a class or mode of the real data of which at least 25 samples were to be expected has none.

Reference: this project; the exact score of a Gaussian is theory section 2, the start docs/derivations.md section 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from driftlaw import seeding
from driftlaw.learn.estimator import Model
from driftlaw.loop.record import Finding
from driftlaw.loop.step.setting import Setting, law_of
from driftlaw.loop.step.training import TrainingSet
from driftlaw.measure.sets.moments import class_counts
from driftlaw.process.sampler import sample
from driftlaw.process.schedule import alpha, variance

#: Limits, see this module's page: ratio of deviations, standard errors, nats, relative errors, shares, rows.
WIDEST, ERRORS, MOST_START, MOST_SOLVER, MOST_FALL, MOST_MOVED, LEAST_CLASS = 4 / 3, 5.0, 0.1, 0.05, 0.02, 0.01, 25.0
#: Rows that a check looks at, rows whose pairs are, and directions; fewer rows are looked at in all only.
ROWS, PAIRS, DIRECTIONS, LEAST_ROWS = 10_000, 1_000, 16, 200


def findings(setting: Setting, index: int, model: Model, trained: TrainingSet, samples: Tensor) -> tuple[Finding, ...]:
    """What a reader must know before the measures of generation `index`.

    Args:
        setting: of the run.
        index: generation.
        model: p_hat^index.
        trained: what it learned from.
        samples: ``[m, ...]`` that it drew.
    """
    rows = trained.rows
    seed = seeding.stream_seed(setting.study.seed, "generation", index, "sanity")
    x, drawn = _some(rows, ROWS, seed).flatten(1).double(), _some(samples, ROWS, seed).flatten(1).double()
    found: list[Finding] = []
    found += spread(x, drawn, "its bandwidth or t0" if getattr(model, "fitted", None) is not None else "")
    own = getattr(model, "t0", 0.0)
    if own > 0 and getattr(model, "fitted", None) is None:
        found += blur(x[:PAIRS], own)
    steps = getattr(model, "sampler_steps", None)
    if steps is not None:
        grid, method = steps()
        found += start(x, float(grid[0]))
        found += solver(x, grid, method)
    acting = getattr(model, "acting", None)
    if acting is not None:
        shares = acting(rows, seed, trained.labels)
        found += [_acting(name, share) for name, share in shares.items() if share > MOST_MOVED]
    found += falling(getattr(model, "training", {}))
    found += absent(setting, samples)
    return tuple(found)


def spread(rows: Tensor, samples: Tensor, cause: str = "") -> Iterator[Finding]:
    """Samples wider or narrower than the rows, both float64 ``[n, d]``; `cause` in words where it is known."""
    because = f" ({cause})" if cause else ""
    ratio, limit = _ratio(_square_norms(rows), _square_norms(samples))
    if abs(math.log(ratio)) > limit:
        yield _spread_finding(ratio, "", because)
        return
    if min(len(rows), len(samples)) < LEAST_ROWS:
        return
    worst = 1.0
    floor = 1e-3 * float(rows.var(dim=0).mean())
    for basis, own in ((rows, True), (samples, False)):
        rest, v = basis[1::2], _principal(basis[::2])
        a, b = (rest, samples) if own else (rows, rest)
        for one, other in zip(*((_centred(part) @ v).square().T for part in (a, b)), strict=True):
            ratio, limit = _ratio(one, other, floor)
            if abs(math.log(ratio)) > limit and abs(math.log(ratio)) > abs(math.log(worst)):
                worst = ratio
    if worst != 1.0:
        yield _spread_finding(worst, " in one direction", because)


def start(rows: Tensor, T: float) -> Iterator[Finding]:
    """KL of the rows' law at T, as if Gaussian, to N(0, I), for rows ``[n, d]``."""
    keep, m = math.exp(-T), rows.mean(dim=0)
    values = _variances(rows)
    excess = keep * (values - 1)
    missing = rows.shape[1] - len(values)  # directions in which the rows do not vary
    kl = 0.5 * float((excess - torch.log1p(excess)).sum() + keep * m.square().sum())
    kl += 0.5 * missing * (-keep - math.log1p(-keep))
    if kl > MOST_START:
        yield Finding(
            "start",
            f"samples start from N(0, I) at T = {T:.3g}, but the rows are still {kl:.2g} nats away from it there: "
            "raise T, or centre and scale the data",
            kl,
        )


def blur(rows: Tensor, t0: float) -> Iterator[Finding]:
    """Whether structure of rows ``[n, d]`` is below the noise of t0."""
    width = math.sqrt(math.expm1(t0))
    distance = torch.pdist(rows) / (width * math.sqrt(2 * rows.shape[1]))
    near = distance[(distance < 3) & (distance > 1e-6)]
    if 2 * len(near) >= len(rows) and float((near < 1).double().mean()) > 0.5:
        scale = 1 / float(near.square().mean().sqrt())
        yield Finding(
            "blur",
            f"stopping at t0 = {t0:.3g} blurs by {width:.2g}, {scale:.2g} times the scale of the rows' "
            "finest structure: lower t0, or scale the data up",
            scale,
        )


def solver(rows: Tensor, grid: Tensor, method: object) -> Iterator[Finding]:
    """Error of a solver's standard deviation on the exact score of a Gaussian with the variances of rows ``[n, d]``."""
    values = _variances(rows)
    values = values[values > 1e-3 * float(rows.var(dim=0).mean())]
    if not len(values):
        return
    values = values[torch.linspace(0, len(values) - 1, min(DIRECTIONS, len(values))).round().long()]
    ratios = solver_ratios(values, grid, method)
    worst = float(ratios[ratios.log().abs().argmax()])
    if abs(math.log(worst)) > math.log1p(MOST_SOLVER):
        name = method if isinstance(method, str) else type(method).__name__
        yield Finding(
            "solver",
            f"the solver, not the model, {'shrinks' if worst < 1 else 'widens'}: on the exact score of a Gaussian with "
            f"these rows' variances its samples have {worst:.2g} of the right standard deviation in the worst "
            f"direction ({len(grid) - 1} steps of {name.lower()}): raise solver_steps",
            worst,
        )


def solver_ratios(values: Tensor, grid: Tensor, method: object) -> Tensor:
    """Standard deviation at the end of a solver's steps over the exact one, for Gaussians of variances ``[k]``.

    The score is linear, so a step is: row 0 carries a start of one standard deviation, row i + 1 the noise of step i.
    """
    n = len(grid) - 1

    def score(x: Tensor, t: Tensor) -> Tensor:
        return -x / (1 + torch.exp(-t.double()) * (values - 1))

    def noise(i: int) -> Tensor:
        z = torch.zeros(n + 1, len(values), dtype=torch.float64)
        z[i + 1] = 1
        return z

    x = torch.zeros(n + 1, len(values), dtype=torch.float64)
    x[0] = (1 + math.exp(-float(grid[0])) * (values - 1)).sqrt()
    end = sample(score, x, grid, method, noise=noise)  # type: ignore[arg-type]
    last = float(grid[-1])
    return (end.square().sum(dim=0) / (float(alpha(last)) ** 2 * values + float(variance(last)))).sqrt()


def falling(training: object) -> Iterator[Finding]:
    """Whether a fit was stopped while it still learned: its last loss, and that after four fifths of it."""
    numbers = training if isinstance(training, dict) else {}
    before, last = numbers.get("train_loss_at_80_percent"), numbers.get("train_loss")
    if before is None or last is None or not last < (1 - MOST_FALL) * before:
        return
    fall = 1 - last / before
    yield Finding(
        "training",
        f"the training loss still fell at its end, by {100 * fall:.2g} % over the last fifth: train longer",
        fall,
    )


def absent(setting: Setting, samples: Tensor) -> Iterator[Finding]:
    """Classes or modes of the real data that the samples do not have."""
    law = law_of(setting.study.source)
    names: tuple[str, ...]
    if hasattr(law, "responsibilities"):
        share = law.weights.double()  # type: ignore[union-attr]
        labels, names = law.responsibilities(samples).argmax(dim=1), tuple(f"mode {k}" for k in range(len(share)))  # type: ignore[union-attr]
    elif setting.reference is not None and setting.reference.class_model is not None:
        model = setting.reference.class_model
        share, labels, names = model.shares, model.predict(samples), model.classes
    else:
        return
    missing = (class_counts(labels, len(names)) == 0) & (share * len(samples) >= LEAST_CLASS)
    if bool(missing.any()):
        gone = [name for name, flag in zip(names, missing.tolist(), strict=True) if flag]
        shown = ", ".join(gone[:8]) + (" ..." if gone[8:] else "")
        yield Finding("classes", f"{len(gone)} of {len(names)} classes are absent from the samples: {shown}", len(gone))


def _acting(name: str, share: float) -> Finding:
    what = {
        "clip": "the bound on denoised values (clip)",
        "guidance": "guidance",
    }[name]
    fix = {
        "clip": "raise clip, or train longer",
        "guidance": "samples follow the guided law, not the one that was learned",
    }[name]
    return Finding(
        name, f"{what} moves {100 * share:.2g} % of values by more than a tenth of their deviation: {fix}", share
    )


def _spread_finding(ratio: float, where: str, because: str) -> Finding:
    word = "wide" if ratio > 1 else "narrow"
    return Finding(
        "spread", f"samples are {ratio:.3g} times as {'wide'} as their training rows{where}: too {word}{because}", ratio
    )


def _ratio(rows: Tensor, samples: Tensor, floor: float = 0.0) -> tuple[float, float]:
    """Ratio of deviations from squares ``[n]`` and ``[m]``, and the limit of its log.

    The standard error is that of two draws of the rows' law, from its kurtosis.
    """
    v, w = (float(part.mean()) + floor for part in (rows, samples))
    if v <= 0 or w <= 0:
        return (1.0 if v == w else math.inf if v <= 0 else 1e-300), math.log(WIDEST)
    scatter = max(float(rows.std()), float(samples.std()) if w < v else 0.0)  # of wide samples it says too much
    error = 0.5 * scatter / v * math.sqrt(1 / len(rows) + 1 / len(samples))
    return math.sqrt(w / v), max(math.log(WIDEST), ERRORS * error)


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(dim=0)


def _square_norms(x: Tensor) -> Tensor:
    return _centred(x).square().sum(dim=1)


def _some(x: Tensor, most: int, seed: int) -> Tensor:
    """At most so many rows in random order: neighbours may share an origin."""
    return x[torch.randperm(len(x), generator=seeding.generator(seed, "rows"))[:most]]


def _principal(x: Tensor) -> Tensor:
    """Leading principal directions ``[d, k]`` of the first rows."""
    centred = _centred(x[:512])
    v: Tensor = torch.linalg.svd(centred, full_matrices=False).Vh
    return v[:DIRECTIONS].T


def _variances(x: Tensor) -> Tensor:
    """Variances along the principal directions of the first rows, the largest first: at most as many as rows."""
    centred = _centred(x[: 2 * PAIRS])
    values: Tensor = torch.linalg.svdvals(centred)
    return values.square() / len(centred)
