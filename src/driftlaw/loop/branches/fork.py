"""A new run that shares generations 1..K of another and goes on differently."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from driftlaw import files
from driftlaw.errors import ConfigError, UnsafePathError
from driftlaw.files import make_folder, storage_errors
from driftlaw.kinds import ESTIMATORS
from driftlaw.loop.branches.shared import Parent, Shared, journal_sha256, shared_with_parent, write
from driftlaw.loop.feature_kinds import classifier_of
from driftlaw.loop.history import History, load
from driftlaw.loop.own import own_parts, refuse
from driftlaw.loop.record import Generation
from driftlaw.loop.run import Watch, born, pick_device, resume, signed
from driftlaw.loop.step import adapt, feature_space
from driftlaw.loop.step.setting import Setting
from driftlaw.loop.store import JOURNAL, RunDirectory, read_json
from driftlaw.loop.study import Study
from driftlaw.loop.trust import signature_in

#: Settings that generations 1..K were made and measured with, and why they cannot change after them.
FIXED = {
    "source": "the shared generations learned from it",
    "seed": "the order of fresh rows and the held-out rows come from it",
    "measures": "the shared generations were measured so",
}


def fork(
    run: History | str | os.PathLike[str],
    *,
    at: int,
    out: str | os.PathLike[str],
    watch: Watch | None = None,
    study: Study | None = None,
    trust: bool = False,
    command: str = "",
    **changes: Any,
) -> Iterator[Generation]:
    """Start a new run that shares generations 1..K of another; public as ``driftlaw.fork``.

    The shared files are hard links (copies where there are none): the fork is whole without its parent. With no changes
    it goes on to the parent's own numbers, bit for bit.

    Args:
        run: the parent's directory, or its history; finished or not.
        at: K >= 1, the last generation that both have.
        out: directory of the fork; it is made at once, whole or not at all.
        watch: told about progress.
        study: the study of the parent, when it holds parts of your own.
        trust: whether code and data that the parent names may be used although another user, or another machine,
            started it.
        command: command line to remember in the manifest.
        changes: settings of the study from generation K + 1 on: ``policy``, ``alpha`` (short for a fixed fraction),
            ``estimator``, ``samples``, ``generations`` (in total, shared ones included), ``mixing``, ``reuse``,
            ``device``, ``threads``, ``name``, or dotted keys, ``**{"estimator.bandwidth": 0.3}``. Row i of a policy
            still trains generation i + 1: the first K rows of a new one are not used.

    Returns:
        An iterator over generations K + 1, ..., N; leaving it early leaves a run that ``dl.resume`` continues.

    Raises:
        ConfigError: a K that the parent does not have, an unknown setting, or one that contradicts the shared past
            (source, seed, measures, rows compared).
        DataExhaustedError: the source has too few fresh rows.
        RunDirectoryError: `out` holds something already.
        CorruptFileError: a shared file is damaged.
        TrustError: the parent is somebody else's and names code or data.

    Example:
        >>> import driftlaw as dl
        >>> for g in dl.fork("runs/gmm", at=3, alpha=0.1, out="runs/gmm-fork"):  # doctest: +SKIP
        ...     print(g.index)
    """
    history = run if isinstance(run, History) else load(run, trust=trust)
    if isinstance(at, bool) or not isinstance(at, int) or not 1 <= at <= len(history):
        raise ConfigError(
            f"at = {at!r}, but {history.directory.path} has generations 1..{len(history)}", "K is one of them"
        )
    known = _parent_study(history, study, history.trust or trust)
    if "alpha" in changes:
        if "policy" in changes:
            raise ConfigError("both alpha and policy were given", "use one of them")
        changes["policy"] = changes.pop("alpha")
    new = known.with_settings(changes)
    target = RunDirectory(out)
    target.check_new()
    before = shared_with_parent(history.directory, known, history.trust or trust)
    makers = [*before.estimators, *(known.learner(k) for k in range(len(before) + 1, at + 1))][:at]
    kept = new.config()["estimator"] == known.config()["estimator"]
    makers = [new.estimator if kept and maker is known.estimator else maker for maker in makers]
    shared = Shared(history.generations[:at], tuple(makers))
    old = Setting(known, pick_device(known.device), folder=history.directory.path, shared=before)
    setting = Setting(new, pick_device(new.device), folder=target.path, shared=shared)
    _check(old, setting, at)
    setting.prepare()
    described = [ESTIMATORS.describe(maker) for maker in makers]
    listed = [(k, config) for k, config in enumerate(described, 1) if k == at or described[k] != config]
    where = os.path.relpath(history.directory.path, target.path)
    parent = Parent(where, journal_sha256(history.directory, at), at, tuple(listed))
    _build(history, setting, parent, target.path, command)
    return resume(target.path, watch=watch, study=new)


def _parent_study(history: History, study: Study | None, trust: bool) -> Study:
    if study is None:
        refuse(history.manifest.get("own") or {}, "fork")
        return history.directory.study(trust)
    if not study.is_described_by(history.config):
        raise ConfigError("the study given is not that of the parent", "give the one that it was started with")
    return study


def _check(old: Setting, setting: Setting, at: int) -> None:
    """Refuse what would contradict the shared generations.

    Raises:
        ConfigError: names the setting.
    """
    known, new = old.study, setting.study
    before, after = known.config(), new.config()
    for key, why in FIXED.items():
        if before[key] != after[key]:
            raise ConfigError(f"a fork cannot change {key}: {why}", "start a new run for it")
    if new.generations <= at:
        raise ConfigError(
            f"generations = {new.generations}, but generations 1..{at} are shared",
            f"generations counts all of the fork: give more than {at}",
        )
    if before["estimator"] != after["estimator"] and "estimator" in own_parts(known):
        raise ConfigError(
            f"the estimator of the shared generations ({own_parts(known)['estimator']}) is not rebuilt by its "
            "configuration, so a fork with another one could not read their models",
            "make it a kind of its own with dl.register",
        )
    rows = [0 if s.held_out is None else len(s.held_out) for s in (old, setting)]
    if rows[0] != rows[1]:
        raise ConfigError(
            f"with samples = {new.samples} measures compare {rows[1]} rows, in the shared generations {rows[0]}",
            f"keep samples at {rows[0]} or more, and no more than before if that is less than measures.samples",
        )
    if setting.adaptive is not None:
        adapt.check(setting)
        if any(w for g in setting.shared.records for w in g.mixing[:-1]):
            raise ConfigError(
                "an adaptive policy reads the past as fractions of fresh data and of the last model, and the shared "
                "generations used older ones",
                "choose another policy",
            )
    if classifier_of(new.measures.features) is not None:
        bounds = old.fresh_bound(), setting.fresh_bound()
        if feature_space.learned_rows(old) and bounds[1] > bounds[0]:
            raise ConfigError(
                f"the features (classifier) of the parent were learned from real rows that this fork trains on: it "
                f"takes up to {bounds[1]} fresh rows, the parent {bounds[0]}",
                "take fewer fresh rows or generations, or start a new run",
            )


def _build(history: History, setting: Setting, parent: Parent, out: Path, command: str) -> None:
    """Make the fork's directory under a temporary name, and give it its own when it is whole."""
    source, study = history.directory, setting.study
    make_folder(out.parent)
    temporary = out.parent / f".{secrets.token_hex(8)}{files.TEMPORARY}"
    with storage_errors(out):
        temporary.mkdir()
    try:
        made = RunDirectory(temporary)
        make_folder(temporary / "generations")
        hashes = source.folder(0) / "hashes.json"
        for index in range(parent.at + 1):
            hashed = dict(history[index].files) if index else read_json(hashes) if hashes.exists() else {}
            source.verify(index, hashed)
            _share(source.folder(index), made.folder(index), set(hashed))
        for name in ("classifier.safetensors", "classifier.json"):
            if (source.path / "features" / name).is_file():
                make_folder(temporary / "features")
                _copy(source.path / "features" / name, temporary / "features" / name)
        lines = files.read_bytes(source.path / JOURNAL).splitlines(keepends=True)[: parent.at]
        files.write_atomic(temporary / JOURNAL, lambda f: f.writelines(lines))
        write(made, parent)
        text = signed(study.to_yaml())
        made.create(text, born(setting, command, signature_in(text)))
        with storage_errors(out):
            if out.is_dir():  # empty but for what a run leaves that was killed before it began
                shutil.rmtree(out)
            temporary.rename(out)
            files.sync_folder(out.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _share(source: Path, target: Path, hashed: set[str]) -> None:
    """Link files that never change, copy the others; what a generation under way leaves is not taken."""
    make_folder(target)
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if path.is_symlink():
            raise UnsafePathError(f"{path} is a link, and a fork follows none", "replace it by what it stands for")
        if inside.parts[0] in {"chunks", "checkpoint.safetensors"} or path.name.endswith(files.TEMPORARY):
            continue
        if path.is_dir():
            make_folder(target / inside)
        elif str(inside) in hashed:
            try:
                os.link(path, target / inside, follow_symlinks=False)
            except OSError:  # another file system, or one without hard links
                _copy(path, target / inside)
        else:
            _copy(path, target / inside)
    files.sync_folder(target)


def _copy(source: Path, target: Path) -> None:
    with files.open_file(source) as f:
        files.write_atomic(target, lambda g: shutil.copyfileobj(f, g))
