"""A recursion around a model of one's own: a tiny DDPM of Hugging Face's diffusers on 8x8 digits.

Two ways. (1) The pipeline becomes a learner of driftlaw (``dl.from_diffusers``): same network, same scheduler, same
loss, and because its levels are times of the theory, the trained pipeline has a score. (2) A training loop of one's
own, here the plain one of the diffusers documentation, is wrapped as a function (``dl.CallableEstimator``): driftlaw
mixes the training sets, keeps the samples and measures the drift, and knows nothing of the model.

    python examples/bring_your_own_diffusers.py --epochs 40 --generations 5

test: --epochs 1 --generations 2 --samples 64
"""

from __future__ import annotations

import argparse
import sys

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

import driftlaw as dl


def tiny_pipeline() -> DDPMPipeline:
    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(16, 32), layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return DDPMPipeline(unet, DDPMScheduler(num_train_timesteps=50, beta_end=0.25))


def own_loop(epochs: int):
    """Any function of (rows, context) that returns a sampler; nothing of driftlaw is needed inside."""

    def fit(rows, context):
        torch.manual_seed(context.seed % 2**31)
        pipeline = tiny_pipeline()
        unet, scheduler = pipeline.unet, pipeline.scheduler
        optimiser = torch.optim.AdamW(unet.parameters(), lr=2e-3)
        for _ in range(epochs):
            for x in rows[torch.randperm(len(rows))].split(32):
                noise, k = torch.randn_like(x), torch.randint(0, 50, (len(x),))
                loss = torch.nn.functional.mse_loss(unet(scheduler.add_noise(x, noise, k), k).sample, noise)
                loss.backward()
                optimiser.step()
                optimiser.zero_grad()
        pipeline.set_progress_bar_config(disable=True)

        def sampler(n: int, generator: torch.Generator) -> torch.Tensor:
            images = pipeline(batch_size=n, generator=generator, num_inference_steps=50, output_type="np").images
            return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1  # [0, 1] in pipelines, [-1, 1] in driftlaw

        return sampler

    return fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--generations", type=int, default=5)
    parser.add_argument("--samples", type=int, default=600)
    args = parser.parse_args()
    learners = {
        "pipeline as learner": dl.from_diffusers(
            tiny_pipeline(), epochs=args.epochs, warm_epochs=args.epochs, batch=32, lr=2e-3, warmup=0
        ),
        "training loop of one's own": dl.CallableEstimator(own_loop(args.epochs)),
    }
    for name, learner in learners.items():
        study = dl.Study(
            source="digits", estimator=learner, policy=0.1, samples=args.samples, generations=args.generations,
            reuse=True, measures={"samples": min(args.samples, 300), "critic_rows": 0},
        )  # fmt: skip
        sys.stdout.write(f"{name}\n")
        for g in dl.run(study):
            sys.stdout.write(f"  generation {g.index}: {g.alpha:.0%} real, mmd2 {g.divergence['mmd2']}\n")


if __name__ == "__main__":
    main()
