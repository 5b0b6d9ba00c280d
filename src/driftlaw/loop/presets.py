"""The built-in studies at three sizes: smoke (under a minute), laptop (the default), paper (the published protocol).

gmm is the mixture study of arXiv 2602.16601 (theory section 6). The digits are real images that come with scikit-learn.
"""

from __future__ import annotations

import copy
from typing import Any

from driftlaw.errors import ConfigError, nearest

_KDE = {"kind": "kde", "bandwidth": 0.6, "t0": 0.02}
_STUDIES: dict[str, dict[str, Any]] = {
    "gmm": {"source": {"kind": "gmm"}, "estimator": _KDE, "policy": {"kind": "fixed", "alpha": 0.1}},
    "digits": {
        "source": {"kind": "digits"},
        "estimator": {"kind": "denoiser"},
        "policy": {"kind": "fixed", "alpha": 0.1},
        "samples": 800,
        "generations": 5,
        "reuse": True,
    },
    "fashion-mnist": {
        "source": {"kind": "fashion-mnist"},
        "estimator": {"kind": "denoiser", "net": "unet"},
        "policy": {"kind": "fixed", "alpha": 0.1},
        "reuse": True,
    },
    "cifar10": {
        "source": {"kind": "cifar10"},
        "estimator": {"kind": "denoiser", "net": "unet"},
        "policy": {"kind": "fixed", "alpha": 0.1},
        "reuse": True,
    },
}
_SIZES: dict[tuple[str, str], dict[str, Any]] = {
    ("gmm", "smoke"): {"samples": 2_000, "generations": 3, "measures": {"samples": 500, "density_samples": 2_000}},
    ("gmm", "laptop"): {"samples": 20_000, "generations": 10},
    ("gmm", "paper"): {"samples": 100_000, "generations": 20},
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
    config = {"name": name, **copy.deepcopy(_STUDIES[name])}
    for key, value in _SIZES.get((name, size), {}).items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            config[key] |= value
        else:
            config[key] = copy.deepcopy(value)
    return config
