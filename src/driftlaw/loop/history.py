"""A finished or growing run, read back: records, samples and a table. Nothing is recomputed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from driftlaw.config import shown
from driftlaw.errors import ConfigError, CorruptFileError, InputError
from driftlaw.learn.estimator import Estimator, Model
from driftlaw.loop.branches.shared import Parent, parent_of, shared_with_parent
from driftlaw.loop.own import refuse, to_read
from driftlaw.loop.record import Generation
from driftlaw.loop.store import RunDirectory, read_array, read_json, read_tensors, write_tensors
from driftlaw.loop.study import Study

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class History:
    """The generations of one run.

    Args:
        directory: where the run lies.
        config: the resolved study as plain data.
        manifest: versions, seed, device, command.
        generations: records 1..N in order.
        trust: whether code and data that the run names may be used although this user did not start it.
    """

    directory: RunDirectory
    config: dict[str, Any]
    manifest: dict[str, Any]
    generations: tuple[Generation, ...]
    trust: bool = False

    def __len__(self) -> int:
        return len(self.generations)

    def __iter__(self) -> Iterator[Generation]:
        return iter(self.generations)

    def __getitem__(self, index: int) -> Generation:
        """Record of generation `index` (1-based, as in the theory)."""
        if not 1 <= index <= len(self.generations):
            raise InputError(f"this run has generations 1..{len(self.generations)}, not {index}")
        return self.generations[index - 1]

    def study(self) -> Study:
        """The study of the run, rebuilt; without measures of one's own, whose numbers are in the records.

        Raises:
            TrustError: it names code or data, and is neither trusted nor signed by this user.
        """
        return self.directory.study(self.trust, reading=True)

    def model(self, index: int, study: Study | None = None) -> Model:
        """The stored model p_hat^index, index >= 1, its file checked against the recorded hash.

        Args:
            index: generation.
            study: the study of the run, where it holds an estimator of your own.

        Raises:
            ConfigError: an estimator of your own without its study, or another study.
            CorruptFileError: its file is not the one that the run wrote.
            TrustError: the run names code, and is neither trusted nor signed by this user.
        """
        if study is None:
            refuse(to_read(self.manifest.get("own") or {}), "reading the model")
        elif not study.is_described_by(self.config):
            raise ConfigError("the study given is not that of the run", "give the one that it was started with")
        name = "weights.safetensors"
        self.directory.verify(index, {k: v for k, v in self[index].files.items() if k == name})
        study = study or self.study()
        shared = shared_with_parent(self.directory, study, self.trust).estimators
        maker = shared[index - 1] if index <= len(shared) else study.learner(index)
        return read_model(self.directory, maker, study.source.shape, index)

    @property
    def parent(self) -> Parent | None:
        """Where the run was forked from; None for a run of its own."""
        return parent_of(self.directory)

    def samples(self, index: int, units: Literal["study", "data"] = "study", study: Study | None = None) -> np.ndarray:
        """Rows kept of p_hat^index, ``[n, ...]``; index 0 gives the real rows of generation 0.

        Args:
            index: generation.
            units: "study" as they were learned and stored (float32; columns standardised, images in [-1, 1]), or
                "data" as the source's own rows are (float64; columns in their units, images from bytes in [0, 255]).
            study: the study of the run, where it holds a source of your own; "data" asks the source.

        Raises:
            InputError: units that do not exist.
            CorruptFileError: their file is not the one that the run wrote.
            TrustError: "data", and the run names data of somebody else.
        """
        if units not in ("study", "data"):
            raise InputError(f"units = {shown(units)}", "use 'study' or 'data'")
        rows = self._array(index, "samples.npy")
        if units == "study":
            return rows
        if study is None:
            refuse({k: v for k, v in (self.manifest.get("own") or {}).items() if k == "source"}, "its units")
        source = (study or self.study()).source
        inverse = getattr(source, "restore", None)
        return rows.astype(np.float64) if inverse is None else inverse(torch.from_numpy(np.array(rows))).numpy()

    def labels(self, index: int = 0) -> np.ndarray | None:
        """Class labels ``[n]`` of :meth:`samples`, where the source (generation 0) or the model has them."""
        return self._array(index, "labels.npy") if (self.directory.folder(index) / "labels.npy").exists() else None

    def _array(self, index: int, name: str) -> np.ndarray:
        """An array of a generation, checked against its recorded hash."""
        hashes = self.directory.folder(0) / "hashes.json"
        known = self[index].files if index else read_json(hashes) if hashes.exists() else {}
        return read_array(self.directory.folder(index) / name, known.get(name))

    @cached_property
    def timings(self) -> tuple[dict[str, float], ...]:
        """Wall-clock seconds by stage and peak memory of each generation, as far as recorded."""
        paths = [self.directory.folder(g.index) / "timing.json" for g in self.generations]
        return tuple(_numbers(p) if p.exists() else {} for p in paths)

    def frame(self) -> pd.DataFrame:
        """One row per generation, by index: every estimate as value, ``_low`` and ``_high`` columns.

        `alpha` is the realised fraction of real data; `real` and `samples` are rows, `seed` that of the run. Counts are
        integers, everything else is float64.
        """
        import pandas as pd

        rows = []
        for g in self.generations:
            row: dict[str, Any] = {
                "generation": g.index,
                "alpha": g.alpha,
                "real": g.lineage.real,
                "samples": g.samples,
                "seed": int(self.config.get("seed", 0)),
            }
            for group in ("divergence", "one_step", "floor", "moments", "modes", "path", "selection"):
                for name, e in getattr(g, group).items():
                    key = name if group == "divergence" else f"{group}.{name}"
                    row |= {key: e.value, f"{key}_low": e.low, f"{key}_high": e.high}
            for label, found in g.by_class.items():
                for name, e in found.items():
                    key = f"by_class.{label}.{name}"
                    row |= {key: e.value, f"{key}_low": e.low, f"{key}_high": e.high}
            rows.append(row)
        if not rows:
            return pd.DataFrame()
        whole = ("generation", "real", "samples", "seed")
        table = pd.DataFrame(rows)
        return table.astype({c: "int64" if c in whole else "float64" for c in table}).set_index("generation")


def _numbers(path: Path) -> dict[str, float]:
    found = read_json(path)
    for key, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
            raise CorruptFileError(f"{path} is damaged: {key} is not a number", "delete it")
    return found


def write_model(folder: Path, model: Model, samples: Tensor) -> str:
    """Store a model beside the samples of its generation; returns the hash of its file.

    A model that is its samples (a program's, a function's) refers to them instead of storing them twice.

    Args:
        folder: of the generation.
        model: what was learned.
        samples: its rows, which lie in ``samples.npy``.
    """
    tensors, meta = model.state(), dict[str, Any]()
    for name, tensor in tensors.items():
        if tensor.shape == samples.shape and tensor.dtype == samples.dtype and torch.equal(tensor.cpu(), samples):
            meta = {"is_samples": name}
    tensors = {name: tensor for name, tensor in tensors.items() if name != meta.get("is_samples")}
    return write_tensors(folder / "weights.safetensors", tensors, meta)


def read_model(directory: RunDirectory, estimator: Estimator, shape: tuple[int, ...], index: int) -> Model:
    """The stored model p_hat^index of a run, index >= 1.

    Args:
        directory: the run.
        estimator: the learner that made it.
        shape: of one row.
        index: generation.

    Raises:
        CorruptFileError: the file of its weights is damaged.
    """
    folder = directory.folder(index)
    tensors, meta = read_tensors(folder / "weights.safetensors")
    if "is_samples" in meta:
        tensors[str(meta["is_samples"])] = torch.from_numpy(read_array(folder / "samples.npy"))
    return estimator.load(tensors, shape)


def load(path: str | os.PathLike[str], *, trust: bool = False) -> History:
    """Read a run directory; nothing that it names is run or read.

    Args:
        path: the run directory.
        trust: whether what is done with the history later may use the code and data that the run names, although
            another user, or another machine, started it.

    Raises:
        RunDirectoryError: not a run, or of a newer format.
        CorruptFileError: a damaged config, manifest or journal.
    """
    directory = RunDirectory(path)
    manifest = directory.manifest()
    return History(directory, directory.config(), manifest, tuple(directory.records()), trust)
