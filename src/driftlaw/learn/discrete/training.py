r"""The loss of masked diffusion in the training loop of the denoiser.

With the share m of masks uniform on (0, 1) the bound of the negative log-likelihood of a row is (Sahoo et al., arXiv
2406.07524; Shi et al., arXiv 2406.04329)

.. math:: -\log p_\theta(x) \le E_m \frac1m \sum_{i\ masked} -\log p_\theta(x_i \mid \text{what is seen}),

here per position and in nats. m is stratified over the batch; with m near 0 a row may have no mask and costs nothing.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from driftlaw import seeding
from driftlaw.learn.denoiser.training import BINS, EVALUATION_ROWS, Training

#: Smallest share of masks.
LEAST = 1e-3


def masked_loss(net: nn.Module, x: Tensor, share: Tensor, u: Tensor, mask: int) -> Tensor:
    """Loss of each row, nats per position.

    Args:
        net: codes to logits.
        x: ``[n, L]`` codes.
        share: ``[n]``, m.
        u: ``[n, L]`` uniforms; a position is masked where u < m.
        mask: the code of the mask.
    """
    hidden = u < share[:, None]
    logits = net(torch.where(hidden, mask, x))
    cost = F.cross_entropy(logits.transpose(1, 2), x, reduction="none")
    return torch.where(hidden, cost, 0.0).mean(1) / share


class MaskedEvaluation:
    """The loss of a network on given rows with fixed masks, in `BINS` bins of increasing share of masks."""

    def __init__(self, rows: Tensor, mask: int, seed: int, device: torch.device) -> None:
        g = seeding.generator(seed, "evaluation")
        m = EVALUATION_ROWS
        index = torch.randperm(len(rows), generator=g).repeat(-(-m // len(rows)))[:m]
        self.x = rows[index.to(rows.device)].to(device)
        share = LEAST + (1 - LEAST) * (torch.arange(m) + torch.rand(m, generator=g)) / m
        self.share, self.u = share.to(device), torch.rand(self.x.shape, generator=g).to(device)
        self.mask = mask

    @torch.no_grad()
    def __call__(self, net: nn.Module) -> list[float]:
        """Mean loss in each bin; their mean is the loss."""
        parts = zip(*(torch.split(v, 128) for v in (self.x, self.share, self.u)), strict=True)
        losses = torch.cat([masked_loss(net, x, share, u, self.mask) for x, share, u in parts])
        return [float(v) for v in losses.double().view(BINS, -1).mean(1)]


class MaskedTraining(Training):
    """:class:`~driftlaw.learn.denoiser.training.Training` of codes ``[n, L]`` with the loss of masked diffusion."""

    def watch(self, held_out: Tensor | None, mask: int) -> None:
        """What the loss is recorded on; call it before :meth:`run`."""
        self.mask = mask
        if held_out is not None:
            self.held_out = MaskedEvaluation(held_out, mask, self.context.seed, self.device)  # type: ignore[assignment]

    def _bin(self, low: float, high: float) -> str:
        return f"masked={low:.2g}..{high:.2g}"

    def _train_loss(self) -> float:
        loss = MaskedEvaluation(self.data, self.mask, self.context.seed, self.device)
        return math.fsum(loss(self.average)) / BINS

    def _step(self, step: int) -> None:
        g = seeding.generator(self.context.seed, "step", step, device=self.device)
        x = self._batch(step)
        n = len(x)
        u = torch.rand(n, generator=g, device=self.device)
        share = LEAST + (1 - LEAST) * (torch.arange(n, device=self.device) + u) / n
        hidden = torch.rand(x.shape, generator=g, device=self.device)
        self._prepare(step, g)
        self._descend(masked_loss(self.net, x, share, hidden, self.mask).mean(), step)
