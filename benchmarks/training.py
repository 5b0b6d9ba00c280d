"""Rows per second of driftlaw's training loop and sampler against a plain PyTorch loop over the same network.

Both train the same architecture on the same rows with AdamW, an exponential moving average and a cosine rate; the plain
loop is what one writes by hand. The loops alone are timed, after a first step: neither side's set-up, nor driftlaw's
hashing of the data and its evaluation after the last step. They alternate within one process, so that load on the
machine hits both; medians, minima and maxima are reported. Both rates and their ratio are printed; --json keeps them.

    python -m benchmarks.training --net unet --shape 1,28,28 --threads 2
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import statistics
import time
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.machine import facts
from driftlaw import seeding
from driftlaw.learn import Denoiser, FitContext
from driftlaw.learn.preconditioning import noised, root_mean_square
from driftlaw.process.schedule import alpha, karras_grid, noise_ratio, sigma


def driftlaw_training(config: Denoiser, data, seed: int) -> float:
    """Seconds from the end of the first step to the end of the last."""
    stamps: list[float] = []
    config.fit(data, FitContext(seed=seed, progress=lambda fraction, text: stamps.append(time.perf_counter())))
    return stamps[-1] - stamps[0]


def plain_training(config: Denoiser, data, steps: int, g: torch.Generator) -> float:
    """The same for a loop written by hand: default AdamW, per-tensor average, random rows, log-normal noise."""
    stamps: list[float] = []
    net = config.network(tuple(data.shape[1:]), g).train()
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
        stamps.append(time.perf_counter())
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
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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


def run(
    net: str = "unet",
    shape: tuple[int, ...] = (1, 28, 28),
    width: int | None = None,
    batch: int = 128,
    steps: int = 10,
    samples: int = 64,
    repeats: int = 5,
    compile_step: bool = False,
) -> dict:
    """Rows per second of training and sampling, driftlaw and the plain loop in turn."""
    config = Denoiser(net=net, width=width, steps=steps, batch=batch, compile=compile_step, holdout_every=10**9)
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
    return {
        "machine": facts(),
        "setting": {"net": net, "shape": shape, "batch": batch, "steps": steps, "samples": samples,
                    "compile": compile_step, "parameters": sum(p.numel() for p in model.net.parameters())},
        "train_rows_per_second": train,
        "sample_rows_per_second": sample,
    }  # fmt: skip


def table(result: dict) -> str:
    return "\n".join(f"{key}: {result[key]}" for key in ("train_rows_per_second", "sample_rows_per_second"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="unet", choices=["mlp", "unet"])
    parser.add_argument("--shape", default="1,28,28", help="shape of one row")
    parser.add_argument("--width", type=int, default=None)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="training steps per timing")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--compile", action="store_true", help="torch.compile driftlaw's step")
    parser.add_argument("--json", type=Path, help="also write the result here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shape = tuple(int(v) for v in args.shape.split(","))
    result = run(args.net, shape, args.width, args.batch, args.steps, args.samples, args.repeats, args.compile)
    print(table(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
