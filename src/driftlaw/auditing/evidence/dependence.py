r"""Do neighbouring rows depend on each other? A permutation test on sums over runs, and what it costs.

Rows z_1..z_n in their order, standardised; for run lengths L = 2, 4, 8, ... with at least :data:`RUNS` runs

    S_L = sum_j |sum_{i in run j} z_i|^2,     VR(L) = S_L/S_1,     1 for exchangeable rows, up to 1/n.

The largest standardised S_L is compared with that of shuffled rows, so the level is exact. Two readings of the real
rows are tested, each at half of :data:`LEVEL`: consecutive ones at the start, which show a short memory, and a random
sample of all in the order of the file, which shows trends and sorting. The shortest L beyond which VR hardly grows is
suggested as ``block``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from driftlaw.auditing.evidence.moments import Array
from driftlaw.data.finite import Array as AnyArray
from driftlaw.data.rows.opened import Rows, length
from driftlaw.measure.sketch.blocks import hash64
from driftlaw.measure.sketch.sketch import Sketch
from driftlaw.seeding import numpy_generator, stream_seed

#: Rate of false warnings, shuffles of each test, rows read, directions compared, and least runs of the longest length.
LEVEL, SHUFFLES, READ, DIRECTIONS, RUNS = 0.01, 399, 2048, 8, 16
#: Growth of VR from L to 2 L below which L is long enough.
FLAT = 1.15


def dependence_notes(real: Sketch, stream: Rows | None, seed: int) -> tuple[str, ...]:
    """A warning where neighbouring real rows are more alike than shuffled ones; none of sketches or with a block."""
    if real.block > 1 or stream is None or not stream.repeatable:
        return ()
    found = [(stride, serial(z, seed)) for z, stride in _readings(real, stream, seed)]
    length_, ratio = max(((s * f[0], f[1]) for s, f in found if f is not None), default=(0, 0.0), key=lambda x: x[1])
    if not length_:
        return ()
    return (
        f"neighbouring real rows are alike: sums over runs of {length_} rows vary {ratio:.2g} times as much as of "
        f"independent rows. If the rows are only sorted, shuffle them; if they are a series, audit with block "
        f"{length_} or more: p-values and intervals take rows as independent",
    )


def serial(z: Array, seed: int, level: float = LEVEL / 2) -> tuple[int, float] | None:
    """Length of runs beyond which rows are nearly independent, and VR there; None where nothing speaks against order.

    Args:
        z: ``[n, r]`` rows in their order.
        seed: of directions and shuffles.
        level: of the test.
    """
    deviation = z.std(0) if len(z) else np.zeros(z.shape[1])
    varies = deviation > 1e-12 * max(float(deviation.max(initial=0.0)), 1e-300)
    if len(z) < 4 * RUNS or not varies.any():
        return None
    rng = numpy_generator(seed, "audit", "dependence")
    z = (z[:, varies] - z[:, varies].mean(0)) / deviation[varies]
    if z.shape[1] > DIRECTIONS:
        z = z @ rng.standard_normal((z.shape[1], DIRECTIONS)) / np.sqrt(z.shape[1])
    sums = np.array([_sums(z), *(_sums(z[rng.permutation(len(z))]) for _ in range(SHUFFLES))])
    extreme = ((sums - sums.mean(0)) / np.maximum(sums.std(0), 1e-300)).max(1)
    if (extreme >= extreme[0]).sum() > level * (SHUFFLES + 1):
        return None
    ratios = sums[0] / sums[1:].mean(0)
    lengths = 2 ** np.arange(1, len(ratios) + 1)
    flat = [j for j in range(len(ratios) - 1) if ratios[j + 1] < FLAT * ratios[j] and ratios[j] > 1]
    at = flat[0] if flat else len(ratios) - 1
    return int(lengths[at]), float(ratios[at])


def _sums(z: Array) -> NDArray[np.float64]:
    """S_L for L = 2, 4, ..., the rows of incomplete runs left out."""
    out = []
    while len(z) // 2 >= RUNS:
        z = z[: len(z) // 2 * 2].reshape(len(z) // 2, 2, -1).sum(1)
        out.append(float((z * z).sum()))
    return np.array(out)


def _readings(real: Sketch, stream: Rows, seed: int) -> list[tuple[Array, int]]:
    """The first rows, and a sample of all in the order of the file with the rows that one of it stands for."""

    def take(keep: object) -> Array:
        parts, taken = [], 0
        for chunk in stream.read(keep):  # type: ignore[arg-type]
            if length(chunk):
                parts.append(real.features(chunk))
                taken += length(chunk)
            if taken >= READ:
                break
        return np.concatenate(parts)[:READ] if parts else np.zeros((0, 1))

    def head(first: int, n: int) -> AnyArray:
        return np.arange(first, first + n) < READ

    n, salt = stream.rows, stream_seed(seed, "audit", "dependence")
    out = [(take(head), 1)]
    if n is not None and n > 2 * READ:
        share = READ / n

        def thin(first: int, m: int) -> AnyArray:
            rows = np.arange(first, first + m, dtype=np.uint64)
            return np.asarray(hash64(rows, salt) / 2.0**64 < share)

        out.append((take(thin), round(1.0 / share)))
    return out


def design_effects(real: Sketch, generation: Sketch) -> tuple[float, float]:
    """Rows of either set that count as one independent row, in the worst feature; 1 without a block."""
    return _effect(real), _effect(generation)


def _effect(s: Sketch) -> float:
    if s.serial is None:
        return 1.0
    rows, runs = np.diag(s.covariance), np.diag(s.serial.covariance)
    varies = rows > 1e-24 * max(float(rows.max()), 1e-300)
    return max(1.0, float((s.block * runs[varies] / rows[varies]).max(initial=1.0)))
