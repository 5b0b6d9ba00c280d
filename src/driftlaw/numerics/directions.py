"""Signs of eigenvectors and singular vectors that do not depend on the machine.

An eigenvector is determined up to its sign, and LAPACK libraries choose differently. Wherever directions reach a stored
or compared number their signs are fixed: the loading of largest magnitude is positive (as ``svd_flip`` of
scikit-learn), and of loadings that are equal up to rounding the first one decides. Within an eigenspace of several
dimensions directions stay arbitrary: what is computed from them must not depend on a rotation there.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Loadings whose magnitudes differ by less, relative to the largest, count as equal.
TIE = 1e-6

Columns = TypeVar("Columns", Tensor, NDArray[np.float64])


def oriented(vectors: Columns) -> Columns:
    """The columns of ``[..., d, k]``, each with the sign that makes its leading loading positive.

    The leading loading of v is the first v_j with |v_j| >= (1 - 1e-6) max |v|. A column of zeros stays as it is.

    Args:
        vectors: ``[..., d, k]``, one direction a column.

    Returns:
        The same shape and type.

    Example:
        >>> oriented(np.array([[0.6, -0.5], [-0.8, 0.5]])).tolist()
        [[-0.6, 0.5], [0.8, -0.5]]
    """
    if isinstance(vectors, Tensor):
        size = vectors.abs()
        lead = (size >= (1 - TIE) * size.amax(-2, keepdim=True)).to(torch.uint8).argmax(-2, keepdim=True)
        return torch.where(vectors.gather(-2, lead) < 0, -vectors, vectors)
    size_np = np.abs(vectors)
    lead_np = (size_np >= (1 - TIE) * size_np.max(-2, keepdims=True)).argmax(-2)
    return np.where(np.take_along_axis(vectors, lead_np[..., None, :], -2) < 0, -vectors, vectors)
