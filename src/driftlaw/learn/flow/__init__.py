"""Flow matching: a denoiser's networks and training with the loss and the samplers of straight paths."""
