"""The recursion: an iterator of generations over a run directory. Killed anywhere, it resumes to the same numbers.

Everything that a generation needs is on disk before the next begins (samples, weights, journal line), and everything
random comes from streams named by (seed, generation, purpose). So the state of a run is its journal, plus at most one
training checkpoint of the generation under way.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

import driftlaw
from driftlaw.errors import ConfigError, CorruptFileError
from driftlaw.files import make_folder, remove, sha256
from driftlaw.learn.estimator import Model
from driftlaw.loop.branches.shared import shared_with_parent
from driftlaw.loop.history import read_model, write_model
from driftlaw.loop.own import own_parts, refuse
from driftlaw.loop.record import Generation
from driftlaw.loop.step import adapt
from driftlaw.loop.step.generation import Stages, Workspace, advance
from driftlaw.loop.step.setting import Past, Setting
from driftlaw.loop.store import (
    CONFIG,
    SUMMARY,
    FileCheckpoint,
    FileChunks,
    RunDirectory,
    read_array,
    read_json,
    storage_errors,
    write_array,
    write_json,
)
from driftlaw.loop.study import Study
from driftlaw.loop.trust import COMMENT, SIGNATURE, sign, signature_in

#: ``watch(generation, stage, fraction in [0, 1], text)``: told how far a run is.
Watch = Callable[[int, str, float, str], None]


def run(
    study: Study,
    out: str | os.PathLike[str] | None = None,
    *,
    watch: Watch | None = None,
    command: str = "",
    strict: bool = False,
) -> Iterator[Generation]:
    """Run a study, yielding each generation's record as soon as it is safely stored.

    Args:
        study: what to do.
        out: new run directory; None keeps the run in a temporary one that goes when the iterator ends.
        watch: told about progress.
        command: command line to remember in the manifest.
        strict: stop with a ``SanityError`` at the first finding of a generation's checks; the fit is kept, so that
            :func:`resume` goes on from there.

    Returns:
        An iterator; leaving it early leaves a run that :func:`resume` continues.

    Raises:
        RunDirectoryError: `out` holds something already.
        ConfigError: the study cannot be written down, or asks for CUDA where there is none.
    """
    folder = None if out is None else Path(out)
    config, setting = signed(study.to_yaml()), Setting(study, pick_device(study.device), folder=folder)
    if setting.adaptive is not None:
        adapt.check(setting)
    if out is None:
        setting.prepare()
        return _temporary_run(setting, config, watch, strict)
    directory = RunDirectory(out)
    directory.check_new()
    setting.prepare()
    return _new_run(directory, setting, config, watch, command, strict)


def resume(
    path: str | os.PathLike[str],
    *,
    watch: Watch | None = None,
    study: Study | None = None,
    trust: bool = False,
    strict: bool = False,
) -> Iterator[Generation]:
    """Continue a killed or unfinished run; yields the generations that were still missing.

    Args:
        path: the run directory.
        watch: told about progress.
        study: the study that the run was started with, when it holds an estimator or policy of your own; built-in
            ones are rebuilt from the directory.
        trust: whether code and data that the directory names may be used although another user, or another machine,
            started the run.
        strict: as for :func:`run`.

    Raises:
        TrustError: the run is somebody else's and names code or data; the message says what would run.
        ConfigError: `study` is another one than the run was started with.
        RunDirectoryError: not a run, of a newer format, or locked by another process.
        CorruptFileError: a stored file is damaged; the message names it.
    """
    directory = RunDirectory(path)
    manifest = directory.manifest() if directory.begun else {}
    if study is not None and not study.is_described_by(directory.config()):
        raise ConfigError(f"the study given is not the one in {directory.path / CONFIG}", "start a new run for it")
    if study is None:
        refuse(manifest.get("own") or {}, "resume")
    study = study or directory.study(trust)
    shared = shared_with_parent(directory, study, trust)
    setting = Setting(study, pick_device(study.device), folder=directory.path, shared=shared)
    return _resumed_run(directory, setting, watch, strict)


def pick_device(name: str) -> str:
    """Resolve "auto".

    Raises:
        ConfigError: CUDA was asked for and is not there.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError("device is cuda but this machine has no usable CUDA device", "use device: auto or cpu")
    return name if name != "auto" else "cuda" if available else "cpu"


def _temporary_run(setting: Setting, config: str, watch: Watch | None, strict: bool) -> Iterator[Generation]:
    with tempfile.TemporaryDirectory(prefix="driftlaw-") as folder:
        yield from _new_run(RunDirectory(folder), setting, config, watch, "", strict)


def _new_run(
    directory: RunDirectory, setting: Setting, config: str, watch: Watch | None, command: str, strict: bool
) -> Iterator[Generation]:
    with directory.locked(), threads(thread_count(setting.study)):
        directory.check_new()
        directory.create(config, born(setting, command, signature_in(config)))
        yield from Recursion(directory, setting, watch, strict).generations()


def _resumed_run(directory: RunDirectory, setting: Setting, watch: Watch | None, strict: bool) -> Iterator[Generation]:
    with directory.locked():
        begun = directory.manifest().get("threads") if directory.begun else None
        with threads(thread_count(setting.study, begun)):
            if not directory.begun:
                text = (directory.path / CONFIG).read_text()
                directory.begin({**born(setting, "", signature_in(text)), "config_sha256": sha256(text.encode())})
            recursion = Recursion(directory, setting, watch, strict)
            recursion.note_differences(directory.manifest())
            yield from recursion.generations()


def thread_count(study: Study, started_with: int | None = None) -> int | None:
    """CPU threads of a run: those asked for, one for a small network, else None for torch's own number.

    Args:
        study: what is run.
        started_with: threads of the run that goes on, whose numbers another count would change in their last digits.
    """
    small = getattr(study.estimator, "one_thread", None)
    if study.threads is not None or small is None or started_with not in (None, 1):
        return study.threads
    return 1 if small(study.source.shape) else None


@contextlib.contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Use this many CPU threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Recursion:
    """The driver of one run directory, whose lock its caller holds."""

    def __init__(
        self, directory: RunDirectory, setting: Setting, watch: Watch | None = None, strict: bool = False
    ) -> None:
        self.directory, self.setting, self.study, self.watch = directory, setting, setting.study, watch
        self.strict = strict
        self._differences: tuple[str, ...] = ()
        self._model = lru_cache(maxsize=2 if self.setting.stored(0) > 50_000 else 8)(self._load_model)
        self._observer = adapt.Observer(setting, self._model)

    def note_differences(self, manifest: dict[str, Any]) -> None:
        """Remember in words what differs from the machine that started the run: numbers may then differ in rounding."""
        now = facts(self.setting.device)
        keys = ("torch", "threads", "device", "machine")
        self._differences = tuple(
            f"resumed with {key} {now[key]} after {manifest[key]}: later numbers may differ in rounding"
            for key in keys
            if manifest.get(key) != now[key]
        )

    def generations(self) -> Iterator[Generation]:
        """Make the missing generations in order."""
        self._check_shared()
        records, damage = self.directory.good_records()
        self._differences += self.directory.notes + ((damage,) if damage else ())
        if self.setting.adaptive is not None:
            for record in records:
                self.setting.decide(record.fresh)
        for record in records:
            self._tidy(record.index)
        self._store_target()
        for index in range(len(records) + 1, self.study.generations + 1):
            record = self._make(index)
            records.append(record)
            yield record
        self._summarise(records)

    def _check_shared(self) -> None:
        """A fork's first generations are its parent's: they are never made again here."""
        for index, record in enumerate(self.setting.shared.records, start=1):
            try:
                self.directory.verify(index, record.files)
            except CorruptFileError as error:
                raise CorruptFileError(error.what, "restore it from the parent, or fork again") from error

    def _make(self, index: int) -> Generation:
        folder = self.directory.folder(index)
        make_folder(folder)
        policy, files = self.setting.adaptive, {}
        if policy is not None:
            files[adapt.DECISION] = adapt.decide(self._observer, policy, folder)
        checkpoint, chunks = FileCheckpoint(folder / "checkpoint.safetensors"), FileChunks(folder / "chunks")
        previous = self.directory.folder(index - 1) if index > 1 else None
        work = Workspace(checkpoint, chunks, folder, previous, self.strict)
        past = Past(self._samples, self._model, self._labels)
        outcome = advance(self.setting, index, past, work, self._progress(index))
        start = time.perf_counter()
        files |= {
            "samples.npy": write_array(folder / "samples.npy", outcome.samples.numpy()),
            "weights.safetensors": write_model(folder, outcome.model, outcome.samples),
        }
        if outcome.labels is not None:
            files["labels.npy"] = write_array(folder / "labels.npy", outcome.labels.numpy())
        damage = tuple(d for d in (checkpoint.damage, chunks.damage) if d)
        record = replace(outcome.record, files=files, warnings=outcome.record.warnings + self._differences + damage)
        write_json(folder / "record.json", record.to_json())
        seconds = {**outcome.seconds, "writing": time.perf_counter() - start, "peak_memory_mib": peak_memory_mib()}
        write_json(folder / "timing.json", seconds)
        self.directory.append(record)
        self._tidy(index)
        if self.watch is not None:
            self.watch(index, "done", 1.0, "")
        return record

    def _tidy(self, index: int) -> None:
        """Remove what only an unfinished generation needs."""
        folder = self.directory.folder(index)
        with storage_errors(folder):
            remove(folder / "checkpoint.safetensors")
            FileChunks(folder / "chunks").clear()

    def _progress(self, index: int) -> Stages:
        watch = self.watch
        if watch is None:
            return lambda stage, fraction, text: None
        return lambda stage, fraction, text: watch(index, stage, fraction, text)

    def _store_target(self) -> None:
        """Generation 0: the first real rows, kept for policies that train on them again and for the report."""
        folder = self.directory.folder(0)
        hashes = folder / "hashes.json"
        if hashes.exists():
            with contextlib.suppress(CorruptFileError):  # else the same rows are drawn once more
                self.directory.verify(0, read_json(hashes))
                return
        make_folder(folder)
        batch = self.setting.supply.take(self.setting.stored(0), 0).batch
        files = {"samples.npy": write_array(folder / "samples.npy", batch.x.numpy())}
        if batch.y is not None:
            files["labels.npy"] = write_array(folder / "labels.npy", batch.y.numpy())
        write_json(hashes, files)

    def _samples(self, index: int) -> Tensor:
        return torch.from_numpy(read_array(self.directory.folder(index) / "samples.npy"))

    def _labels(self, index: int) -> Tensor | None:
        path = self.directory.folder(index) / "labels.npy"
        return torch.from_numpy(read_array(path)) if path.exists() else None

    def _load_model(self, index: int) -> Model:
        return read_model(self.directory, self.setting.maker(index), self.study.source.shape, index)

    def _summarise(self, records: list[Generation]) -> None:
        last = records[-1]
        document = {
            "study": self.study.config()["name"],
            "generations": len(records),
            "divergence": {k: e.to_json() for k, e in last.divergence.items()},
            "floor": {k: e.to_json() for k, e in last.floor.items()},
            "moments": {k: e.to_json() for k, e in last.moments.items()},
            "fresh_rows": sum(r.lineage.fresh for r in records),
            "warnings": sorted({w for r in records for w in r.warnings}),
        }
        write_json(self.directory.path / SUMMARY, document)


def signed(config: str) -> str:
    """A configuration that names code or data with this user's signature, others as they are."""
    signature = sign(yaml.safe_load(config))
    return config if signature is None else f"{COMMENT}{signature}\n{config}"


def born(setting: Setting, command: str, signature: str | None) -> dict[str, Any]:
    """What the manifest of a new run says."""
    known: dict[str, Any] = {"seed": setting.study.seed, "command": command, "classes": setting.study.source.classes}
    known |= {"own": own} if (own := own_parts(setting.study)) else {}
    return {**facts(setting.device), **known, **({} if signature is None else {SIGNATURE: signature})}


def facts(device: str) -> dict[str, Any]:
    """Versions and machine class for the manifest; names no host, user or path."""
    return {
        "driftlaw": driftlaw.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "device": device,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def peak_memory_mib() -> float:
    """Largest resident set of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def use_threads_of(manifest: dict[str, Any]) -> None:
    """Use the thread count that the run was started with: results are then the same to the last bit."""
    threads = manifest.get("threads")
    if isinstance(threads, int) and threads > 0:
        torch.set_num_threads(threads)
