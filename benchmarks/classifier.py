"""Accuracy of driftlaw's classifier on the Fashion-MNIST test set, and the CPU seconds of its training.

Trained on the 60,000 official training images (or the first --rows of a seeded order), judged on the 10,000 official
test images, which it never sees. The time is CPU time of the process over all threads: on a busy machine it is steadier
than the clock. On c free cores training takes about this divided by c.

    python -m benchmarks.classifier --threads 2
"""

from __future__ import annotations

import time

import torch

from benchmarks import command
from benchmarks.machine import facts
from driftlaw.data import as_source
from driftlaw.learn.classifier import ConvClassifier
from driftlaw.measure.sets.moments import proportion
from driftlaw.seeding import generator


def run(rows: int = 60_000, seed: int = 0, **settings: float) -> dict:
    """Train once and judge once."""
    source = as_source("fashion-mnist")
    train = source.draw(rows, generator(seed, "rows"))
    test = source.held_out(10_000, generator(seed, "test"))
    config = ConvClassifier(**settings)
    clock, start = time.perf_counter(), time.process_time()
    model = config.fit(train.x, train.y, classes=10, seed=seed)
    cpu, wall = time.process_time() - start, time.perf_counter() - clock
    accuracy = proportion(int((model.predict(test.x) == test.y).sum()), len(test))
    return {
        "machine": facts(),
        "setting": config.config() | {"rows": rows, "seed": seed},
        "accuracy": accuracy.to_json(),
        "cpu_seconds": cpu,
        "wall_seconds": wall,
    }


def table(result: dict) -> str:
    found, rows = result["accuracy"], result["setting"]["rows"]
    return (
        f"{rows} training rows: accuracy {found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}] on "
        f"{found['n']} test images; training {result['cpu_seconds']:.0f} CPU s, {result['wall_seconds']:.0f} s by the "
        f"clock on {result['machine']['threads']} thread(s), load {result['machine']['load'][0]:.1f}"
    )


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--width", type=int, default=None)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    given = {k: v for k, v in (("epochs", args.epochs), ("width", args.width)) if v is not None}
    result = run(args.rows, args.seed, **given)
    command.finish(result, table, args.json)


if __name__ == "__main__":
    main()
