"""Training and sampling by driftlaw against plain PyTorch loops over the same networks: an MLP and a U-Net.

    python -m benchmarks.training --json training.json

Both sides train the same architecture on the same rows with AdamW, an exponential moving average and a cosine rate, and
sample with Heun's method; the plain loops are what one writes by hand. The loops alone are timed, after a first step:
neither side's set-up, nor driftlaw's hashing of the data and its evaluation after the last step. Rows per second of
processor time, so that other programs on the machine change little; the two sides take turns within one process.
Medians and ranges of the rates, and of the ratio driftlaw / plain within a repetition.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from itertools import pairwise

import torch

from benchmarks import command
from benchmarks.machine import facts
from driftlaw import seeding
from driftlaw.learn import Denoiser, FitContext
from driftlaw.learn.denoiser.preconditioning import noised, root_mean_square
from driftlaw.process.schedule import alpha, karras_grid, noise_ratio, sigma


def driftlaw_training(config: Denoiser, data, seed: int) -> float:
    """Processor seconds from the end of the first step to the end of the last."""
    stamps: list[float] = []
    config.fit(data, FitContext(seed=seed, progress=lambda fraction, text: stamps.append(time.process_time())))
    return stamps[-1] - stamps[0]


def plain_training(config: Denoiser, data, steps: int, g: torch.Generator) -> float:
    """The same for a loop written by hand: default AdamW, per-tensor average, random rows, log-normal noise."""
    stamps: list[float] = []
    net = config.build_network(tuple(data.shape[1:]), g).train()
    average, sd = copy.deepcopy(net), root_mean_square(data)
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        x0 = data[torch.randint(len(data), (config.batch,), generator=g)]
        z = torch.randn(x0.shape, generator=g)
        lam = math.log(sd) - 0.5 + 1.2 * torch.randn(len(x0), generator=g)
        x, target = noised(x0, z, lam, sd)
        loss = torch.nn.functional.mse_loss(net(x, lam), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for a, p in zip(average.parameters(), net.parameters(), strict=True):
                a.lerp_(p, 1 - config.ema)
        stamps.append(time.process_time())
    return stamps[-1] - stamps[0]


@torch.no_grad()
def plain_sampling(model, n: int, g: torch.Generator):
    """Heun's method over the whole batch, written out, with one time per row as networks are usually called."""
    config = model.config
    x = torch.randn(n, *model.shape, generator=g)
    times = karras_grid(config.T, config.t0, config.solver_steps).tolist()
    for t, s in pairwise(times):
        step = float(noise_ratio(s) - noise_ratio(t))
        slope = -float(sigma(t)) * model.score(x, torch.full((n,), t, dtype=torch.float64))
        y = x / float(alpha(t))
        guess = float(alpha(s)) * (y + step * slope)
        x = float(alpha(s)) * (
            y + step / 2 * (slope - float(sigma(s)) * model.score(guess, torch.full((n,), s, dtype=torch.float64)))
        )
    return x


def timed(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(work: dict, rows: int, repeats: int) -> dict:
    """Alternate the competitors, each of which returns its seconds; rows per second of each."""
    rates: dict[str, list[float]] = {name: [] for name in work}
    for r in range(repeats + 1):
        names = list(work) if r % 2 else list(reversed(work))
        for name in names:
            seconds = work[name](r)
            if r:  # the first round warms up
                rates[name].append(rows / seconds)
    out = {k: {"median": statistics.median(v), "min": min(v), "max": max(v)} for k, v in rates.items()}
    pairs = [a / b for a, b in zip(rates["driftlaw"], rates["plain"], strict=True)]
    out["ratio"] = {"median": statistics.median(pairs), "min": min(pairs), "max": max(pairs)}
    return out


#: name: network, shape of a row, batch, training steps and samples in one timing
CASES = {
    "mlp": {"net": "mlp", "shape": (64,), "batch": 256, "steps": 60, "samples": 1000},
    "unet": {"net": "unet", "shape": (1, 28, 28), "batch": 64, "steps": 6, "samples": 16},
}


def case(net: str, shape: tuple[int, ...], batch: int, steps: int, samples: int, repeats: int) -> dict:
    """Rows per second of training and sampling, driftlaw and the plain loop in turn."""
    config = Denoiser(net=net, steps=steps, batch=batch, holdout_every=10**9)
    data = torch.rand(1024, *shape, generator=seeding.generator(0, "rows")) * 2 - 1
    model = config.fit(data, FitContext())
    train = measure(
        {
            "driftlaw": lambda r: driftlaw_training(config, data, r),
            "plain": lambda r: plain_training(config, data, steps, seeding.generator(r, "plain")),
        },
        (steps - 1) * batch,
        repeats,
    )
    sample = measure(
        {
            "driftlaw": lambda r: timed(lambda: model.sample(samples, seeding.generator(r, "sample"))),
            "plain": lambda r: timed(lambda: plain_sampling(model, samples, seeding.generator(r, "sample"))),
        },
        samples,
        repeats,
    )
    parameters = sum(p.numel() for p in model.net.parameters())
    return {"shape": shape, "batch": batch, "parameters": parameters, "training": train, "sampling": sample}


def run(repeats: int = 5, threads: int = 1, only: str | None = None) -> dict:
    """All cases as one JSON-ready mapping."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        chosen = {only: CASES[only]} if only else CASES
        return {"machine": facts(), "cases": {name: case(**what, repeats=repeats) for name, what in chosen.items()}}
    finally:
        torch.set_num_threads(before)


def table(result: dict) -> str:
    lines = [f"{'network':22} {'':8} {'driftlaw rows/s':>22} {'plain rows/s':>22} {'ratio':>18}"]
    for name, row in result["cases"].items():
        for stage in ("training", "sampling"):
            cells = [
                f"{row[stage][side]['median']:.{p}f} [{row[stage][side]['min']:.{p}f}, {row[stage][side]['max']:.{p}f}]"
                for side, p in (("driftlaw", 0), ("plain", 0), ("ratio", 2))
            ]
            label = f"{name}, {row['parameters'] / 1e6:.2f}M" if stage == "training" else ""
            lines.append(f"{label:22} {stage:8} {cells[0]:>22} {cells[1]:>22} {cells[2]:>18}")
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--only", choices=list(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    result = run(options.repeats, options.threads, options.only)
    command.finish(result, table, options.json)


if __name__ == "__main__":
    main()
