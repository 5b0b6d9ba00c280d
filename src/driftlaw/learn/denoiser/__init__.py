"""The neural denoiser: configuration, networks, training, generation, diffusers pipelines and processes."""

from driftlaw.learn.denoiser.config import Chain, DenoiserConfig, Network, Optimiser, Sampling

__all__ = ["Chain", "DenoiserConfig", "Network", "Optimiser", "Sampling"]
