"""Numbers that a reproduction is compared with (theory sections 4.2, 6 and 7); i counts from 0."""

from __future__ import annotations

#: (alpha, i): eps*^2, eps_hat^2, KL at t0. Generation 0 does not depend on alpha.
TABLE: dict[tuple[float, int], tuple[float, float, float]] = {
    (0.1, 0): (1.81, 2.82, 1.40),
    (0.1, 1): (0.706, 0.869, 0.432),
    (0.1, 4): (0.214, 0.183, 0.092),
    (0.1, 9): (0.151, 0.103, 0.051),
    (0.1, 19): (0.142, 0.091, 0.044),
    (0.5, 1): (0.970, 0.951, 0.473),
    (0.5, 4): (0.769, 0.573, 0.284),
    (0.5, 19): (0.766, 0.567, 0.282),
    (0.9, 1): (1.56, 1.67, 0.829),
    (0.9, 19): (1.55, 1.61, 0.800),
}
#: What the columns of :data:`TABLE` are called in records.
COLUMNS = ("energy_ideal", "energy_learned", "kl")
#: Second-moment drift at generation 20 by t0 and alpha.
DRIFT: dict[float, dict[float, float]] = {
    0.0: {0.1: 1.0830, 0.5: 0.2466, 0.9: 0.1370},
    0.02: {0.1: 0.8406, 0.5: 0.2115, 0.9: 0.1195},
}
#: Constant that the displayed form of Theorem 4.2 needs, by N.
REQUIRED: dict[int, float] = {10: 26.84, 160: 1.43e15}
#: Floor of Proposition 4.1 (ii) at eta eps*^2 = 0.005, by alpha.
FLOORS: dict[float, float] = {0.1: 1.7265e-5, 0.5: 1.25e-4, 0.9: 2.78465e-4}
#: Allowed relative difference.
TOLERANCE = 0.02


def off(measured: float, expected: float) -> float:
    """Relative difference of a measured from a published number."""
    return abs(measured / expected - 1)
