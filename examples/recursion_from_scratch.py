"""Model collapse in a hundred lines of torch, and the same study by driftlaw.

Each round mixes a fraction alpha of fresh real data with samples of the last model, trains a new model and samples it.
Here the model is a diffusion model in its simplest honest form: a kernel density estimate of the training rows, whose
score at every noise level is a softmax over those rows. Sampling solves dY = (Y/2 + s_t(Y)) du + dB backwards in time.

    q_i = alpha p + (1 - alpha) p_hat^i     ->     p_hat^{i+1} = N(0, h^2) * (rows of q_i)

The blur h adds h^2 to the variance in each round and a round forgets all but 1 - alpha of it, so that the second moment
follows m_{i+1} = alpha m_p + (1 - alpha) m_i + h^2. From scratch, by driftlaw and on paper, the numbers agree.

    python examples/recursion_from_scratch.py
    test:
"""

from __future__ import annotations

import math
import tempfile
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

ALPHA, BANDWIDTH, ROWS, GENERATIONS, SEEDS = 0.3, 0.5, 1000, 4, 4
#: Horizon and time steps of the sampler.
T, T0, STEPS = 8.0, 1e-3, 60


def target(n: int, generator: torch.Generator) -> Tensor:
    """Two Gaussians of standard deviation 0.5 at -2 and 2."""
    side = torch.randint(2, (n, 1), generator=generator) * 4.0 - 2.0
    return side + 0.5 * torch.randn(n, 1, generator=generator)


def score(x: Tensor, t: float, centres: Tensor) -> Tensor:
    """Gradient of the log density of the kernel density estimate, diffused by dX = -X/2 dt + dB to time t."""
    a, variance = math.exp(-t / 2), math.exp(-t) * BANDWIDTH**2 + 1 - math.exp(-t)
    weights = torch.softmax(-((x - a * centres.T) ** 2) / (2 * variance), dim=1)
    return (a * weights @ centres - x) / variance


def sample(centres: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Heun steps of the probability flow dx/dt = -(x + s_t(x))/2 from N(0, I) at T down to T0."""
    times = torch.logspace(math.log10(T), math.log10(T0), STEPS + 1).tolist()
    x = torch.randn(n, 1, generator=generator)
    for t, s in pairwise(times):
        slope = -(x + score(x, t, centres)) / 2
        y = x + (s - t) * slope
        x = x + (s - t) * (slope - (y + score(y, s, centres)) / 2) / 2
    return x


def from_scratch(seed: int) -> list[float]:
    """Second moments of generations 1..N."""
    generator = torch.Generator().manual_seed(seed)
    rows, moments = target(ROWS, generator), []
    for _ in range(GENERATIONS):
        model = rows  # "training": a kernel density estimate is its rows
        samples = sample(model, ROWS, generator)
        moments.append(float(samples.square().mean()))
        fresh = round(ALPHA * ROWS)
        rows = torch.cat([target(fresh, generator), samples[fresh:]])
    return moments


def by_driftlaw(seed: int, folder: Path) -> list[float]:
    """The same recursion as a study; its samples come from the exact law, so no time steps are needed."""
    import driftlaw as dl

    law = dl.GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], [0.25, 0.25])
    study = dl.Study(
        source=law,
        estimator=dl.KDE(BANDWIDTH, t0=T0),
        policy=dl.FixedFraction(ALPHA),
        samples=ROWS,
        generations=GENERATIONS,
        seed=seed,
        measures={"samples": 0, "density_samples": 200, "path_samples": 200},
    )
    return [g.moments["second_moment"].value for g in dl.run(study, out=folder / f"seed-{seed}")]


def on_paper() -> list[float]:
    """m_{i+1} = alpha m_p + (1 - alpha) m_i + h^2, with m_p = 4 + 0.25, up to the early stopping at T0."""
    moments, q = [], 4.25
    for _ in range(GENERATIONS):
        moments.append(math.exp(-T0) * (q + BANDWIDTH**2) + 1 - math.exp(-T0))
        q = ALPHA * 4.25 + (1 - ALPHA) * moments[-1]
    return moments


def main() -> None:
    """Print the three columns; raise where two of them differ by more than 4.5 standard errors."""
    with tempfile.TemporaryDirectory() as name:
        ways = {
            "from scratch": torch.tensor([from_scratch(s) for s in range(SEEDS)]),
            "driftlaw": torch.tensor([by_driftlaw(s, Path(name)) for s in range(SEEDS)]),
        }
    print("generation  on paper  " + "  ".join(f"{way:>16}" for way in ways))
    for i, exact in enumerate(on_paper()):
        cells = []
        for way, found in ways.items():
            # second moments of ROWS draws spread by about 3 sqrt((i + 1)/ROWS); four seeds alone would tell it badly
            mean, error = float(found[:, i].mean()), 3 * math.sqrt((i + 1) / (ROWS * SEEDS))
            if abs(mean - exact) > 4.5 * error:
                raise AssertionError(f"{way}, generation {i + 1}: {mean:.3f} against {exact:.3f} +- {error:.3f}")
            cells.append(f"{mean:8.3f} +- {error:.3f}")
        print(f"{i + 1:10}  {exact:8.3f}  " + "  ".join(f"{c:>16}" for c in cells))


if __name__ == "__main__":
    main()
