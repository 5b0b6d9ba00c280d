"""What each process of a fit runs: ``python -m driftlaw.learn.denoiser.worker FOLDER`` (see ``processes``)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from driftlaw.errors import DriftlawError
from driftlaw.kinds import ESTIMATORS
from driftlaw.learn.denoiser.processes import FolderCheckpoint
from driftlaw.learn.estimator import FitContext
from driftlaw.system.children import end_with_parent


class _Model:
    """A warm start that has only its state."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self._state = state

    def state(self) -> dict[str, Tensor]:
        return self._state


def worker(folder: Path) -> None:
    """What each process does: the fit of the job in `folder`, with a checkpoint there."""
    job = json.loads((folder / "job.json").read_text())
    rows, warm = load_file(folder / "rows.safetensors"), folder / "warm.safetensors"
    rank = int(os.environ["RANK"])

    def progress(fraction: float, text: str) -> None:
        if rank == 0:
            (folder / "progress.new").write_text(f"{fraction} {text}")
            (folder / "progress.new").replace(folder / "progress")

    context = FitContext(
        seed=job["seed"],
        held_out=rows.get("held_out"),
        warm_start=_Model(load_file(warm)) if warm.exists() else None,  # type: ignore[arg-type]
        checkpoint=FolderCheckpoint(folder),
        progress=progress,
        device=job["device"],
        labels=rows.get("labels"),
        classes=None if job["classes"] is None else tuple(job["classes"]),
        held_out_labels=rows.get("held_out_labels"),
    )
    ESTIMATORS.build(job["config"]).fit(rows["data"], context)


if __name__ == "__main__":
    end_with_parent(int(os.environ["DRIFTLAW_PARENT"]) if "DRIFTLAW_PARENT" in os.environ else None)
    try:
        worker(Path(sys.argv[1]))
    except DriftlawError as error:
        (Path(sys.argv[1]) / f"{os.environ['RANK']}.refusal").write_text(json.dumps([error.what, error.fix]))
        sys.exit(error.exit_code)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
