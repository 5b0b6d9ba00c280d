"""Flow matching by driftlaw against a plain loop, and beside the denoiser at equal steps.

    python -m benchmarks.flow --json flow.json

Rows per second of processor time of training and Euler sampling, in turns with a plain loop over the same network.
Then, for the same network and steps: processor seconds of the fit, relative score error of a mixture, and the Frechet
distance of digits in principal coordinates after each of two generations at alpha 0.1, over seeds.
"""

from __future__ import annotations

import statistics
import time

import torch

import driftlaw as dl
from benchmarks import command
from benchmarks.machine import facts
from driftlaw.learn import FitContext
from driftlaw.seeding import generator

STEPS, REPETITIONS, SEEDS, ROWS = 400, 5, 5, 2000
LAW = dl.GaussianMixture([0.4, 0.6], [[-1.5, 0.0], [1.0, 1.0]], [0.1, 0.3])


def clock() -> float:
    return time.process_time()


def plain(config: dl.FlowMatching, data: torch.Tensor, seed: int) -> tuple[float, float]:
    """Seconds of training and of sampling `ROWS` rows by Euler, as one writes them by hand."""
    g = generator(seed)
    net = config.build_network(tuple(data.shape[1:]), g)
    average = {k: v.clone() for k, v in net.state_dict().items()}
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=0.01)
    start = 0.0
    for step in range(STEPS):
        if step == 1:
            start = clock()
        x0 = data[torch.randint(len(data), (config.batch,), generator=g)]
        z, s = torch.randn(x0.shape, generator=g), torch.rand(len(x0), 1, generator=g).clamp(0.02, 0.97)
        loss = (net((1 - s) * z + s * x0, -torch.logit(s[:, 0])) - (x0 - z)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for name, value in net.state_dict().items():
                average[name].lerp_(value, 1 - config.ema)
    trained, n = clock() - start, config.solver_steps
    start = clock()
    with torch.no_grad():
        for part in torch.randn(ROWS, *data.shape[1:], generator=g).split(config.sample_batch):
            x = part
            for i in range(n):
                s = torch.full((1,), 0.02 + 0.95 * i / n)
                x = x + 0.95 / n * net(x, -torch.logit(s))
    return trained, clock() - start


def ours(config: dl.FlowMatching, data: torch.Tensor, seed: int) -> tuple[float, float]:
    """The same by driftlaw, from the end of its first step."""
    stamps: list[float] = []
    model = config.fit(data, FitContext(seed=seed, progress=lambda fraction, text: stamps.append(clock())))
    start = clock()
    model.sample(ROWS, generator(seed))
    return stamps[-1] - stamps[0], clock() - start


def run() -> dict[str, object]:
    """All measurements."""
    torch.set_num_threads(1)
    data = torch.randn(4000, 64, generator=generator(0))
    config = dl.FlowMatching(width=256, steps=STEPS, solver="euler", checkpoint_every=0, holdout_every=10**6)
    pairs = [(ours(config, data, k), plain(config, data, k)) for k in range(REPETITIONS)]
    work = (128 * (STEPS - 1), ROWS)
    rates = [[[w / seconds for w, seconds in zip(work, side, strict=True)] for side in pair] for pair in pairs]
    return {"machine": facts(), "rates": rates, "quality": quality()}


def quality() -> dict[str, list[list[float]]]:
    """``{learner: [[seconds, score error at t = .1, Frechet of generation 1, of 2], ...]}`` over seeds."""
    found: dict[str, list[list[float]]] = {"denoiser": [], "flow": []}
    settings = {"width": 128, "steps": 1500, "warm_steps": 750, "lr": 3e-3}
    for seed in range(SEEDS):
        rows = LAW.sample(4096, generator(seed))
        for name, maker in (("denoiser", dl.Denoiser), ("flow", dl.FlowMatching)):
            start = clock()
            model = maker(**settings).fit(rows, FitContext(seed=seed))
            spent = clock() - start
            x = LAW.diffuse(0.1).sample(4000, generator(seed, "x"))
            exact = LAW.score(x, 0.1)
            error = float((model.score(x, 0.1) - exact).square().sum() / exact.square().sum())
            study = dl.Study(source="digits", estimator=maker(**settings), policy=0.1, samples=600, generations=2,
                             seed=seed, reuse=True, threads=1, measures={"critic_rows": 0})  # fmt: skip
            found[name].append([spent, error, *(g.divergence["frechet"].value for g in dl.run(study))])
    return found


def table(result: dict[str, object]) -> str:
    """The result as text: median [smallest, largest]."""

    def shown(values: list[float], form: str) -> str:
        return f"{statistics.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"

    rates, lines = result["rates"], ["              driftlaw rows/s          plain rows/s             ratio"]
    for k, name in enumerate(("training", "sampling")):
        a, b = ([pair[side][k] for pair in rates] for side in (0, 1))  # type: ignore[attr-defined]
        ratio = shown([x / y for x, y in zip(a, b, strict=True)], ".2f")
        lines.append(f"{name:12}  {shown(a, '.0f'):<24} {shown(b, '.0f'):<24} {ratio}")
    lines.append("\n              seconds of a fit     score error, t = .1     Frechet, generation 1   generation 2")
    for name, rows in result["quality"].items():  # type: ignore[attr-defined]
        columns = [shown([row[k] for row in rows], form) for k, form in enumerate((".1f", ".4f", ".2f", ".2f"))]
        lines.append(f"{name:12}  {columns[0]:<20} {columns[1]:<23} {columns[2]:<23} {columns[3]}")
    return "\n".join(lines)


if __name__ == "__main__":
    options = command.parser(__doc__).parse_args()
    command.finish(run(), table, options.json)
