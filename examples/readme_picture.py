"""The picture of the README: drift by generation with its floor, and samples of every generation, from a stored run.

python examples/readme_picture.py RUN_DIR docs/figures/digits.png [--measure frechet] [--columns 14]

Without RUN_DIR and FILE a small mixture study is run in a temporary folder and drawn to picture.png.
test:
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.gridspec import GridSpecFromSubplotSpec

import driftlaw as dl
from driftlaw.loop.history import History
from driftlaw.report.vocabulary import HEADLINE, measure

INK, REAL, MODEL = "#22262b", "#4c6a92", "#b5483a"
STYLE = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": "#9aa0a6",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
}


def picture(history: History, path: Path, name: str | None = None, columns: int = 14) -> None:
    """Draw `history` to `path` (.png or .svg)."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.add_gridspec(1, 2, width_ratios=[1, 1.35])
        drift(figure.add_subplot(left), history, name or headline(history))
        rows = {i: history.samples(i) for i in range(len(history) + 1)}
        (strips if rows[0].ndim == 4 else scatters)(figure, right, rows, columns)
        figure.savefig(path, dpi=110)
        plt.close(figure)


def headline(history: History) -> str:
    """A measure that every generation has, preferably one with a floor."""
    every = [k for k in HEADLINE if all(k in g.divergence for g in history)]
    return next((k for k in every if k in history[1].floor), every[0])


def drift(axes: plt.Axes, history: History, name: str) -> None:
    """The measure by generation with 95 % intervals, and real against real rows as a band."""
    what = measure(name)
    index = [g.index for g in history]
    found = [g.divergence[name] for g in history]
    low, high = (np.array([getattr(e, end) for e in found]) for end in ("low", "high"))
    value = np.array([e.value for e in found])
    axes.errorbar(index, value, [value - low, high - value], color=MODEL, marker="o", capsize=3, label="generations")
    floor = history[1].floor.get(name)
    if floor is not None:
        axes.axhspan(floor.low, floor.high, color=REAL, alpha=0.2, lw=0, label="real against real (floor)")
        axes.axhline(floor.value, color=REAL, lw=1)
    axes.set(xlabel="generation", ylabel=what.axis, xticks=index)
    axes.set_title(f"{history.config['name']}: {history[len(history)].alpha:.0%} fresh real data", loc="left")
    axes.legend(frameon=False)


def strips(figure: plt.Figure, place: object, rows: dict[int, np.ndarray], columns: int) -> None:
    """One row of images for each generation: the first stored ones, not chosen."""
    grid = GridSpecFromSubplotSpec(len(rows), 1, place, hspace=0.08)
    for k, (i, x) in enumerate(rows.items()):
        x = np.clip(x[:columns, :3] if x.shape[1] >= 3 else x[:columns, :1], -1, 1)
        gap = np.ones((*x.shape[:3], 1))
        strip = np.concatenate([np.concatenate([image, g], axis=2) for image, g in zip(x, gap, strict=True)], axis=2)
        axes = figure.add_subplot(grid[k])
        axes.imshow((1 + strip.transpose(1, 2, 0).squeeze()) / 2, cmap="gray", vmin=0, vmax=1)
        label(axes, i)


def scatters(figure: plt.Figure, place: object, rows: dict[int, np.ndarray], columns: int) -> None:
    """First two principal components of the real rows, the same axes for every generation."""
    across = -(-len(rows) // 2)
    grid = GridSpecFromSubplotSpec(2, across, place)
    centre = rows[0].mean(0)
    plane = np.linalg.svd(rows[0] - centre, full_matrices=False)[2][:2].T
    for k, (i, x) in enumerate(rows.items()):
        axes = figure.add_subplot(grid[divmod(k, across)])
        axes.scatter(*((x[:300] - centre) @ plane).T, s=3, color=MODEL if i else REAL, lw=0)
        reach = 1.3 * abs((rows[0] - centre) @ plane).max(0)
        axes.set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]), aspect="auto")
        axes.set_title("real" if i == 0 else f"generation {i}", fontsize=9)
        axes.set(xticks=[], yticks=[])


def label(axes: plt.Axes, index: int) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_ylabel("real" if index == 0 else str(index), rotation=0, ha="right", va="center")
    for side in axes.spines.values():
        side.set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("file", nargs="?", type=Path, default=Path("picture.png"))
    parser.add_argument("--measure", default=None)
    parser.add_argument("--columns", type=int, default=14)
    options = parser.parse_args()
    if options.run is not None:
        picture(dl.load(options.run), options.file, options.measure, options.columns)
        return
    study = dl.Study(
        source="gmm",
        estimator=dl.KDE(0.6),
        policy=0.1,
        samples=120,
        generations=2,
        measures={"density_samples": 100, "path_samples": 0},
    )
    with tempfile.TemporaryDirectory() as folder:
        for _ in dl.run(study, out=Path(folder) / "run"):
            pass
        picture(dl.load(Path(folder) / "run"), options.file, options.measure)


if __name__ == "__main__":
    main()
