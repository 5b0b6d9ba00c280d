"""A small transformer over letters, some of them masked: what stands behind each mask, given what is seen."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from driftlaw.learn.denoiser.network import Dropout


class Block(nn.Module):
    """Pre-norm self-attention over positions, then two layers."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        """``[n, L, width]`` to the same shape."""
        n, length, width = h.shape
        q, k, v = (
            part.view(n, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm1(h)).split(width, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, width)
        h = h + self.proj(mixed)
        inner: Tensor = self.down(self.dropout(F.gelu(self.up(self.norm2(h)))))
        return h + inner


class LetterNetwork(nn.Module):
    """Logits of the letter at every position.

    Args:
        length: positions L.
        letters: per position, how many K_i there are; a shorter alphabet's missing letters get logit -inf.
        width, blocks, heads, dropout: of the transformer.
    """

    def __init__(self, length: int, letters: Tensor, width: int, blocks: int, heads: int, dropout: float) -> None:
        super().__init__()
        most = int(letters.max())
        self.mask = most
        self.embed = nn.Parameter(torch.empty(most + 1, width))
        self.place = nn.Parameter(torch.empty(length, width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, most)
        self.register_buffer("letters", letters.clone())

    def forward(self, x: Tensor, _: Tensor | None = None) -> Tensor:
        """``[n, L]`` codes, K where masked, to ``[n, L, K]``."""
        h = self.embed[x] + self.place
        for block in self.blocks:
            h = block(h)
        logits: Tensor = self.out(F.silu(self.norm(h)))
        missing = torch.arange(self.mask, device=x.device) >= self.letters[:, None]  # type: ignore[index]
        return logits.masked_fill(missing, -torch.inf)


def initialise_letters(net: LetterNetwork, generator: torch.Generator) -> None:
    """Embeddings from N(0, 1/width), in place."""
    with torch.no_grad():
        for p in (net.embed, net.place):
            p.normal_(0.0, float(p.shape[1]) ** -0.5, generator=generator)
