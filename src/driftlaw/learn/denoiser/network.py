r"""The networks F(u, lambda) behind a denoiser: a residual MLP for vectors, a small U-Net for images.

Both map a unit-variance input u and the log noise level lambda = ln s (one per sample) to a field of the shape of u.
They start at F = 0 (the last layer is zero), which makes the initial denoiser the optimal linear one. Parameters come
from an explicit generator and dropout masks from :attr:`Dropout.generator`; the global random state is never used.

Residual blocks with group normalisation and SiLU as in Ho, Jain, Abbeel (arXiv 2006.11239); noise embedding and the
preconditioned input as in Karras et al. (arXiv 2206.00364, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class Dropout(nn.Module):
    """Inverted dropout whose mask comes from an explicit generator; the identity in evaluation mode or without one."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def _mask(self, x: Tensor) -> Tensor:
        mask: Tensor = torch.empty_like(x).bernoulli_(1.0 - self.p, generator=self.generator)
        mask.div_(1.0 - self.p)
        return mask

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        if not self.training or self.p == 0.0 or self.generator is None:
            return x
        mask: Tensor = self._mask(x)
        return x * mask


def compiled(net: nn.Module) -> nn.Module:
    """``torch.compile`` of a network whose dropout masks, which need a generator, are drawn outside of the graph.

    Here and not by a decorator, because that would load the compiler, over a second, with this module.
    """
    for module in net.modules():
        if isinstance(module, Dropout):
            module._mask = torch.compiler.disable(module._mask)  # type: ignore[method-assign, no-untyped-call]
    return torch.compile(net)  # type: ignore[return-value]


class NoiseEmbedding(nn.Module):
    """Sinusoids of lambda at geometric frequencies, then two layers: ``[n] -> [n, width]``."""

    def __init__(self, width: int, frequencies: int = 16) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.first = nn.Linear(2 * frequencies, width)
        self.second = nn.Linear(width, width)

    def forward(self, lam: Tensor) -> Tensor:
        """Embed ``[n]`` log noise levels."""
        k = torch.arange(self.frequencies, device=lam.device, dtype=lam.dtype) / (self.frequencies - 1)
        angle = lam[:, None] * (0.25 * 32.0**k)[None, :]
        h = F.silu(self.first(torch.cat([angle.cos(), angle.sin()], dim=1)))
        out: Tensor = F.silu(self.second(h))
        return out


class MLPBlock(nn.Module):
    """h + W2 dropout(silu(W1 norm(h) + E e))."""

    def __init__(self, width: int, embedding: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.shift = nn.Linear(embedding, width, bias=False)
        self.dropout = Dropout(dropout)
        self.second = nn.Linear(width, width)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """``[n, width]`` and ``[n, embedding]`` to ``[n, width]``."""
        inner = F.silu(self.first(self.norm(h)) + self.shift(e))
        out: Tensor = h + self.second(self.dropout(inner))
        return out


class MLP(nn.Module):
    """Residual MLP on flattened rows."""

    def __init__(self, shape: tuple[int, ...], width: int = 256, blocks: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        dim, embedding = math.prod(shape), max(16, width // 4)
        self.embedding: int = embedding
        self.embed: nn.Module = NoiseEmbedding(embedding)
        self.inp = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(MLPBlock(width, embedding, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, dim)

    def forward(self, u: Tensor, lam: Tensor) -> Tensor:
        """``[n, ...]`` and ``[n]`` (or ``[1]``, shared) to ``[n, ...]``."""
        e = self.embed(lam)
        h = self.inp(u.flatten(1))
        for block in self.blocks:
            h = block(h, e)
        out: Tensor = self.out(F.silu(self.norm(h)))
        return out.view_as(u)


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(groups, channels), channels)


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with normalisation, the noise embedding between them, and a skip."""

    def __init__(self, inp: int, out: int, embedding: int, dropout: float, groups: int = 8) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(inp, groups), _norm(out, groups)
        self.conv1 = nn.Conv2d(inp, out, 3, padding=1)
        self.shift = nn.Linear(embedding, out)
        self.dropout = Dropout(dropout)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Identity() if inp == out else nn.Conv2d(inp, out, 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """``[n, inp, h, w]`` to ``[n, out, h, w]``."""
        h = self.conv1(F.silu(self.norm1(x))) + self.shift(e)[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        out: Tensor = self.skip(x) + h
        return out


class Attention(nn.Module):
    """Single-head self-attention over pixels."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.norm = _norm(channels, groups)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[n, c, h, w]`` to the same shape."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        out: Tensor = x + self.proj(h)
        return out


class UNet(nn.Module):
    """U-Net for ``[n, c, h, w]``, any h and w: levels halve with rounding up and grow back to the skip's own size.

    Args:
        shape: ``(c, h, w)``.
        width: channels of the first level.
        multipliers: channels of each level over `width`; its length is the number of levels.
        blocks: residual blocks per level and direction.
        dropout: rate inside the blocks.
        attention: self-attention at the lowest level.
        groups: groups of each normalisation (their greatest common divisor with the channels).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int = 16,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 1,
        dropout: float = 0.0,
        attention: bool = False,
        groups: int = 8,
    ) -> None:
        super().__init__()
        self.embedding: int = 4 * width
        embedding = self.embedding
        widths = [width * m for m in multipliers]
        self.embed: nn.Module = NoiseEmbedding(embedding)
        self.inp = nn.Conv2d(shape[0], widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        here = widths[0]
        for level, w in enumerate(widths):
            if level:
                self.shrink.append(nn.Conv2d(here, w, 3, stride=2, padding=1))
                here = w
            self.down.append(nn.ModuleList(ConvBlock(w, w, embedding, dropout, groups) for _ in range(blocks)))
        self.attention = Attention(here, groups) if attention else nn.Identity()
        for w in reversed(widths[:-1]):
            self.grow.append(nn.Conv2d(here, w, 1))
            self.up.append(
                nn.ModuleList(ConvBlock(2 * w if b == 0 else w, w, embedding, dropout, groups) for b in range(blocks))
            )
            here = w
        self.norm = _norm(here, groups)
        self.out = nn.Conv2d(here, shape[0], 3, padding=1)

    def forward(self, u: Tensor, lam: Tensor) -> Tensor:
        """``[n, c, h, w]`` and ``[n]`` (or ``[1]``, shared) to ``[n, c, h, w]``."""
        e = self.embed(lam)
        h = self.inp(u)
        skips: list[Tensor] = []
        for level, group in enumerate(self.down):
            if level:
                skips.append(h)
                h = self.shrink[level - 1](h)
            for block in group:  # type: ignore[attr-defined]
                h = block(h, e)
        h = self.attention(h)
        for grow, group in zip(self.grow, self.up, strict=True):
            skip = skips.pop()
            h = torch.cat([F.interpolate(grow(h), size=skip.shape[-2:], mode="nearest"), skip], dim=1)
            for block in group:  # type: ignore[attr-defined]
                h = block(h, e)
        out: Tensor = self.out(F.silu(self.norm(h)))
        return out


def flatten(net: nn.Module) -> Tensor:
    """Move all parameters into one vector and return it: they become views of it, and their gradients of its gradient.

    An optimiser step or a moving average is then one operation on one vector instead of hundreds on small ones. Memory
    formats are kept.
    """
    parameters = list(net.parameters())
    sizes = [-(-p.numel() // 16) * 16 for p in parameters]  # 64-byte boundaries
    flat = torch.zeros(sum(sizes), device=parameters[0].device)
    if parameters[0].requires_grad:
        flat.grad = torch.zeros_like(flat)
    offset = 0
    for p, size in zip(parameters, sizes, strict=True):
        place = flat.as_strided(p.shape, p.stride(), offset)
        place.copy_(p.detach())
        p.data = place
        if flat.grad is not None:
            p.grad = flat.grad.as_strided(p.shape, p.stride(), offset)
        offset += size
    return flat


def initialise(net: nn.Module, generator: torch.Generator) -> None:
    """Fill every parameter from `generator`: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), unit norms, zero last layer."""
    with torch.no_grad():
        for name, module in net.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                last = name.rpartition(".")[2] in (
                    "out",
                    "conv_out",
                )  # conv_out is the last layer of diffusers' networks
                bound = 0.0 if last else 1.0 / math.sqrt(module.weight[0].numel())
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.uniform_(-bound, bound, generator=generator)
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(generator=generator)
            elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
                module.weight.fill_(1.0)
                module.bias.zero_()
