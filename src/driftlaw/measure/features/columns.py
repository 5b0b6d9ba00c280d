r"""Feature maps of a sketch: columns ``[n, d]`` to R^k, with a name for every feature (this project, theory section 5).

``"identity"``: z_j = (x_j - m_j) / s_j. ``"quadratic"``: the same and products z_i z_j. ``"pca"`` and
``"random_fourier"``: :class:`~driftlaw.measure.features.fitted.FeatureMap`, white on the rows that fitted them.
``"hermite"``: He_m(z_j)/sqrt(m!) of the coordinates z of "pca", m = 1..4: shapes beyond means and variances. The
drift (m_P - m_Q)^T C_Q^{-1} (m_P - m_Q) does not change under an invertible affine map of the features, so whether a
map whitens is a matter of numerical condition and of how features read, not of what is measured. A map of the user is
any object with ``name``, ``dimension``, ``fingerprint`` and ``__call__(rows) -> [n, k]``, a ``torch.nn.Module``, or a
function; its weights stay with the user.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from driftlaw.errors import InputError, nearest
from driftlaw.measure.features.fitted import INFLATES, FeatureMap
from driftlaw.measure.features.steps import Hermite, Products, Standardise, Step
from driftlaw.seeding import numpy_generator

KINDS = ("pca", "identity", "quadratic", "random_fourier", "hermite")
#: Degree of "hermite".
DEGREE = 4
#: Most features of "quadratic" when no number is given.
QUADRATIC = 256


@runtime_checkable
class RowFeatures(Protocol):
    """A map of the user or a feature network: rows ``[n, ...]`` float32 to features ``[n, k]``."""

    name: str
    dimension: int
    fingerprint: str

    def __call__(self, rows: Tensor) -> Any:
        """Features of rows, each row by itself."""
        ...


@dataclass(frozen=True)
class External:
    """A :class:`RowFeatures` whose weights are not in the sketch; read from a file it has no `call`.

    Args:
        name: of the map.
        dimension: k.
        fingerprint: what must agree for two sketches to be comparable.
        call: the map itself, or None until the user gives it again.
    """

    name: str
    dimension: int
    fingerprint: str
    call: Callable[[Tensor], Any] | None = None

    @classmethod
    def of(cls, features: Any, rows: Tensor) -> External:
        """Wrap an object of the protocol, a module or a function; `rows` are tried to learn k.

        A module is known by its class and its weights, a function by its module and name only: give the object a
        ``fingerprint`` when that is not enough.
        """
        if isinstance(features, torch.nn.Module) and features.training:
            raise InputError("the feature module is in training mode", "call its .eval() first")
        out = _features_of(features, rows[:2])
        name = str(getattr(features, "name", None) or getattr(features, "__name__", type(features).__name__))
        print_ = getattr(features, "fingerprint", None) or _fingerprint(features, name)
        return cls(name, int(out.shape[1]), str(print_), features)

    def apply(self, rows: Tensor) -> Tensor:
        """Features of rows ``[n, ...]``, float64.

        Raises:
            InputError: the map is not here, or returns something else than finite ``[n, dimension]``.
        """
        if self.call is None:
            raise InputError(
                f"the features {self.name!r} are not stored in the sketch, only their fingerprint",
                "give the map again: Sketch.load(path, features=...)",
            )
        out = _features_of(self.call, rows)
        if out.shape[1] != self.dimension:
            raise InputError(f"the features {self.name!r} gave {out.shape[1]} numbers a row, not {self.dimension}")
        return out


def fit(kind: str, rows: Tensor, names: tuple[str, ...], *, dimension: int | None = None, seed: int = 0) -> FeatureMap:
    """A built-in map fitted on encoded real columns.

    Args:
        kind: "pca", "identity", "quadratic", "random_fourier" or "hermite".
        rows: ``[n, d]`` float64.
        names: of the d columns.
        dimension: largest k of "pca", "random_fourier" and "hermite" (32 if not given) and of "quadratic" (256; of
            more products a seeded part is kept).
        seed: of frequencies and of the choice of products.

    Raises:
        InputError: unknown kind, bad dimension, no column that varies, too many columns for "quadratic".
    """
    if kind not in KINDS:
        raise InputError(f"unknown features {kind!r}", nearest(kind, KINDS))
    if dimension is not None and dimension < 1:
        raise InputError(f"the feature dimension is {dimension}", "choose 1 or more")
    if kind in {"pca", "random_fourier"}:
        phi = FeatureMap.fit(rows, kind, dimension=dimension or 32, seed=seed)
        # drift is measured with the covariance of the reference, not with the one that whitened here
        return replace(phi, warnings=tuple(w for w in phi.warnings if INFLATES not in w))
    if kind == "hermite":
        return _hermite(rows, 32 if dimension is None else dimension)
    scaled, warnings = _standardise(rows, names)
    if kind == "identity":
        return FeatureMap(kind, tuple(rows.shape[1:]), (scaled,), len(rows), warnings)
    products, more = _products(rows, scaled, dimension or QUADRATIC, seed)
    return FeatureMap(kind, tuple(rows.shape[1:]), (scaled, products), len(rows), warnings + more)


def _hermite(rows: Tensor, most: int) -> FeatureMap:
    if most < DEGREE:
        raise InputError(f"{most} features leave no room for degrees 1 to {DEGREE}", f"choose {DEGREE} or more")
    phi = FeatureMap.fit(rows, "pca", dimension=most // DEGREE)
    step = Hermite(torch.tensor([DEGREE]), torch.tensor([phi.dimension]))
    kept = tuple(w for w in phi.warnings if INFLATES not in w)
    return replace(phi, name="hermite", steps=(*phi.steps, step), warnings=kept)


def labels(phi: FeatureMap | External, names: tuple[str, ...]) -> list[str]:
    """One name for each feature: columns and their products by name, others by number."""
    if isinstance(phi, External):
        return [f"{phi.name}[{i}]" for i in range(phi.dimension)]
    first, last = phi.steps[0], phi.steps[-1]
    if isinstance(last, Hermite):
        return [f"He{m}(pc{j})" for m in range(1, int(last.degree) + 1) for j in range(1, int(last.columns) + 1)]
    if isinstance(first, Standardise):
        kept = [names[i] for i in first.columns.tolist()]
        if not isinstance(last, Products):
            return kept
        pairs = zip(last.left.tolist(), last.right.tolist(), strict=True)
        return kept + [f"{kept[i]}^2" if i == j else f"{kept[i]}*{kept[j]}" for i, j in pairs]
    stem = "pc" if phi.name == "pca" else "wave" if phi.name == "random_fourier" else phi.name
    return [f"{stem}{i + 1}" for i in range(phi.dimension)]


def steps_of(phi: FeatureMap | External) -> tuple[Step, ...]:
    """Steps of a built-in map; none for a map of the user."""
    return () if isinstance(phi, External) else phi.steps


def _standardise(rows: Tensor, names: tuple[str, ...]) -> tuple[Standardise, tuple[str, ...]]:
    constant = (rows == rows[0]).all(dim=0)
    if constant.all():
        raise InputError("no column of the real rows varies", "check the data: all rows are equal")
    columns = torch.nonzero(~constant).reshape(-1)
    chosen = rows[:, columns]
    warnings: tuple[str, ...] = ()
    if constant.any():
        listed = [names[i] for i in torch.nonzero(constant).reshape(-1).tolist()]
        shown = f"{', '.join(listed[:5])}{' ...' if listed[5:] else ''}"
        warnings = (
            f"{len(listed)} of {len(names)} columns are constant in the real rows and give no feature: {shown}",
        )
    return Standardise(columns, chosen.mean(dim=0), chosen.std(dim=0)), warnings


def _products(rows: Tensor, scaled: Standardise, most: int, seed: int) -> tuple[Products, tuple[str, ...]]:
    """Squares first (not of two-valued columns, whose square is affine in them), then pairs that vary."""
    d = scaled.dimension
    if d >= most:
        raise InputError(
            f"{d} columns leave no room for products within {most} features",
            "choose fewer columns, a larger dimension, or the features pca or random_fourier",
        )
    z = scaled(rows)
    squares = [j for j in range(d) if len(torch.unique(z[:, j][:4096])) > 2 or len(torch.unique(z[:, j])) > 2]
    pairs = np.array(np.triu_indices(d, 1)).T
    raw = rows[:, scaled.columns]
    varies = [not bool((p == p[0]).all()) for p in (raw[:, i] * raw[:, j] for i, j in pairs)] if d <= 64 else None
    pairs = pairs if varies is None else pairs[np.array(varies, dtype=bool)]
    warnings: tuple[str, ...] = ()
    total = len(squares) + len(pairs)
    kept_squares = squares[: most - d]
    left = most - d - len(kept_squares)
    if len(pairs) > left:
        chosen = numpy_generator(seed, "sketch", "products").permutation(len(pairs))[:left]
        pairs = pairs[np.sort(chosen)]
        warnings = (f"{len(kept_squares) + len(pairs)} of {total} products are kept in {most} features",)
    index = [(j, j) for j in kept_squares] + [(int(i), int(j)) for i, j in pairs]
    table = torch.tensor(index, dtype=torch.int64).reshape(-1, 2)
    return Products(torch.arange(d), table[:, 0].contiguous(), table[:, 1].contiguous()), warnings


@torch.no_grad()
def _features_of(call: Callable[[Tensor], Any], rows: Tensor) -> Tensor:
    out = call(rows.float())
    tensor = torch.as_tensor(out).detach().cpu()
    if tensor.ndim != 2 or tensor.shape[0] != rows.shape[0] or not tensor.shape[1]:
        raise InputError(
            f"the features gave shape {tuple(tensor.shape)} for {rows.shape[0]} rows", "return one row [k] per row"
        )
    return tensor.to(torch.float64, copy=True)


def _fingerprint(features: Any, name: str) -> str:
    h = hashlib.blake2b(f"{type(features).__module__}.{type(features).__qualname__}".encode(), digest_size=16)
    h.update(f"{getattr(features, '__module__', '')}.{getattr(features, '__qualname__', name)}".encode())
    if isinstance(features, torch.nn.Module):
        h.update(repr(features).encode())
        for key, tensor in sorted(features.state_dict().items()):
            h.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
            h.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return h.hexdigest()
