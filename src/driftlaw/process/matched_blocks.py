r"""A kernel mixture in parts, each summed exactly or replaced by the Gaussian with its moments.

The N centres are cut once into blocks b of weight :math:`W_b`, mean :math:`m_b` and covariance :math:`C_b = U_b
\Lambda_b U_b^T`. The 2 % of the centres that lie furthest out in their block (*strays*) are kept apart and always
summed exactly: they make the tails that no Gaussian has. At time t

.. math::

    W_b\, q_{b,t}(x) \approx W_b\, N_b(x), \qquad N_b = N(a_t m_b,\; a_t^2 C_b + v_t I), \qquad
    v_t = a_t^2 h^2 + \sigma_t^2 .

With :math:`L` the log of the sum of these over b and :math:`Q_b(x)` the squared Mahalanobis distance of x, blocks with

.. math:: \ell_b(x) = \log W_b N_b(x) + \tfrac{\eta}{2} Q_b(x) - L(x) \ge \log \tau, \qquad \eta = 0.2,

are *heavy* and summed exactly, block by block for all points that need it. The margin :math:`\eta` grows with the
distance because a Gaussian's tail says least about a block's. The sum of :math:`e^{\ell_b}` over the other blocks is
the *suspect mass* of x: errors are largest where it is. With :math:`r_b \propto W_b q_b` from either kind,

.. math:: s = \sum_b r_b s_b, \qquad \nabla\cdot s = \sum_b r_b (\nabla\cdot s_b + |s_b|^2) - |s|^2 .

At one common time, :math:`\log N_b` and the sums over light blocks are quadratic polynomials of x: matrix products.
This project; the two ingredients are those of Gray and Moore's N-body kernel sums (NIPS 2000).
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from driftlaw.directions import oriented
from driftlaw.process import native
from driftlaw.process.draws import BLOCK_BYTES, LawValues
from driftlaw.process.kernel_sum import COMPILED_LIMIT, CONDITION_LIMIT, KernelMixture
from driftlaw.process.schedule import expand

#: Values of tau, from everything matched to almost everything exact.
CUTS = (math.inf, 0.1, 0.05, 0.03, 0.02, 0.01, 3e-3, 1e-3, 3e-4)
#: eta of the module docstring.
MARGIN = 0.2
#: Share of the centres that is always summed exactly.
STRAYS = 0.02
#: Most dimensions for which the Gaussians are evaluated as polynomials by matrix products.
FEATURE_DIM = 32
#: Costs in units of one exact pair (point, centre): a Gaussian at one point; the bookkeeping of one part that one point
#: needs exactly; one part in one call.
MATCHED_COST, PART_COST, CALL_COST = 40.0, 800.0, 100_000.0
#: The compiled exact sum leaves out kernels below 2^-33 of the sum.
_DROPPED = 33 * math.log(2)
#: Points that are compared with all Gaussians at once: what they need stays in the cache.
_ROWS = 32


class Query(NamedTuple):
    """Points ``[m, d]``, times, a_t and v_t, each ``[]`` or ``[m]``."""

    x: Tensor
    t: Tensor
    a: Tensor
    v: Tensor

    def take(self, rows: Tensor | slice) -> Query:
        """Some of the points."""
        return Query(self.x[rows], *(z[rows] if z.ndim else z for z in self[1:]))


class _Matched(NamedTuple):
    """log W_b N_b ``[m, B]``, Q_b ``[m, B]``, P_b (x - a m_b) in the eigenbases ``[m, B d]``, div + |score|^2."""

    log: Tensor
    distance: Tensor
    force: Tensor
    square: Tensor


class _Quadratics(NamedTuple):
    """log W_b N_b and div + |score|^2 as polynomials ``[W, B]``, (a P m, P) ``[B, d + d^2]``, largest log ``[B]``."""

    log: Tensor
    square: Tensor
    force: Tensor
    top: Tensor


class _Exact(NamedTuple):
    """Exact log W_b q_b ``[p]``, score ``[p, d]`` and div + |score|^2 ``[p]`` of some (block, point) pairs."""

    log: Tensor
    score: Tensor
    square: Tensor


class _Trials(NamedTuple):
    """Cost of the exact sum per point, exact values, and (tau, approximate values, cost per point) for every tau."""

    exact_cost: float
    truth: LawValues
    candidates: list[tuple[float, LawValues, float]]


class Parts:
    """The blocks of a kernel mixture; the last part, if any, holds the strays and is always summed exactly."""

    def __init__(self, law: KernelMixture, blocks: int) -> None:
        c = law.centres.detach().cpu().double()
        n, d = c.shape
        w = torch.full((n,), 1 / n, dtype=torch.float64) if law.weights is None else law.weights.cpu()
        rows, strays = _without_strays(c, w, partition(c, w, blocks), law.bandwidth)
        moments = [_moments(c[i], w[i]) for i in rows]
        self.law, self.count, self.dim = law, len(rows), d
        self.means = torch.stack([m for m, _, _ in moments])
        self.eigenvalues = torch.stack([s for _, s, _ in moments]).reshape(1, -1)
        bases = torch.stack([u for _, _, u in moments])
        self.bases = bases.transpose(0, 1).reshape(d, -1)
        self.centre = w @ c
        self.rotated = torch.einsum("bd,bde->be", self.means - self.centre, bases).reshape(1, -1)
        if len(strays):
            rows = [*rows, strays]
            self.means = torch.cat([self.means, c[strays].mean(0, keepdim=True)])
        self.rows, self.centres, self.weights = rows, c, w
        self.log_weights = torch.stack([w[i].sum() for i in rows]).log()
        self.sizes = torch.tensor([float(len(i)) for i in rows])
        radii = [(c[i] - m).norm(dim=1).max() for i, m in zip(rows, self.means, strict=True)]
        self.radii = torch.stack(radii)

    @functools.cached_property
    def _packs(self) -> list[native.Packed]:
        equal = self.law.weights is None
        return [
            native.Packed(self.centres[i] - m, None if equal else self.weights[i] / self.weights[i].sum())
            for i, m in zip(self.rows, self.means, strict=True)
        ]

    @functools.cached_property
    def _laws(self) -> list[KernelMixture]:
        """Every part as a law of its own."""
        source, h = self.law.centres, self.law.bandwidth
        return [KernelMixture(source[i], h, self.weights[i] / self.weights[i].sum()) for i in self.rows]

    @functools.cache  # noqa: B019  (two entries, as long-lived as the law)
    def _gaussians(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenbases ``[d, B d]``, means in them ``[1, B d]`` and eigenvalues ``[1, B d]``."""
        return self.bases.to(dtype), self.rotated.to(dtype), self.eigenvalues.to(dtype)

    def matched(self, query: Query) -> _Matched:
        """All blocks as Gaussians, in the dtype of the points."""
        dtype = query.x.dtype
        bases, rotated, eigenvalues = self._gaussians(dtype)
        a, v = expand(query.a, 2), expand(query.v, 2)
        x = (query.x.double() - a * self.centre).to(dtype)
        a, v = a.to(dtype), v.to(dtype)
        shape = (len(x), self.count, self.dim)
        offset = x @ bases - a * rotated
        precision = 1 / (a.square() * eigenvalues + v)
        force = offset * precision
        distance = (offset * force).reshape(shape).sum(2)
        log_volume = precision.log().reshape(-1, *shape[1:]).sum(2) - self.dim * math.log(2 * math.pi)
        square = force.square().reshape(shape).sum(2) - precision.reshape(-1, *shape[1:]).sum(2)
        return _Matched(self.log_weights[: self.count] + (log_volume - distance) / 2, distance, force, square)

    def heavy(self, log: Tensor, distance: Tensor, cut: float) -> tuple[Tensor, Tensor]:
        """Which parts are summed exactly, bool ``[m, parts]``, and the suspect mass u of the others, ``[m]``."""
        level = log + MARGIN / 2 * distance - log.logsumexp(1, keepdim=True)
        heavy = level >= math.log(cut)
        suspect = level.masked_fill(heavy, -math.inf).logsumexp(1)
        strays = torch.ones(len(level), len(self.rows) - self.count, dtype=torch.bool)
        return torch.cat([heavy, strays], dim=1), suspect

    def exact(self, query: Query, heavy: Tensor) -> tuple[_Exact, Tensor]:
        """Exact sums of the pairs that are marked in `heavy`, part by part, and the point of each pair."""
        part, at = heavy.T.nonzero(as_tuple=True)
        counts = heavy.sum(0).tolist()
        pairs = query.take(at)
        if query.x.dtype != torch.float32 or not native.available() or not len(at):
            return self._plain(pairs, part), at
        a, v, y = expand(pairs.a, 2), expand(pairs.v, 2), pairs.x.double()
        y -= a * self.means[part]
        each = [torch.split(z, counts) if z.ndim else [z] * len(counts) for z in (y, pairs.a, pairs.v)]
        sums = [pack.sums(*z) for pack, *z in zip(self._packs, *each, strict=True) if len(z[0])]
        log, mean, square, lost = (torch.cat(z) for z in zip(*sums, strict=True))
        a1, v1 = pairs.a, pairs.v
        score = (a * mean - y) / v
        spread = (a1 / v1).square() * (square - mean.square().sum(1)).clamp(min=0) - self.dim / v1
        log = log - self.dim / 2 * (2 * math.pi * v1).log() + self.log_weights[part]
        out = _Exact(log, score, spread + score.square().sum(1))
        bad = (~(lost <= COMPILED_LIMIT * math.sqrt(self.dim))).nonzero()[:, 0]
        if len(bad):
            few = pairs.take(bad)
            for whole, some in zip(out, self._plain(few._replace(x=few.x.double()), part[bad]), strict=True):
                whole[bad] = some
        return out, at

    def _plain(self, pairs: Query, part: Tensor) -> _Exact:
        """Exact sums of pairs by PyTorch; `part` ascends."""
        out = _Exact(*(torch.empty(len(part), *tail, dtype=torch.float64) for tail in ((), (self.dim,), ())))
        start = 0
        for number, count in enumerate(torch.bincount(part, minlength=len(self.rows)).tolist()):
            span = slice(start, start + count)
            if count:
                some = pairs.take(span)
                log, score, divergence = (z.double() for z in self._laws[number].evaluate(some.x, some.t))
                out.log[span], out.score[span] = log + self.log_weights[number], score
                out.square[span] = divergence + score.square().sum(1)
            start += count
        return out

    def evaluate(self, query: Query, cut: float) -> tuple[LawValues, Tensor]:
        """The approximate law, float64, and the log of the suspect mass of every point."""
        size = max(_ROWS, BLOCK_BYTES // (16 * (len(self.rows) + 1) * (self.dim + 4)))
        gaussians = None
        if not query.a.ndim and self.dim <= FEATURE_DIM:
            gaussians = self._quadratics(query)
        blocks = [self._block(query.take(slice(i, i + size)), cut, gaussians) for i in range(0, len(query.x), size)]
        values, suspect = zip(*blocks, strict=True)
        return LawValues(*(torch.cat(parts) for parts in zip(*values, strict=True))), torch.cat(suspect)

    def _block(self, query: Query, cut: float, gaussians: _Quadratics | None) -> tuple[LawValues, Tensor]:
        rows = _ROWS if gaussians is None else 8 * _ROWS
        pieces = [query.take(slice(i, i + rows)) for i in range(0, len(query.x), rows)]
        light, heavy, suspect = zip(*(self._light(piece, cut, gaussians) for piece in pieces), strict=True)
        matched = _Exact(*(torch.cat(parts) for parts in zip(*light, strict=True)))
        exact, at = self.exact(query, torch.cat(heavy))
        top = matched.log.scatter_reduce(0, at, exact.log, "amax")
        w, r = (matched.log - top).exp(), (exact.log - top[at]).exp()
        mass = w.index_add(0, at, r)
        score = (w.unsqueeze(1) * matched.score).index_add(0, at, r.unsqueeze(1) * exact.score) / mass.unsqueeze(1)
        square = (w * matched.square).index_add(0, at, r * exact.square) / mass
        return LawValues(top + mass.log(), score, square - score.square().sum(1)), torch.cat(suspect)

    def _light(self, query: Query, cut: float, gaussians: _Quadratics | None) -> tuple[_Exact, Tensor, Tensor]:
        """The blocks that stay Gaussians, summed; which do not; and the suspect mass."""
        if gaussians is None:
            matched = self.matched(query)
            log, distance = matched.log, matched.distance
        else:
            x = (query.x.double() - query.a * self.centre).to(gaussians.log.dtype)
            features = _features(x)
            log = (features @ gaussians.log).double()
            distance = 2 * (gaussians.top - log)
        heavy, suspect = self.heavy(log, distance, cut)
        logs = log.masked_fill(heavy[:, : self.count], -math.inf)
        total = logs.logsumexp(1)
        r = (logs - total.clamp(min=-1e300).unsqueeze(1)).exp()
        if gaussians is None:
            weighted = matched.force.reshape(len(r), self.count, self.dim) * r.to(query.x.dtype).unsqueeze(2)
            score = -weighted.reshape(len(r), -1) @ self._gaussians(query.x.dtype)[0].T
            square = (r * matched.square).sum(1)
        else:
            r = r.to(x.dtype)
            force, precision = (r @ gaussians.force).tensor_split([self.dim], dim=1)
            score = force - (precision.reshape(len(r), self.dim, self.dim) @ x.unsqueeze(2)).squeeze(2)
            square = ((r @ gaussians.square.T) * features).sum(1)
        return _Exact(total, score.double(), square.double()), heavy, suspect

    def _quadratics(self, query: Query) -> _Quadratics:
        """Everything about the Gaussians at one time as polynomials of the point, for matrix products."""
        a, v, d = query.a, query.v, self.dim
        mean = self.means[: self.count] - self.centre
        bases = self.bases.reshape(d, self.count, d).transpose(0, 1)
        p = 1 / (a.square() * self.eigenvalues.reshape(self.count, d) + v)
        first, second = ((bases * q.unsqueeze(1)) @ bases.mT for q in (p, p.square()))
        pull = [a * (m @ mean.unsqueeze(2)).squeeze(2) for m in (first, second)]
        rest = [(a * mean * z).sum(1) for z in pull]
        top = self.log_weights[: self.count] + p.log().sum(1) / 2 - d / 2 * math.log(2 * math.pi)
        reach = a * mean.norm(dim=1).max()
        single = query.x.dtype == torch.float32 and bool(reach.square() / v <= CONDITION_LIMIT)
        dtype = torch.float32 if single else torch.float64
        log = _polynomial(top - rest[0] / 2, pull[0], -first / 2)
        square = _polynomial(rest[1] - p.sum(1), -2 * pull[1], second)
        force = torch.cat([pull[0], first.reshape(self.count, -1)], dim=1)
        return _Quadratics(log.to(dtype), square.to(dtype), force.to(dtype), top)

    def trials(self, pilot: Query) -> _Trials:
        """What every tau gives and costs on a few points."""
        m, parts = len(pilot.x), len(self.rows)
        exact, _ = self.exact(pilot, torch.ones(m, parts, dtype=torch.bool))
        log_e, score_e, square_e = (z.reshape(parts, m, *z.shape[1:]).transpose(0, 1) for z in exact)
        matched = self.matched(pilot)
        bases = self.bases.reshape(self.dim, self.count, self.dim)
        score_m = -torch.einsum("mbe,dbe->mbd", matched.force.double().reshape(m, self.count, -1), bases)
        log_m, score_m, square_m = (
            torch.cat([z.double(), e[:, self.count :]], 1)
            for z, e in ((matched.log, log_e), (score_m, score_e), (matched.square, square_e))
        )
        truth = _mixed(log_e, score_e, square_e)
        candidates = []
        for cut in CUTS:
            heavy, _ = self.heavy(matched.log, matched.distance, cut)
            pairs = ((log_e, log_m), (score_e, score_m), (square_e, square_m))
            values = _mixed(*(torch.where(heavy if e.ndim == 2 else heavy.unsqueeze(2), e, z) for e, z in pairs))
            cost = float((heavy * (self.sizes + PART_COST)).sum(1).mean()) + MATCHED_COST * self.count
            candidates.append((cut, values, cost))
        return _Trials(self._exact_cost(pilot, truth.log_density), truth, candidates)

    def _exact_cost(self, pilot: Query, log_density: Tensor) -> float:
        """Pairs per point that the exact sum computes."""
        if pilot.x.dtype != torch.float32 or not native.available():
            return float(self.sizes.sum())
        a, v = expand(pilot.a, 2), expand(pilot.v, 2)
        distance = (pilot.x.double().unsqueeze(1) - a.reshape(-1, 1, 1) * self.means).norm(dim=2)
        bound = -(distance - a * self.radii).clamp(min=0).square() / (2 * v) - self.dim / 2 * (2 * math.pi * v).log()
        return float(((bound >= log_density.unsqueeze(1) - _DROPPED) * self.sizes).sum(1).mean())


def _mixed(log: Tensor, score: Tensor, square: Tensor) -> LawValues:
    """The law from log W_b q_b ``[m, parts]``, s_b ``[m, parts, d]`` and div + |s_b|^2 ``[m, parts]`` of its parts."""
    r = log.softmax(1)
    total = (r.unsqueeze(2) * score).sum(1)
    return LawValues(log.logsumexp(1), total, (r * square).sum(1) - total.square().sum(1))


def _features(x: Tensor) -> Tensor:
    """1, x_i and x_i x_j for i <= j, ``[m, W]``."""
    i, j = torch.triu_indices(x.shape[1], x.shape[1])
    return torch.cat([torch.ones_like(x[:, :1]), x, x[:, i] * x[:, j]], dim=1)


def _polynomial(constant: Tensor, linear: Tensor, quadratic: Tensor) -> Tensor:
    """Coefficients ``[W, B]`` with respect to :func:`_features` of c + l.x + x.Q x for B blocks, Q symmetric."""
    i, j = torch.triu_indices(linear.shape[1], linear.shape[1])
    twice = quadratic[:, i, j] * torch.where(i == j, 1, 2)
    return torch.cat([constant.unsqueeze(1), linear, twice], dim=1).T.contiguous()


def _moments(c: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean ``[d]``, eigenvalues ``[d]`` and eigenvectors ``[d, d]`` of the covariance."""
    p = w / w.sum()
    mean = p @ c
    y = c - mean
    values, vectors = torch.linalg.eigh((y * p.unsqueeze(1)).T @ y)
    return mean, values.clamp(min=0), oriented(vectors)


def partition(centres: Tensor, weights: Tensor, blocks: int) -> list[Tensor]:
    r"""Cut weighted points into at most `blocks` compact blocks.

    Always the block with the largest :math:`W_b \lambda_{max}(C_b)` is cut across its principal axis, where that
    lowers the variance along it most (Otsu's cut, which finds gaps). Blocks of equal points are not cut.

    Args:
        centres: ``[N, d]`` float64.
        weights: ``[N]`` float64.
        blocks: most blocks.

    Returns:
        Row numbers of every block.
    """
    heap: list[tuple[float, int, Tensor, Tensor]] = []

    def push(rows: Tensor) -> None:
        mean, values, vectors = _moments(centres[rows], weights[rows])
        along = (centres[rows] - mean) @ vectors[:, -1]
        heapq.heappush(heap, (-float(values[-1] * weights[rows].sum()), next(number), rows, along))

    number = itertools.count()
    push(torch.arange(len(centres)))
    floor = 1e-20 * float(centres.square().sum(1).max())
    while len(heap) < blocks and -heap[0][0] > floor:
        _, _, rows, along = heapq.heappop(heap)
        along, order = along.sort(stable=True)
        w = weights[rows][order]
        left, moment = w.cumsum(0)[:-1], (w * along).cumsum(0)[:-1]
        cut = int((moment.square() * (1 / left + 1 / (w.sum() - left))).argmax()) + 1
        push(rows[order[:cut]])
        push(rows[order[cut:]])
    return [rows for _, _, rows, _ in sorted(heap, key=lambda block: int(block[2][0]))]


def _without_strays(c: Tensor, w: Tensor, blocks: list[Tensor], h: float) -> tuple[list[Tensor], Tensor]:
    """Blocks without the centres that lie furthest out in their block, and these centres."""
    count = int(STRAYS * len(c))
    far = torch.zeros(len(c), dtype=torch.float64)
    for rows in blocks:
        mean, values, vectors = _moments(c[rows], w[rows])
        scale = values + h * h + 1e-9 * values.sum() + 1e-300
        far[rows] = (((c[rows] - mean) @ vectors).square() / scale).sum(1)
    stray = torch.zeros(len(c), dtype=torch.bool)
    stray[far.argsort(descending=True, stable=True)[:count]] = True
    kept = [rows[~stray[rows]] for rows in blocks]
    return [rows for rows in kept if len(rows)], stray.nonzero()[:, 0]
