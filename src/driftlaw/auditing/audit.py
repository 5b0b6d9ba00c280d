r"""``audit``: real data against a line of generations, from data or from sketches (this project, theory 4, 5, 8).

Everything but nearest neighbours and pictures comes from sketches, so auditing data and auditing their sketches is the
same computation. The steps: sketch what is not a sketch yet, like the real data; whiten by the real covariance
(``coordinates``); drift, floor and p-value of each generation (``significance``); innovations, alignment and effective
alpha of the line (``dynamics``), hence regime and forecast (``forecast``); what moved (``changes``, ``rows``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from driftlaw.auditing import rows
from driftlaw.auditing.changes import changes
from driftlaw.auditing.coordinates import Coordinates, Whitening, coordinates_of
from driftlaw.auditing.dynamics import Dynamics
from driftlaw.auditing.evidence.dependence import dependence_notes, design_effects
from driftlaw.auditing.evidence.eigenimages import Unmapping
from driftlaw.auditing.reading.rule import open_like, order_question
from driftlaw.auditing.record import Audit, GenerationAudit
from driftlaw.auditing.significance import Significance, assess, null_range
from driftlaw.auditing.sketching import sketch
from driftlaw.auditing.verdict.columns import columns as columns_of
from driftlaw.auditing.verdict.columns import kept
from driftlaw.auditing.verdict.looks import looks
from driftlaw.auditing.verdict.shape import shape
from driftlaw.auditing.verdict.verdict import findings
from driftlaw.data.rows.open import open_any
from driftlaw.data.rows.opened import Options, Rows, refuse_unused
from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.measure.sketch.features import AUTO
from driftlaw.measure.sketch.file import is_sketch
from driftlaw.measure.sketch.sketch import Sketch
from driftlaw.numerics.words import p_value, share
from driftlaw.progress import Progress
from driftlaw.theory.refresh import FixedFraction
from driftlaw.theory.regimes import Regime, classify

#: Rows below which a generation's numbers are called rough.
FEW_ROWS = 100


def audit(
    real: Any,
    generations: Sequence[Any],
    *,
    holdout: Any = None,
    features: str | Any = AUTO,
    dimension: int | None = None,
    alpha: float | None = None,
    shared_rows: bool = False,
    from_real: bool = True,
    block: int | None = None,
    columns: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    key: str | None = None,
    size: int | None = None,
    mode: Literal["L", "RGB"] | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Audit:
    """Audit a line of generations against real data.

    Args:
        real: real data in any form that :func:`driftlaw.sketch` takes, or its sketch (or the file of one).
        generations: one or more, oldest first; data or sketches made like the real one.
        holdout: real rows that no model was trained on, data or a sketch. It gives the real-vs-real floor a measured
            value, the near-duplicate rate a meaning, and few real rows a clean covariance.
        features: "auto" (columns of tables and vectors, "pca" of images), "pca", "identity", "quadratic",
        "random_fourier" or the user's own map; as in :func:`driftlaw.sketch`.
            Not used where `real` is a sketch (but a map of the user must be given again to sketch more data).
        dimension: number of features.
        alpha: fresh fraction of real data in each training set, if it is known and constant. Otherwise it is estimated.
        shared_rows: the audited rows of generation i are the very rows that trained generation i + 1.
        from_real: generation 1 was trained on real data alone, so that its innovation is its drift.
        block: N, where neighbouring rows depend on each other (time series, sessions) and runs of N consecutive ones
            hardly do: the runs take the place of rows in test, floor and intervals. Sketches must have been made with
            the same ``block``.
        columns: of tables, which ones.
        categorical: numeric columns of a table that are categories.
        key: of .npz files, which array.
        size: of images, crop to the centre square and resize to this many pixels.
        mode: of images, "L" or "RGB".
        encoding: of text files; found out if not given.
        separator: of text files; found out if not given.
        skip_bad: leave unreadable images out and count them.
        seed: of features, blocks, samples of rows and bootstrap draws.
        progress: told the fraction done, and what is being done.

    Returns:
        The audit. Each number is an Estimate. Drift is a lower bound of chi2 in the span of the features.

    Assumptions:
        Independent rows, or independent runs of `block` rows.
        Effective alpha, alignment, memory and forecast assume stationary innovations and, for
        `from_real`, a start from real data.

    Raises:
        InputError: no generation, rows of another shape or encoding, NaN, fewer than 4 rows in a set, sketches of other
            features or versions, alpha outside [0, 1].
        DataNotFoundError: a path that does not exist.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> real = rng.normal(size=(4000, 3))
        >>> line = [rng.normal(size=(2000, 3)) + 0.1 * i for i in range(1, 4)]
        >>> found = audit(real, line, features="identity")
        >>> [g.exceeds_floor for g in found.generations]
        [True, True, True]
    """
    if isinstance(generations, str | bytes | os.PathLike) or not isinstance(generations, Sequence):
        raise InputError("generations must be a list", "write audit(real, [generation_1, generation_2])")
    if not generations:
        raise InputError(
            "there is no generation to audit", "give at least one set of generated rows after the real one"
        )
    if alpha is not None and not 0.0 <= alpha <= 1.0:
        raise InputError(f"alpha = {alpha} is outside [0, 1]", "alpha is the fraction of fresh real data")
    options = Options(
        None if columns is None else tuple(columns), key, size, mode, tuple(categorical), encoding, separator, skip_bad
    )
    base, real_stream = _sketched(
        real,
        None,
        features,
        options,
        progress,
        "the real data",
        dimension=dimension,
        categorical=categorical,
        seed=seed,
        block=block,
    )
    if block is not None and base.block != block:
        raise InputError(
            f"the sketch of the real data keeps runs of {base.block} rows, not of {block}",
            "sketch every set again with this block, or audit the data themselves",
        )
    names = rows.names_of(generations)
    opened = [_opened(g, base, options, n) for g, n in zip(generations, names, strict=True)]
    held_rows = None if holdout is None else _opened(holdout, base, options, "the holdout")
    if readable := [r for r in (real_stream, held_rows, *opened) if isinstance(r, Rows)]:
        refuse_unused(options, readable)
    sets = [_sketched(g, base, features, options, progress, n) for g, n in zip(opened, names, strict=True)]
    held, held_stream = (
        (None, None) if held_rows is None else _sketched(held_rows, base, features, options, progress, "the holdout")
    )

    whitening = Whitening.of(base)
    sketches = [s for s, _ in sets]
    c, by_rows = coordinates_of(base, sketches, whitening, held)
    dynamics = Dynamics.fit(c, alpha=alpha, shared_rows=shared_rows, from_real=from_real)
    warnings = [*base.warnings, *whitening.warnings, *dependence_notes(base, real_stream, seed)]
    if (question := order_question(names)) is not None:
        warnings.append(question)
    for i, s in enumerate(sketches):
        for j in range(i):
            if s.n == sketches[j].n and np.array_equal(s.mean, sketches[j].mean):
                warnings.append(f"generations {j + 1} and {i + 1} hold the same rows: the later one tells nothing new")
    floors, floor_warning = _floors(c, base, held)
    warnings += floor_warning
    tests = [assess(c, i) for i in range(1, len(sets) + 1)]
    single = [t.p for t in tests]
    innovation, alignment = dynamics.summary(seed)
    measured = _rows(real_stream, held_stream, sets, base, by_rows, seed, progress)
    effects = [design_effects(base, s) for s in sketches]
    beside = [columns_of(base, s, e) for s, e in zip(sketches, effects, strict=True)]
    shapes = [shape(base, s, e) for s, e in zip(sketches, effects, strict=True)]
    judged = looks(single, beside, measured, c.serial, shapes)
    pixels = Unmapping(base)
    found = []
    for i, (s, name) in enumerate(zip(sketches, names, strict=True), start=1):
        p, look = judged[i - 1].mean, judged[i - 1]
        method = f"{single[i - 1].method}; Holm over {look.tests} tests of {len(sets)} generations"
        test, moved, nearby = tests[i - 1], changes(base, s, by_rows, i), measured[i - 1]
        drift = test.drift
        found.append(
            GenerationAudit(
                i,
                name,
                s.n,
                drift,
                floors[i - 1],
                Estimate(p, 0.0, p, p, single[i - 1].n, method),
                single[i - 1],
                dynamics.innovation(c, i - 1),
                moved,
                nearby,
                _generation_warnings(base, s, whitening, test),
                kept(beside[i - 1]),
                look,
                findings(drift, moved, beside[i - 1], nearby, look),
                test.flags,
                pixels.picture(s, moved.features),
            )
        )
    return Audit(
        real={
            "name": _name(real, "the real data"),
            "n": base.n,
            "missing": base.missing,
            "holdout": None if held is None else {"name": _name(holdout, "the holdout"), "n": held.n},
        },
        features={
            "name": base.features.name,
            "dimension": base.features.dimension,
            "measured": whitening.rank,
            "fingerprint": base.features.fingerprint,
            "diagonal": whitening.diagonal,
        },
        generations=tuple(found),
        innovation=innovation,
        alignment=alignment,
        effective_alpha=dynamics.alpha,
        memory=_memory(dynamics),
        regime=_regime(dynamics, [g.drift for g in found]),
        dynamics=dynamics,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _name(data: Any, otherwise: str) -> str:
    return str(data) if isinstance(data, str | os.PathLike) else otherwise


def _is_sketch(data: Any) -> bool:
    return isinstance(data, Sketch) or (
        isinstance(data, str | os.PathLike) and "://" not in os.fspath(data) and is_sketch(Path(data))
    )


def _opened(data: Any, like: Sketch, options: Options, name: str) -> Any:
    """A set read by the rule of the real data; a sketch as it is."""
    return data if _is_sketch(data) else open_like(data, options, like.features.encoder, name)


def _sketched(
    data: Any,
    like: Sketch | None,
    features: Any,
    options: Options,
    progress: Progress | None,
    name: str,
    **settings: Any,
) -> tuple[Sketch, Rows | None]:
    """The sketch of a set, and the set itself where it can be read again."""
    own_map = None if isinstance(features, str) else features
    if _is_sketch(data):
        found = data if isinstance(data, Sketch) else Sketch.load(data, features=own_map if like is None else None)
        stream = None
        if like is not None:
            like.check_comparable(found)
    else:
        stream = data if isinstance(data, Rows) else open_any(data, options, name)
        report = None if progress is None else (lambda fraction, text: progress(fraction, f"{name}: {text}"))
        chosen: Any = {"features": features, **settings} if like is None else {"like": like}
        found = sketch(stream, progress=report, **chosen)
    if found.n < 4:
        raise InputError(
            f"{name} has {found.n} rows", "an audit needs at least 4 in every set, and many more to see anything"
        )
    return found, stream


def _floors(c: Coordinates, real: Sketch, held: Sketch | None) -> tuple[list[Estimate], list[str]]:
    """Real against real, at each generation's size."""
    out, warnings = [], []
    value, method = 0.0, "expectation of real rows; interval: where their drift falls 95 % of the time"
    if held is not None:
        against, _ = coordinates_of(real, [held], c.whitening, None)
        measured, p = against.drift(1), assess(against, 1).p.value
        value = measured.value
        method = f"holdout ({held.n} rows) against real; interval: where real rows fall 95 % of the time at this size"
        if p < 0.01:
            warnings.append(
                f"the holdout differs from the real data (drift {measured}, p {p_value(p)}): they are not one law"
            )
    for i in range(1, len(c.sizes)):
        stderr, low, high = null_range(c, i)
        n, centre = int(min(c.sizes[0], c.sizes[i])), min(max(value, low), high)
        out.append(Estimate(centre, stderr, low, high, n, method))
    return out, warnings


def _rows(
    real: Rows | None,
    held: Rows | None,
    sets: Sequence[tuple[Sketch, Rows | None]],
    base: Sketch,
    c: Coordinates,
    seed: int,
    progress: Progress | None,
) -> list[rows.RowMeasures | None]:
    """Nearest-neighbour measures where raw rows are at hand."""
    streams = [stream for _, stream in sets]
    if real is None or not real.repeatable or all(s is None or not s.repeatable for s in streams):
        return [None] * len(sets)
    if progress is not None:
        progress(math.nan, "nearest neighbours")
    reference = rows.take(real, base, c.whitening, rows.SEARCHED, seed, "real")
    kept = None if held is None else rows.take(held, base, c.whitening, rows.COMPARED, seed, "holdout")
    out: list[rows.RowMeasures | None] = []
    for i, stream in enumerate(streams, start=1):
        mine = None if stream is None else rows.take(stream, base, c.whitening, rows.COMPARED, seed, f"generation {i}")
        out.append(None if mine is None or reference is None else rows.measure_rows(reference, mine, kept, c.means[i]))
    return out


def _generation_warnings(real: Sketch, s: Sketch, whitening: Whitening, test: Significance) -> tuple[str, ...]:
    found = list(s.notes)
    if test.own_noise:
        found.append("its drift lies above the floor of real rows, but its own sampling noise explains it")
    if test.rare:
        names = [real.features.labels[j] for j in test.rare[:3]]
        found.append(f"decided by exact counts of rare values ({', '.join(names)}{' ...' if test.rare[3:] else ''})")
    if s.n < FEW_ROWS:
        found.append(f"{s.n} rows are few: only large drift can be seen")
    if s.n <= whitening.rank:
        found.append(f"{s.n} rows span fewer than the {whitening.rank} measured directions: its covariance is singular")
    if whitening.leaves_the_range(s):
        found.append("it moves in a direction in which the real data are constant: chi2 is infinite there, not counted")
    for name, missing in s.missing.items():
        before = real.missing.get(name, 0) / real.n
        after = missing / s.n
        if abs(after - before) > 4.0 * math.sqrt((after + before + 1e-9) * (1.0 / s.n + 1.0 / real.n)):
            found.append(f"{share(after)} of {name} are missing, {share(before)} in the real data")
    return tuple(found)


def _memory(dynamics: Dynamics) -> Estimate:
    """1/alpha, how many generations an error lives."""
    a, method = dynamics.alpha, "1/alpha"
    if a.is_refused:
        return replace(a, method=method)
    ends = [1.0 / x if x > 0 else math.inf for x in (a.high, a.value, a.low)]
    if a.value <= 0:
        return Estimate(math.inf, 0.0, ends[0], math.inf, a.n, method, ("nothing is forgotten",))
    return Estimate(ends[1], a.stderr / a.value**2, ends[0], ends[2], a.n, method)


def _regime(dynamics: Dynamics, drift: Sequence[Estimate]) -> Regime:
    """Law of growth; with alpha known also what drives it."""
    if not dynamics.identified or len(drift) < 2 or not dynamics.from_real:
        return classify(drift)
    rho = float(dynamics.rho[dynamics.best])
    gram = np.asarray(dynamics.gram(rho))
    return classify(drift, FixedFraction(1.0 - rho), (gram + gram.T) / 2.0)
