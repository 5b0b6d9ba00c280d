"""The neural denoiser: configuration, networks, training, generation, diffusers pipelines and processes."""
