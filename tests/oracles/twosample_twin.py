"""Naive twins of the set distances: double loops over rows, straight from the definitions; and closed forms."""

import math

import torch


def mmd2_naive(x, y, kernel):
    """Unbiased MMD^2 by loops; kernel(a, b) of two rows."""
    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return float(xx + yy - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m))


def gaussian_kernel(h):
    return lambda a, b: math.exp(-float(((a - b) ** 2).sum()) / (2 * h * h))


def cubic_kernel(a, b):
    return (float(a @ b) / len(a) + 1) ** 3


def dot_kernel(a, b):
    return float(a @ b)


def negative_distance(a, b):
    return -float((a - b).norm())


def prdc_naive(real, fake, k):
    """Precision, recall, density, coverage by loops."""

    def radius(rows, i):
        return sorted(float((rows[i] - rows[j]).norm()) for j in range(len(rows)) if j != i)[k - 1]

    real_radius = [radius(real, i) for i in range(len(real))]
    fake_radius = [radius(fake, j) for j in range(len(fake))]
    d = [[float((r - s).norm()) for s in fake] for r in real]
    n, m = len(real), len(fake)
    inside = [[d[i][j] <= real_radius[i] for j in range(m)] for i in range(n)]
    return {
        "precision": sum(any(inside[i][j] for i in range(n)) for j in range(m)) / m,
        "recall": sum(any(d[i][j] <= fake_radius[j] for j in range(m)) for i in range(n)) / n,
        "density": sum(sum(row) for row in inside) / (k * m),
        "coverage": sum(any(row) for row in inside) / n,
    }


def mmd2_gaussians(shift, var_x, var_y, d, h):
    """MMD^2 of N(shift e_1, var_x I) and N(0, var_y I) in R^d under the Gaussian kernel of bandwidth h."""

    def mean_kernel(distance2, variance):
        return (h * h / (h * h + variance)) ** (d / 2) * math.exp(-distance2 / (2 * (h * h + variance)))

    return mean_kernel(0, 2 * var_x) + mean_kernel(0, 2 * var_y) - 2 * mean_kernel(shift**2, var_x + var_y)


def energy_gaussians_1d(shift, var_x, var_y):
    """Energy distance of N(shift, var_x) and N(0, var_y) on the line (mean of a folded normal)."""

    def mean_abs(m, v):
        return math.sqrt(2 * v / math.pi) * math.exp(-m * m / (2 * v)) + m * math.erf(m / math.sqrt(2 * v))

    return 2 * mean_abs(shift, var_x + var_y) - mean_abs(0, 2 * var_x) - mean_abs(0, 2 * var_y)


def kid_gaussians_1d(shift, sd):
    """Cubic-kernel MMD^2 of N(shift, sd^2) and N(0, 1) on the line: sum_p binom(3, p) (p-th moments' difference)^2."""
    moments = [1, shift, shift**2 + sd**2, shift**3 + 3 * shift * sd**2]
    return sum(c * (a - b) ** 2 for c, a, b in zip((1, 3, 3, 1), moments, (1, 0, 1, 0), strict=True))


def frechet_gaussians(mean_x, cov_x, mean_y, cov_y):
    """Frechet distance through the eigenvalues of the (non-symmetric) product of covariances."""
    roots = torch.linalg.eigvals(cov_x @ cov_y).real.clamp(min=0).sqrt()
    return float(((mean_x - mean_y) ** 2).sum() + cov_x.trace() + cov_y.trace() - 2 * roots.sum())


def coverage_equal_laws(n, k):
    """E coverage when both sets of n rows have one continuous law: exchangeability."""
    return 1 - math.prod((n - j) / (2 * n - j) for j in range(1, k + 1))
