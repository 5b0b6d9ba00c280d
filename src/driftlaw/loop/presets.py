"""The built-in studies at three sizes: smoke (under a minute), laptop (the default), paper (the published protocol).

gmm is the mixture study of arXiv 2602.16601 (theory section 6). The digits are real images that come with scikit-learn.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from driftlaw.errors import ConfigError, nearest


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of plain data with the settings of other data over it, level by level."""
    out = copy.deepcopy(dict(below))
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merged(out[key], value) if both else copy.deepcopy(value)
    return out


_KDE = {"kind": "kde", "bandwidth": 0.6, "t0": 0.02}
_DIGITS = {"kind": "denoiser", "network": {"width": 192}, "optimiser": {"lr": 0.004}}
_UNET = {
    "kind": "denoiser",
    "network": {"net": "unet"},
    "optimiser": {"lr": 0.002},
    "sampling": {"solver": "multistep", "solver_steps": 20},
}
#: What arXiv 2602.16601 publishes of its image training (docs/learners.md has the table with what it does not).
_PUBLISHED: dict[str, Any] = {
    "network": {"dropout": 0.1},
    "optimiser": {
        "ema": 0.99,
        "lr": 2e-4,
        "weight_decay": 1e-4,
        "schedule": "cosine",
        "epochs": 200,
        "warm_epochs": 100,
        "patience": 50,
    },
    "sampling": {"solver": "ddpm", "solver_steps": 1000},
}
#: What it leaves open, as chosen here; one held-out loss per epoch of 50,000 rows.
_OPEN: dict[str, Any] = {
    "network": {
        "net": "unet",
        "width": 64,
        "multipliers": [1, 2, 4],
        "blocks": 2,
        "attention": False,
        "groups": 8,
    },
    "optimiser": {"batch": 128, "beta2": 0.999, "warmup": 0, "validation": 0.0, "holdout_every": 391},
    "prediction": "epsilon",
    "noise": "ddpm",
    "chain": {"diffusion_steps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "sampling": {"spread": "small", "clip": None},
}
_SMOKE: dict[str, Any] = {"optimiser": {"steps": 40, "warm_steps": 20}, "sampling": {"solver_steps": 8}}
_ALPHA = {"kind": "fixed", "alpha": 0.1}
_STUDIES: dict[str, dict[str, Any]] = {
    "gmm": {"source": {"kind": "gmm"}, "estimator": _KDE, "policy": _ALPHA},
    "digits": {"source": {"kind": "digits"}, "estimator": _DIGITS, "policy": _ALPHA, "reuse": True, "threads": 1},
    "fashion-mnist": {"source": {"kind": "fashion-mnist"}, "estimator": _UNET, "policy": _ALPHA, "reuse": True},
    "cifar10": {"source": {"kind": "cifar10"}, "estimator": _UNET, "policy": _ALPHA, "reuse": True},
}
_IMAGES: dict[str, dict[str, Any]] = {
    "smoke": {
        "samples": 200,
        "generations": 2,
        "estimator": {"optimiser": {"steps": 40, "warm_steps": 20}, "sampling": {"solver_steps": 8}},
    },
    "laptop": {"samples": 2_000, "generations": 5, "estimator": {"optimiser": {"steps": 500, "warm_steps": 250}}},
    "paper": {"samples": 50_000, "generations": 10, "estimator": merged(_PUBLISHED, _OPEN)},
}
_SIZES: dict[tuple[str, str], dict[str, Any]] = {
    ("gmm", "smoke"): {"samples": 2_000, "generations": 3, "measures": {"samples": 500, "density_samples": 2_000}},
    ("gmm", "laptop"): {"samples": 20_000, "generations": 10, "measures": {"density_samples": 5_000}},
    ("gmm", "paper"): {
        "samples": 100_000,
        "generations": 20,
        "measures": {"path_samples": 1_024, "density_samples": 3_000, "target_se": 0.035},
    },
    ("digits", "smoke"): {
        "samples": 200,
        "generations": 2,
        "estimator": {"optimiser": {"steps": 300, "warm_steps": 150}, "network": {"width": 64}},
    },
    ("digits", "laptop"): {"samples": 800, "generations": 5},
    ("digits", "paper"): {"samples": 1_000, "generations": 10},
    **{(name, size): config for name in ("fashion-mnist", "cifar10") for size, config in _IMAGES.items()},
}
PRESETS = ("smoke", "laptop", "paper")


def names() -> list[str]:
    """Names of the built-in studies."""
    return sorted(_STUDIES)


def preset(name: str, size: str = "laptop") -> dict[str, Any]:
    """Plain data of a built-in study.

    Raises:
        ConfigError: unknown name or size, with the nearest valid one.
    """
    if name not in _STUDIES:
        raise ConfigError(f"unknown study {name!r}", nearest(name, _STUDIES) + "; or give the path of a YAML file")
    if size not in PRESETS:
        raise ConfigError(f"unknown preset {size!r}", nearest(size, PRESETS))
    return merged({"name": name} | _STUDIES[name], _SIZES.get((name, size), {}))
