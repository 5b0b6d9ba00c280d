r"""Softmax attention with its log-sum-exp by PyTorch's fused kernels, which keep no m x N matrix in memory.

.. math::

    o_i = \sum_k p_{ik} v_k, \qquad p_{ik} = e^{q_i \cdot k_k - \ell_i}, \qquad
    \ell_i = \log \sum_k e^{q_i \cdot k_k} .

The public function keeps :math:`\ell` to itself; the operators behind it return it, one for each kind of device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

#: (query ``[1, 1, m, w]``, key and value ``[1, 1, N, w]``, float32) -> (o ``[1, 1, m, w]``, l ``[1, 1, m]``).
Attention = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _cpu_attention(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    out, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, False, scale=1.0)
    return out, log_sum


def _cuda_attention(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Memory-efficient attention: flash attention has no float32. Its log-sum-exps are padded to blocks of rows."""
    operator = torch.ops.aten._scaled_dot_product_efficient_attention
    out, log_sum, *_ = operator(query, key, value, None, True, 0.0, False, scale=1.0)
    return out, log_sum[:, :, : query.shape[2]]


#: By type of device.
OPERATORS: dict[str, Attention] = {"cpu": _cpu_attention, "cuda": _cuda_attention}


@functools.cache
def fast_attention(device: str = "cpu") -> Attention | None:
    """PyTorch's fused attention that also returns the log-sum-exp, or None if it is missing or wrong here.

    The operators are private, so each is tried once against the public formula in float64 before it is trusted: also
    one that rounds to TF32 or half precision is turned down.

    Args:
        device: type of the device, such as "cpu" or "cuda".
    """
    attention = OPERATORS.get(device)
    if attention is None:
        return None
    g = torch.Generator().manual_seed(0)
    try:
        query, key, value = (torch.randn(1, 1, m, 16, generator=g).to(device) for m in (40, 600, 600))
        out, log_sum = attention(query, key, value)
        logits = (query.double() @ key.double().mT)[0, 0]
        expected = logits.softmax(-1) @ value[0, 0].double()
        torch.testing.assert_close(log_sum[0, 0].double(), logits.logsumexp(-1), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(out[0, 0].double(), expected, rtol=1e-4, atol=1e-5)
    except (AttributeError, AssertionError, RuntimeError, TypeError, ValueError, IndexError):
        return None
    return attention
