r"""Innovations, alignment and effective alpha from the means of a line of generations.

Drift coordinates obey c_{i+1} = (1 - alpha) c_i + d_i (theory section 5). For every rho = 1 - alpha the innovations
are known combinations of means, d_i(rho) = m_{i+1} - rho m_i - (1 - rho) m_0 and d_0 = m_1 - m_0, so their Gram matrix
Gamma(rho) = W M W^T - W diag(r) W^T is estimated without bias from the products M of means (``coordinates``).

**Effective alpha.** Model the innovations as stationary: d_i = d + e_i, a systematic part d and independent e_i. At the
true rho, E Gamma = |d|^2 1 1^T + s I: every pair of innovations is equally aligned. At a wrong rho it is not. The
estimate maximises the Wishart likelihood of the r coordinates, covariance V = (|d|^2 1 1^T + s I + W diag(r) W^T)/r,
over rho in [0, 1] with |d|^2, s >= 0 profiled out. Its score is linear in M with mean zero whatever the direction of d
and however uneven the e_i over directions, so the estimate is consistent beyond the Gaussian isotropic law; unevenness
makes the likelihood too sharp, so it is tempered to the effective number of coordinates seen in the scatter of
Gamma's off-diagonal entries. Interval: {rho: 2 (l_max - l) r_eff/r <= F(0.95; 1, dof)}.

Effective means: as seen in the data. A learner that itself contracts or repeats errors has another effective alpha than
the mixing fraction, and it is the effective one that sets memory and the future. It is not identifiable with fewer
than 4 generations, where drift does not exceed its noise, or where innovations are not stationary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from driftlaw.auditing.coordinates import Array, Coordinates
from driftlaw.auditing.evidence.misfit import find_misfit
from driftlaw.auditing.evidence.recursion import effective, grams, kept_weights, profile
from driftlaw.estimate import Estimate
from driftlaw.records import Record
from driftlaw.seeding import numpy_generator
from driftlaw.theory.accumulation import alignment

#: Values of rho on [0, 1], and generations and width of the interval that effective alpha needs.
GRID = np.linspace(0.0, 1.0, 201)
LEAST_GENERATIONS, WIDEST = 4, 0.8
_DRAWS = 4000


def innovation_weights(rho: Array, generations: int) -> Array:
    """W(rho), ``[g, N, N + 1]``: row i holds the weights of m_0..m_N in d_i."""
    return kept_weights(np.repeat(rho[:, None], generations, 1))


@dataclass(frozen=True, eq=False)
class Dynamics(Record):
    """The fitted recursion, on a grid of rho.

    Args:
        products: ``[N + 1, N + 1]`` raw products of whitened means about the real one.
        noise: ``[N + 1]`` expected squared lengths of their errors.
        rank: r, coordinates.
        sizes: ``[N + 1]`` rows.
        shared_rows: whether the audited rows of generation i trained generation i + 1.
        from_real: whether generation 1 was trained on real data alone (c_0 = 0).
        rho: ``[g]`` the grid, or one given value.
        weight: ``[g]`` confidence of each value, sums to 1.
        systematic: ``[g]`` |d|^2 at each value.
        random: ``[g]`` s = E|e_i|^2 at each value.
        effective: r_eff, independent coordinates.
        alpha: effective alpha.
        misfit: why the recursion does not fit ("growing bias", "shrinking bias", "alpha changed", "outlier generation",
            "shared rows"), empty where nothing speaks against it (:mod:`driftlaw.auditing.evidence.misfit`).
        misfit_at: the generation concerned, 0 for all.
        misfit_size: growth factor, alpha after the change, or times the usual innovation energy.
    """

    products: Array
    noise: Array
    rank: int
    sizes: Array
    shared_rows: bool
    from_real: bool
    rho: Array
    weight: Array
    systematic: Array
    random: Array
    effective: float
    alpha: Estimate
    misfit: str = ""
    misfit_at: int = 0
    misfit_size: float = math.nan

    @classmethod
    def fit(
        cls, c: Coordinates, *, alpha: float | None = None, shared_rows: bool = False, from_real: bool = True
    ) -> Dynamics:
        """Fit the recursion to the means of N >= 1 generations.

        Args:
            c: coordinates of real data and generations.
            alpha: the fresh fraction if it is known.
            shared_rows: the rows of generation i that are audited are those that trained generation i + 1. Then their
                sampling error is part of the innovation and not of the measurement.
            from_real: generation 1 was trained on real data alone. If not, its innovation is not comparable.
        """
        start = cls(
            c.products,
            c.noise,
            c.rank,
            c.sizes,
            shared_rows,
            from_real,
            GRID,
            np.full(len(GRID), 1 / len(GRID)),
            np.zeros(len(GRID)),
            np.zeros(len(GRID)),
            float(c.rank),
            Estimate.refused("", ""),
        )
        wrong = find_misfit(c.products, c.noise, c.rank, shared_rows, from_real)
        if wrong is not None:
            start = replace(start, misfit=wrong.cause, misfit_at=wrong.at, misfit_size=wrong.size)
        n, least = int(c.sizes.min()), LEAST_GENERATIONS + (not from_real)
        method = f"Wishart likelihood of {c.rank} coordinates of {start.generations} generations"
        level, likelihood, systematic, random = start._profile(GRID)
        best = int(likelihood.argmax())
        effective = start._effective(GRID[best], systematic[best], random[best]) if len(level) > 2 else 1.0
        ratio = 2.0 * (likelihood[best] - likelihood) * effective / c.rank
        fitted = replace(start, effective=effective)
        rows = start.generations - (not from_real)
        dof = max(1.0, effective * (rows + 1) / 2.0 - 3.0)
        inside = GRID[ratio <= stats.f.ppf(0.95, 1, dof)]
        low, high = 1.0 - float(inside.max()), 1.0 - float(inside.min())
        found = Estimate(1.0 - float(GRID[best]), (high - low) / 4.0, low, high, n, method)
        if alpha is not None:
            given = Estimate.exact(alpha, "given")
            if start.generations >= least and not low - 0.01 <= alpha <= high + 0.01:
                given = given.warn(f"the generations look like an effective alpha of {found}")
            if wrong is not None:
                given = given.warn(f"the recursion does not fit: {start.misfit_words}")
            one = np.array([1.0 - alpha])
            _, _, systematic, random = start._profile(one)
            return replace(fitted, rho=one, weight=np.ones(1), systematic=systematic, random=random, alpha=given)
        # a likelihood of one squared Student variable with these degrees of freedom, as the interval's threshold has
        weight = (1.0 + ratio / dof) ** (-(dof + 1.0) / 2.0)
        if start.generations < least:
            why = f"it takes {least} generations or more, here: {start.generations}"
            found = Estimate.refused(method, f"not identifiable: {why}; give alpha if it is known", n)
            weight = np.ones(len(GRID))
        elif wrong is not None:
            found = Estimate.refused(method, f"the recursion does not fit: {start.misfit_words}", n)
        elif high - low > WIDEST:
            why = f"everything from {low:.2f} to {high:.2f} fits"
            found = Estimate.refused(method, f"not identifiable: {why}; give alpha if it is known", n)
        return replace(fitted, weight=weight / weight.sum(), systematic=systematic, random=random, alpha=found)

    @property
    def generations(self) -> int:
        """Number of generations, N."""
        return len(self.noise) - 1

    @property
    def misfit_words(self) -> str:
        """The likeliest cause in words; empty where the recursion fits."""
        return {
            "": "",
            "growing bias": f"the common error grows about {self.misfit_size:.3g} times a generation",
            "shrinking bias": f"the common error shrinks to about {self.misfit_size:.3g} of itself each generation",
            "alpha changed": f"alpha changed before generation {self.misfit_at}, to about {self.misfit_size:.2g}",
            "outlier generation": f"generation {self.misfit_at} adds far more than the others",
            "shared rows": "rows of one generation seem to have trained the next, or not, against what was said",
        }.get(self.misfit, self.misfit)

    @property
    def best(self) -> int:
        """Index of the most credible rho."""
        return int(self.weight.argmax())

    @property
    def identified(self) -> bool:
        """Whether alpha is known or was found."""
        return not self.alpha.is_refused

    @property
    def dispersion(self) -> float:
        """Variance of rho under its posterior weights."""
        mean = float(self.weight @ self.rho)
        return float(self.weight @ (self.rho - mean) ** 2)

    def gram(self, rho: float) -> Array:
        """Gamma(rho), ``[N, N]``, unbiased."""
        gram, _ = self._gram(np.array([rho]))
        return np.asarray(gram[0])

    def _gram(self, rho: Array) -> tuple[Array, Array]:
        """Gamma(rho) and the covariance W diag(r) W^T of the measurement, ``[g, N, N]`` each."""
        return grams(innovation_weights(rho, self.generations), self.products, self.noise, self.shared_rows)

    def _profile(self, rho: Array) -> tuple[Array, Array, Array, Array]:
        """First Gram matrix, log likelihood, |d|^2 and s at each rho."""
        first = 0 if self.from_real or self.generations == 1 else 1
        gram, R = (x[:, first:, first:] for x in self._gram(rho))
        return gram[0], *profile(gram, R, self.rank)

    def _effective(self, rho: float, a: float, s: float) -> float:
        first = 0 if self.from_real else 1
        gram, R = (x[0, first:, first:] for x in self._gram(np.array([rho])))
        return effective(gram, R, self.rank, a, s)

    def innovation(self, c: Coordinates, i: int) -> Estimate:
        """J_i = |d_i|^2 of generation i + 1, with the error of alpha."""
        method = "U-statistic of m_{i+1} - (1-alpha) m_i - alpha m_0, score interval"
        n = int(self.sizes.min())
        if i == 0:
            if not self.from_real:
                return Estimate.refused(method, "what generation 1 was trained on is not known", n)
            return replace(c.drift(1), method=method)
        if not self.identified:
            return Estimate.refused(method, "it needs alpha, which is not identifiable here; give alpha", n)
        rho = float(self.rho[self.best])
        W = innovation_weights(np.array([rho]), self.generations)[0]
        slope = np.zeros(self.generations + 1)
        slope[i], slope[0] = -1.0, 1.0
        derivative = 2.0 * float(W[i] @ self.products @ slope)
        return c.squared_length(W[i], method, extra=derivative**2 * self.dispersion)

    def draws(self, seed: int = 0) -> tuple[NDArray[np.int64], Array, Array]:
        """Plausible values given the data: index of rho, |d|^2 and s, ``[m]`` each.

        The mean square within innovations, s + r_w with r_w that of the measurement, is a scaled chi-squared variable
        of (N - 1) r_eff degrees of freedom; |1^T d_i|^2/N^2 - (s + r_1)/N estimates |d|^2.
        """
        rng = numpy_generator(seed, "audit", "dynamics")
        at = rng.choice(len(self.rho), _DRAWS, p=self.weight)
        first = 0 if self.from_real else 1
        _, R = (x[:, first:, first:] for x in self._gram(self.rho))
        n = R.shape[1]
        total = R.sum((1, 2)) / n
        within = ((np.trace(R, axis1=1, axis2=2) - total) / max(n - 1, 1)).clip(min=0.0)
        dof = (n - 1) * self.effective
        s = ((self.random + within)[at] * dof / rng.chisquare(dof, _DRAWS) - within[at]).clip(min=0.0)
        error = (s + total[at]) / n
        spread = np.sqrt((2.0 * error**2 + 4.0 * self.systematic[at] * error) / self.effective)
        centre = self.systematic[at] + (self.random[at] - s) / n
        return at, (centre + spread * rng.standard_normal(_DRAWS)).clip(min=0.0), s

    def summary(self, seed: int = 0) -> tuple[Estimate, Estimate]:
        """Mean innovation energy and alignment kappa with intervals over alpha, sampling and innovations."""
        n, first = int(self.sizes.min()), 0 if self.from_real else 1
        used = self.generations - first
        energy, kappa = "mean of |d_i|^2 over generations", "alignment of innovations, interval over alpha, |d|^2 and s"
        if used == 1 and self.from_real:
            one = float(self.gram(1.0)[0, 0])
            spread = 2.0 * math.sqrt(max(one, 0.0) * float(self.noise.sum()) / self.rank) + float(self.noise.sum())
            found = Estimate(one, spread / 2.0, one - spread, one + spread, n, energy, ("one generation only",))
            return found, Estimate.refused(kappa, "one innovation has no alignment", n)
        if used < 2 or not self.identified:
            why = "it needs alpha, which is not identifiable here; give alpha" if used > 1 else "too few generations"
            return Estimate.refused(energy, why, n), Estimate.refused(kappa, why, n)
        gram = self.gram(float(self.rho[self.best]))[first:, first:]
        _, systematic, random = self.draws(seed)
        value = float(np.trace(gram)) / used
        mean = _with_draws(value, systematic + random, n, energy)
        aligned = alignment(gram)
        if math.isnan(aligned) or mean.low <= 0.0:
            return mean, Estimate.refused(kappa, "innovations are not above their noise", n)
        return mean, _with_draws(
            min(max(aligned, -1.0), 1.0), systematic / np.maximum(systematic + random, 1e-300), n, kappa
        )


def _with_draws(value: float, draws: Array, n: int, method: str) -> Estimate:
    low, high = (float(q) for q in np.quantile(draws, [0.025, 0.975]))
    return Estimate(value, float(draws.std()), min(low, value), max(high, value), n, method)
