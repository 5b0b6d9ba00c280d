"""One fit in several processes, one per GPU: started here, joined by accelerate, stopped with the fit.

Each process runs ``driftlaw.learn.denoiser.worker`` on the same rows and the same seed; a training step shares its
batch (:mod:`driftlaw.learn.denoiser.engine`). What they hand back is the checkpoint of the finished fit, so the calling
process takes it up like any other one, and a checkpoint from within the fit is passed on to the caller's as it appears.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from driftlaw.errors import InputError
from driftlaw.learn.denoiser.config import DenoiserConfig
from driftlaw.learn.estimator import FitContext

#: Set in the processes that :func:`fit` starts.
WORKER = "DRIFTLAW_FIT_WORKER"
Saved = tuple[dict[str, Tensor], dict[str, Any]]


class FolderCheckpoint:
    """:class:`driftlaw.learn.estimator.Checkpoint` as two files that are replaced together by one rename."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> Saved | None:
        """The last complete checkpoint or None."""
        name = self.folder / "latest"
        if not name.exists():
            return None
        step = name.read_text()
        return load_file(self.folder / f"{step}.safetensors"), json.loads((self.folder / f"{step}.json").read_text())

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Replace the checkpoint by a newer one, in one rename."""
        step = f"{meta['state']['step']}-{time.monotonic_ns()}"
        save_file(dict(tensors), self.folder / f"{step}.safetensors")
        (self.folder / f"{step}.json").write_text(json.dumps(dict(meta)))
        (self.folder / "latest.new").write_text(step)
        (self.folder / "latest.new").replace(self.folder / "latest")
        for path in self.folder.glob("*-*"):
            if path.stem != step:
                path.unlink()


def fit(config: DenoiserConfig, data: Tensor, context: FitContext) -> Saved:
    """Run a fit in ``config.processes`` processes; returns its final checkpoint.

    Raises:
        InputError: fewer GPUs than processes, or what a process refuses, or a process that failed (with the end of
            what it printed).
    """
    if context.device == "cuda" and torch.cuda.device_count() < config.processes:
        raise InputError(
            f"{config.processes} processes were asked and there are {torch.cuda.device_count()} GPUs",
            "set processes to the number of GPUs",
        )
    with tempfile.TemporaryDirectory(prefix="driftlaw-") as name:
        folder = Path(name)
        checkpoint = FolderCheckpoint(folder)
        before = context.checkpoint.load() if context.checkpoint is not None else None
        if before is not None:
            checkpoint.save(*before)
        tensors = {"data": data.contiguous()}
        if context.held_out is not None:
            tensors["held_out"] = context.held_out.clone(memory_format=torch.contiguous_format)
        for name in ("labels", "held_out_labels"):
            if (value := getattr(context, name)) is not None:
                tensors[name] = value.clone(memory_format=torch.contiguous_format)
        save_file(tensors, folder / "rows.safetensors")
        if context.warm_start is not None:
            save_file(context.warm_start.state(), folder / "warm.safetensors")
        job = {"config": config.config(), "seed": context.seed, "device": context.device, "classes": context.classes}
        (folder / "job.json").write_text(json.dumps(job))
        _wait(_start(folder, config.processes), folder, checkpoint, context)
        done = checkpoint.load()
    if done is None:
        raise InputError("the processes of a fit ended without its result", "fit in one process to see why")
    return done


def _start(folder: Path, processes: int) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    common = {WORKER: "1", "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    common |= {"DRIFTLAW_PARENT": str(os.getpid()), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = []
    for rank in range(processes):
        environment = os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        environment.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // processes)))
        with (folder / f"{rank}.log").open("wb") as log:
            command = [sys.executable, "-m", "driftlaw.learn.denoiser.worker", str(folder)]
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
    return started


def _wait(
    started: list[subprocess.Popen[bytes]], folder: Path, checkpoint: FolderCheckpoint, context: FitContext
) -> None:
    passed = ""
    try:
        while any(p.poll() is None for p in started) and not any(p.poll() for p in started):
            time.sleep(0.05)
            progress = folder / "progress"
            if progress.exists() and " " in (text := progress.read_text()):
                fraction, _, words = text.partition(" ")
                context.progress(float(fraction), words)
            latest = folder / "latest"
            if context.checkpoint is not None and latest.exists() and latest.read_text() != passed:
                passed = latest.read_text()
                try:
                    saved = checkpoint.load()
                except (OSError, ValueError):  # replaced while it was read: the next round has it
                    saved = None
                if saved is not None:
                    context.checkpoint.save(*saved)
    finally:
        for p in started:
            if p.poll() is None:
                p.kill()
            p.wait()
    bad = [rank for rank, p in enumerate(started) if p.returncode > 0] or [
        r for r, p in enumerate(started) if p.returncode
    ]
    if bad:
        for rank in bad:  # a refusal is the same in each process, whichever ends first
            if (refusal := folder / f"{rank}.refusal").exists():
                raise InputError(*json.loads(refusal.read_text()))
        text = (folder / f"{bad[0]}.log").read_bytes()[-1500:].decode(errors="replace").strip()
        raise InputError(f"process {bad[0]} of the fit failed; the end of its output:\n{text}", "fit in one process")
