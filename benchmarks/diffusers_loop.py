"""Images per second of driftlaw's training and sampling against a plain diffusers loop over the same network.

The network is one UNet2DModel. The peer trains it as the documentation of diffusers does (DDPMScheduler.add_noise,
error of the noise, AdamW, EMAModel) and samples with the scheduler's own steps; driftlaw trains the same loss
(``dl.from_diffusers``) and samples the same chain. They alternate within one process; CPU seconds of the process are
counted, so that other load on the machine counts less. Medians, minima and maxima over the repetitions. The peak
memory of each side is measured in a process of its own.

    python -m benchmarks.diffusers_loop --threads 1
"""

from __future__ import annotations

import copy
import os
import resource
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec

import torch

from benchmarks import command
from benchmarks.machine import facts
from driftlaw import seeding
from driftlaw.learn import FitContext, from_diffusers
from driftlaw.learn.denoiser.epsilon import EpsilonNetwork, Timestepped
from driftlaw.learn.denoiser.generator import DenoiserModel

LR, DECAY = 1e-4, 0.999


def pipeline(shape: tuple[int, ...], levels: int):
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=shape[-1], in_channels=shape[0], out_channels=shape[0], layers_per_block=1, norm_num_groups=8,
        block_out_channels=(16, 32, 32), down_block_types=("DownBlock2D",) * 3, up_block_types=("UpBlock2D",) * 3,
    )  # fmt: skip
    return DDPMPipeline(
        unet, DDPMScheduler(num_train_timesteps=levels, beta_end=min(0.5, 20 / levels), clip_sample=False)
    )


def plain_training(pipe, data, steps: int, batch: int) -> float:
    """CPU seconds of all steps after the first."""
    from diffusers.training_utils import EMAModel

    unet = copy.deepcopy(pipe.unet).train()
    average = EMAModel(unet.parameters(), decay=DECAY)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data), batch_size=batch, shuffle=True)
    done, start = 0, 0.0
    while done < steps:
        for (x,) in loader:
            noise = torch.randn_like(x)
            k = torch.randint(0, pipe.scheduler.config.num_train_timesteps, (len(x),))
            loss = torch.nn.functional.mse_loss(unet(pipe.scheduler.add_noise(x, noise, k), k).sample, noise)
            loss.backward()
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            average.step(unet.parameters())
            done += 1
            if done == 1:
                start = time.process_time()
            if done == steps:
                break
    return time.process_time() - start


def driftlaw_training(pipe, data, steps: int, batch: int, seed: int) -> float:
    """The same for the same network and loss."""
    config = from_diffusers(
        pipe, steps=steps, batch=batch, lr=LR, ema=DECAY, warmup=0, weight_decay=0.01, beta2=0.999, holdout_every=10**9
    )
    stamps: list[float] = []
    config.fit(data, FitContext(seed=seed, progress=lambda fraction, text: stamps.append(time.process_time())))
    return stamps[-1] - stamps[0]


@torch.no_grad()
def plain_sampling(pipe, n: int, shape: tuple[int, ...], seed: int) -> float:
    start, g = time.process_time(), torch.Generator().manual_seed(seed)
    x = torch.randn(n, *shape, generator=g)
    pipe.scheduler.set_timesteps(pipe.scheduler.config.num_train_timesteps)
    for k in pipe.scheduler.timesteps:
        x = pipe.scheduler.step(pipe.unet(x, k).sample, k, x, generator=g).prev_sample
    return time.process_time() - start


def driftlaw_sampling(pipe, n: int, shape: tuple[int, ...], seed: int) -> float:
    config = from_diffusers(pipe)
    net = EpsilonNetwork(Timestepped(copy.deepcopy(pipe.unet)), config.levels()).eval().requires_grad_(False)
    model = DenoiserModel(config, net, 1.0, shape, {})
    start = time.process_time()
    model.sample(n, torch.Generator().manual_seed(seed))
    return time.process_time() - start


def alternate(work: dict, images: int, repeats: int) -> dict:
    """Images per CPU second of each side, and their ratio pair by pair; the first round warms up."""
    rates: dict[str, list[float]] = {name: [] for name in work}
    for r in range(repeats + 1):
        for name in list(work) if r % 2 else reversed(list(work)):
            seconds = work[name](r)
            if r:
                rates[name].append(images / seconds)
    pairs = [a / b for a, b in zip(rates["driftlaw"], rates["diffusers"], strict=True)]
    return {
        key: {"median": statistics.median(v), "min": min(v), "max": max(v)}
        for key, v in {**rates, "ratio": pairs}.items()
    }


def peak_memory(side: str, shape: tuple[int, ...], steps: int, batch: int) -> float:
    """MiB of a process that only trains, one side."""
    command = [sys.executable, "-m", "benchmarks.diffusers_loop", "--peak", side, "--steps", str(steps)]
    command += ["--batch", str(batch), "--shape", ",".join(map(str, shape)), "--threads", str(torch.get_num_threads())]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def one_side(side: str, shape: tuple[int, ...], steps: int, batch: int) -> float:
    data = torch.rand(1024, *shape, generator=seeding.generator(0, "rows")) * 2 - 1
    pipe = pipeline(shape, 1000)
    (plain_training if side == "diffusers" else lambda *a: driftlaw_training(*a, 0))(pipe, data, steps, batch)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(
    shape: tuple[int, ...] = (1, 28, 28),
    batch: int = 16,
    steps: int = 5,
    samples: int = 16,
    levels: int = 20,
    repeats: int = 7,
) -> dict:
    """Images per CPU second of training and sampling, and peak memory; {"skipped": why} without diffusers."""
    if find_spec("diffusers") is None:
        return {"skipped": "diffusers is not installed (extra driftlaw[diffusers])"}
    torch.manual_seed(0)  # diffusers and its loop draw from the global random state
    data = torch.rand(1024, *shape, generator=seeding.generator(0, "rows")) * 2 - 1
    pipe, short = pipeline(shape, 1000), pipeline(shape, levels)
    train = alternate(
        {
            "driftlaw": lambda r: driftlaw_training(pipe, data, steps, batch, r),
            "diffusers": lambda r: plain_training(pipe, data, steps, batch),
        },
        (steps - 1) * batch,
        repeats,
    )
    sample = alternate(
        {
            "driftlaw": lambda r: driftlaw_sampling(short, samples, shape, r),
            "diffusers": lambda r: plain_sampling(short, samples, shape, r),
        },
        samples,
        repeats,
    )
    return {
        "machine": facts(),
        "setting": {"shape": shape, "batch": batch, "steps": steps, "samples": samples, "levels": levels,
                    "repeats": repeats, "parameters": sum(p.numel() for p in pipe.unet.parameters())},
        "train_images_per_cpu_second": train,
        "sample_images_per_cpu_second": sample,
        "peak_memory_mib": {side: peak_memory(side, shape, steps, batch) for side in ("driftlaw", "diffusers")},
    }  # fmt: skip


def table(result: dict) -> str:
    if "skipped" in result:
        return f"skipped: {result['skipped']}"
    lines = []
    for key in ("train_images_per_cpu_second", "sample_images_per_cpu_second"):
        for name, v in result[key].items():
            lines.append(f"{key:30} {name:10} {v['median']:8.3g} [{v['min']:.3g}, {v['max']:.3g}]")
    lines += [f"{'peak_memory_mib':30} {name:10} {v:8.0f}" for name, v in result["peak_memory_mib"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--shape", default="1,28,28", help="shape of one image")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5, help="training steps per timing")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--levels", type=int, default=20, help="levels of the chain that is sampled")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--peak", choices=["driftlaw", "diffusers"], help="print the peak memory of one side's training"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shape = tuple(int(v) for v in args.shape.split(","))
    if args.peak:
        sys.stdout.write(f"{one_side(args.peak, shape, args.steps, args.batch)}\n")
        return
    result = run(shape, args.batch, args.steps, args.samples, args.levels, args.repeats)
    command.finish(result, table, args.json)


if __name__ == "__main__":
    main()
