"""A run goes on to more generations, to the numbers that a run started with that many would have.

Everything random comes from streams named by (seed, generation, purpose), so a longer study makes the same first
generations, if nothing in it looks at the number of generations: that is checked here. What changes in the directory
is config.yaml and its hash in manifest.json. The manifest first allows both configurations, then the configuration is
replaced, then the manifest allows only the new one: whoever is killed in between leaves one of two whole runs.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from driftlaw.errors import ConfigError, RunDirectoryError
from driftlaw.files import read_text, sha256
from driftlaw.loop.branches.shared import shared_with_parent
from driftlaw.loop.feature_kinds import classifier_of
from driftlaw.loop.history import History
from driftlaw.loop.own import refuse
from driftlaw.loop.record import Generation
from driftlaw.loop.run import Recursion, Watch, pick_device, resume, signed, thread_count, threads
from driftlaw.loop.step import feature_space
from driftlaw.loop.step.setting import Setting
from driftlaw.loop.store import BOUNDS, CONFIG, SUMMARY, RunDirectory, write_text
from driftlaw.loop.study import Study
from driftlaw.loop.trust import SIGNATURE, code, data, is_signed, signature_in


def extend(
    run: History | str | os.PathLike[str],
    *,
    generations: int,
    watch: Watch | None = None,
    study: Study | None = None,
    trust: bool = False,
    strict: bool = False,
) -> Iterator[Generation]:
    """Go on with a finished or killed run to `generations` generations in total; public as ``driftlaw.extend``.

    The numbers are bit for bit those of a run that was started with this many.

    Args:
        run: its directory, or its history.
        generations: N, how many generations the run has in the end: those that it has already count.
        watch: told about progress.
        study: the study that the run was started with, when it holds parts of your own.
        trust: whether code and data that the directory names may be used although another user, or another machine,
            started the run.
        strict: as for ``dl.run``.

    Returns:
        An iterator over the generations that were missing; leaving it early leaves a run that ``dl.resume`` continues.

    Raises:
        ConfigError: fewer generations than the run has or was to have; a policy or a feature space whose first
            generations depend on their number, by name; another study.
        DataExhaustedError: the source has too few fresh rows.
        TrustError: the run is somebody else's and names code or data.
        RunDirectoryError, CorruptFileError: as ``dl.resume``.

    Example:
        >>> import driftlaw as dl
        >>> for g in dl.extend("runs/gmm", generations=40):  # doctest: +SKIP
        ...     print(g.index)
    """
    path = run.directory.path if isinstance(run, History) else Path(run)
    directory = RunDirectory(path)
    manifest, config = directory.manifest(), directory.config()
    before = int(config["generations"])
    if study is None:
        refuse(manifest.get("own") or {}, "extend")
        study = directory.study(trust)
    elif not study.with_settings({"generations": before}).is_described_by(config):
        raise ConfigError(f"the study given is not the one in {path / CONFIG}", "give the one that it was started with")
    if isinstance(generations, bool) or not isinstance(generations, int) or generations < before:
        raise ConfigError(
            f"generations = {generations}, but this run was started with {before}",
            f"N counts all generations of the run, also those that it has: give more than {before}",
        )
    if generations == before:
        return resume(path, watch=watch, study=study, strict=strict)
    device = pick_device(study.device)
    shared = shared_with_parent(directory, study, trust)
    short, long = (
        Setting(study.with_settings({"generations": n}), device, folder=path, shared=shared)
        for n in (before, generations)
    )
    _check_same_past(short, long)
    long.prepare()
    return _extended_run(directory, long, config, watch, strict)


def _extended_run(
    directory: RunDirectory, setting: Setting, config: Mapping[str, Any], watch: Watch | None, strict: bool
) -> Iterator[Generation]:
    with directory.locked():
        manifest = directory.manifest()
        if directory.config() != config:
            raise RunDirectoryError(f"{directory.path} was changed by another process meanwhile", "try again")
        _reconfigure(directory, manifest, setting.study)
        with threads(thread_count(setting.study, manifest.get("threads"))):
            recursion = Recursion(directory, setting, watch, strict)
            recursion.note_differences(manifest)
            yield from recursion.generations()


def _reconfigure(directory: RunDirectory, manifest: Mapping[str, Any], study: Study) -> None:
    """Replace the configuration; signed by this user only if the old one was, or if it names nothing to trust."""
    old, now = directory.config(), read_text(directory.path / CONFIG)
    mine = is_signed(old, signature_in(now))
    text = signed(study.to_yaml()) if mine or not (code(old) or data(old)) else study.to_yaml()
    for derived in (SUMMARY, BOUNDS, "report.html"):  # they describe the shorter run
        (directory.path / derived).unlink(missing_ok=True)
    both = {"config_sha256": sha256(now.encode()), "config_sha256_next": sha256(text.encode())}
    directory.begin({**manifest, **both})
    digest = write_text(directory.path / CONFIG, text)
    kept = {k: v for k, v in manifest.items() if k not in {"config_sha256_next", SIGNATURE}}
    signature = signature_in(text)
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    step = {"from": int(old["generations"]), "to": study.generations, "created": created}
    kept |= {"config_sha256": digest, "extended": [*(manifest.get("extended") or []), step]}
    directory.begin(kept if signature is None else {**kept, SIGNATURE: signature})


def _check_same_past(short: Setting, long: Setting) -> None:
    """Refuse what would have made other first generations in a longer run.

    Raises:
        ConfigError: names the policy or the feature space.
    """
    before, after = short.study.generations, long.study.generations
    policy = long.study.policy
    name = str(getattr(policy, "kind", type(policy).__name__))
    horizon = getattr(policy, "horizon", after)
    if isinstance(horizon, int) and horizon < after:
        raise ConfigError(
            f"the policy {name} plans for {horizon} generations, not for {after}",
            f"start a new run whose policy has horizon: {after}, or fork this one with such a policy",
        )
    for now, then in zip(short.rows, long.rows, strict=True):
        part = then[:before] if then.ndim == 1 else then[:before, : before + 1]
        if not np.array_equal(now, part):
            raise ConfigError(
                f"the rows of the policy {name} depend on the number of generations: {before} and {after} begin "
                "differently",
                "start a new run, or fork this one with another policy",
            )
    if short.stored(before) != long.stored(before):
        raise ConfigError(
            f"model {before} has {short.stored(before)} stored rows, and {long.stored(before)} in the longer run",
            f"give samples with more than {before} sizes from the start, or a rule",
        )
    rows = [0 if s.held_out is None else len(s.held_out) for s in (short, long)]
    if rows[0] != rows[1]:
        raise ConfigError(
            f"measures compare {rows[0]} rows, in a run of {after} generations {rows[1]}: its training sets shrink",
            "set measures.samples to the smallest size from the start",
        )
    used = (short.fresh_bound(), long.fresh_bound())
    if (
        classifier_of(long.study.measures.features) is not None
        and used[0] != used[1]
        and (feature_space.learned_rows(short) or feature_space.learned_rows(long))
    ):
        raise ConfigError(
            "the features (classifier) were learned from real rows that a run of more generations trains on",
            "start a new run, or use features that no run trains, such as pca",
        )
