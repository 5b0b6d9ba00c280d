"""From command-line options to a study: a name or a YAML file, then flags, then --set, in that order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from driftlaw.cli.console import err
from driftlaw.errors import ConfigError, InputError
from driftlaw.learn.denoiser.config import grouped
from driftlaw.loop import presets
from driftlaw.loop.study import Study, apply_setting, read_yaml
from driftlaw.theory import refresh


def study_from(
    name: str,
    *,
    preset: str | None = None,
    alpha: float | None = None,
    policy: str | None = None,
    settings: tuple[str, ...] | list[str] = (),
    skip_bad: bool = False,
    trust: bool = False,
    **fields: Any,
) -> Study:
    """Build the study that a command line describes.

    Args:
        name: a built-in study or the path of a YAML file.
        preset: size of a built-in study.
        alpha: fresh fraction; short for ``policy fixed:alpha``.
        policy: for example ``fixed:0.1``, ``accumulate``, ``window:3,0.1``.
        skip_bad: leave unreadable images of a folder out.
        settings: ``key=value`` texts with dotted keys.
        trust: whether code that a YAML file names may run.
        fields: samples, generations, seed, device; None leaves the study's own.

    Raises:
        ConfigError: anything unknown or out of range.
        TrustError: a YAML file names code and is not trusted.
    """
    if Path(name).suffix in {".yaml", ".yml"} or "/" in name:
        if preset is not None:
            raise ConfigError("a preset is a size of a built-in study, not of a YAML file", "drop --preset")
        config = read_yaml(name, trusted=trust)
        _note_groups(name, config.get("estimator"))
    else:
        config = presets.preset(name, preset or "laptop")
    if skip_bad:
        config["source"] = _without_bad_images(config.get("source"))
    if alpha is not None and policy is not None:
        raise ConfigError("both --alpha and --policy were given", "use one of them")
    if alpha is not None:
        if not 0.0 <= alpha <= 1.0:
            raise InputError(f"alpha = {alpha} is outside [0, 1]", "alpha is the fraction of fresh real data")
        config["policy"] = {"kind": "fixed", "alpha": alpha}
    if policy is not None:
        config["policy"] = refresh.parse(policy).config()
    config |= {key: value for key, value in fields.items() if value is not None}
    resolved = Study.from_config(config).config()
    for text in settings:
        apply_setting(resolved, *setting(text))
    return Study.from_config(resolved)


def setting(text: str) -> tuple[str, Any]:
    """The key and the value of ``--set key=value``.

    Raises:
        ConfigError: not of this form, or no YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r} is not key=value", "write for example --set estimator.bandwidth=0.4")
    try:
        return key.strip(), yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"--set {text!r}: the value is not YAML", "quote it") from error


def _note_groups(name: str, estimator: object) -> None:
    """Say where settings of a denoiser belong that a file of 0.1.0 gives without their groups."""
    if not isinstance(estimator, dict) or estimator.get("kind") != "denoiser":
        return
    if moved := grouped(estimator):
        places = ", ".join(f"{old} -> {new}" for old, new in moved.items())
        err.print(f"Note: {name} is read as before; settings of a denoiser have groups now: {places}", markup=False)


def _without_bad_images(source: object) -> dict[str, Any]:
    """The source's configuration with skip_bad, for a folder of images."""
    if isinstance(source, str) and Path(source).expanduser().is_dir():
        source = {"kind": "images", "path": source}
    if not isinstance(source, dict) or source.get("kind") != "images":
        kind = source.get("kind") if isinstance(source, dict) else source
        raise ConfigError(f"--skip-bad is for folders of images, and the source is {kind}", "drop --skip-bad")
    return {**source, "skip_bad": True}


def free_directory(base: Path) -> Path:
    """`base`, or `base`-2, `base`-3, ... if that is taken."""
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path
