r"""Any program as a learner: driftlaw writes a training set and a job, the program writes samples.

For each generation driftlaw calls ``COMMAND... JOB`` (or puts the path of the job where the command says ``{job}``),
without a shell, in the folder where driftlaw was started. The job is a JSON object::

    {"version": 1, "generation": 3, "seed": 1234,         a seed of 31 bits, specific to this generation
     "training": ".../training.npy",                      float32 [n, d] or [n, c, h, w]; images in [-1, 1]
     "training_images": ".../training" or null,           the same as PNG files 000000.png ... if `png` was asked
     "shape": [c, h, w], "samples": 1000,                 how many rows of which shape are wanted
     "samples_file": ".../samples.npy",                   where the program writes them, float32 [samples, ...]
     "output": ".../output",                              a folder of the program's own, kept in the run directory
     "previous_output": ".../output" or null,             the same folder of the generation before, for a warm start
     "origin": ".../origin.npy" or null,                  int64 [n]: 0 fresh real, -1 kept real, j sampled from model j
     "labels": ".../labels.npy" or null,                  int64 [n]: class of each row, -1 where it is not known
     "classes": ["cat", "dog"] or null,                   their names
     "labels_file": ".../sample_labels.npy" or null,      where the program may write the classes of its samples
     "device": "cpu" or "cuda"}

Exit code 0 means that ``samples_file`` is whole. A program that was killed with driftlaw is called again with the same
job, and finds what it left in ``output``. Its standard output and error go to ``command.log`` beside it.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from driftlaw.config import Described, validate
from driftlaw.errors import ConfigError, InputError
from driftlaw.files import make_folder, open_new, storage_errors, write_array
from driftlaw.learn.denoiser.training import fingerprint
from driftlaw.learn.drawn import DrawnSamples, check_drawn, check_drawn_labels, load_rows
from driftlaw.learn.estimator import ALONE, FitContext
from driftlaw.learn.rows import check_rows
from driftlaw.system.children import Supervised

#: Version of the job's format.
VERSION = 1
#: Characters of the program's output that an error shows.
TAIL = 1500


def _words(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Command(Described):
    """A program as the learner of a study: see this module's page for the contract.

    The model is known by its samples: no score, no density, so only measures between samples are available.

    Args:
        command: the words of the command, or one text that is split as a shell would, without running one.
        png: also write the training images as PNG files (1 or 3 channels in [-1, 1]).
        timeout: seconds after which the program is killed; None waits.

    Raises:
        ConfigError: an empty command.

    Example:
        >>> Command("python train.py --epochs 3").command
        ('python', 'train.py', '--epochs', '3')
    """

    kind: ClassVar[str] = "command"
    #: A dry run does not call the program.
    probes: ClassVar[bool] = False

    command: Annotated[tuple[str, ...], BeforeValidator(_words)]
    png: bool = False
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    def __post_init__(self) -> None:
        validate(self)
        if not self.command or not self.command[0]:
            raise ConfigError("Command: command is empty", "give the program and its arguments")

    def __str__(self) -> str:
        return f"the command {shlex.join(self.command)!r}"

    def check(self, shape: tuple[int, ...], device: str = "cpu") -> None:
        """Find out, before anything is written, whether the program is there and can be given these rows.

        Raises:
            InputError: the program is not found, or rows that are no images with `png`.
        """
        if shutil.which(self.command[0]) is None:
            raise InputError(
                f"{self}: there is no program {self.command[0]!r}",
                "check its spelling; a relative path starts at the folder where driftlaw is started",
            )
        if self.png and (len(shape) != 3 or shape[0] not in (1, 3)):
            raise InputError(f"{self}: rows of shape {list(shape)} are not grey or colour images", "set png: false")

    def fit(self, data: Tensor, context: FitContext = ALONE) -> DrawnSamples:
        """Run the program on the rows.

        Args:
            data: ``[n, d]`` or ``[n, c, h, w]``, n >= 2.
            context: seed, generation, samples wanted (default: as many as rows), folders, checkpoint, device, origin
                and labels.

        Raises:
            InputError: unusable rows, a program that is not found, fails, takes too long, or does not write what was
                asked.
        """
        data = check_rows(data)
        shape = tuple(data.shape[1:])
        self.check(shape, context.device)
        n = context.samples or len(data)
        identity = json.loads(json.dumps(fingerprint({**self.config(), "samples": n}, data, None, context)))
        found = context.checkpoint.load() if context.checkpoint is not None else None
        if found is not None and found[1].get("fit") == identity:  # the program had finished before the kill
            return load_rows(found[0], shape, str(self))
        with storage_errors(context.folder or Path(tempfile.gettempdir())), ExitStack() as stack:
            with storage_errors(Path(tempfile.gettempdir())):
                scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="driftlaw-"))
            keep = context.folder if context.folder is not None else Path(scratch) / "kept"
            make_folder(keep / "output")
            for left in keep.glob("attempt-*"):  # of a killed driftlaw; each attempt has a folder of its own
                shutil.rmtree(left, ignore_errors=True)
            attempt = stack.enter_context(tempfile.TemporaryDirectory(prefix="attempt-", dir=keep))
            job = self._write_job(Path(attempt), keep, data, n, context)
            self._run(job, keep / "command.log", context)
            rows, labels = check_drawn(_read(Path(attempt) / "samples.npy", str(self)), n, shape, str(self)), None
            if (given := Path(attempt) / "sample_labels.npy").exists():
                labels = check_drawn_labels(_read(given, str(self)), n, len(context.classes or ()), str(self))
        drawn = DrawnSamples(rows, str(self), labels)
        if context.checkpoint is not None:
            context.checkpoint.save(drawn.state(), {"fit": identity})
        context.progress(1.0, "")
        return drawn

    def load(self, state: Mapping[str, Tensor], shape: tuple[int, ...]) -> DrawnSamples:
        """Restore the model from :meth:`DrawnSamples.state`."""
        return load_rows(state, shape, str(self))

    def _write_job(self, folder: Path, keep: Path, data: Tensor, n: int, context: FitContext) -> Path:
        images = folder / "training" if self.png else None
        write_array(folder / "training.npy", data.numpy())
        if images is not None:
            _write_png(images, data)
        given = {"origin": context.origin, "labels": context.labels}
        for name, value in given.items():
            if value is not None:
                write_array(folder / f"{name}.npy", value.numpy())
        before = context.previous / "output" if context.previous is not None else None
        job = {
            "version": VERSION,
            "generation": context.generation,
            "seed": context.seed % 2**31,
            "training": str((folder / "training.npy").absolute()),
            "training_images": None if images is None else str(images.absolute()),
            "shape": list(data.shape[1:]),
            "samples": n,
            "samples_file": str((folder / "samples.npy").absolute()),
            "output": str((keep / "output").absolute()),
            "previous_output": str(before.absolute()) if before is not None and before.is_dir() else None,
            **{k: None if v is None else str((folder / f"{k}.npy").absolute()) for k, v in given.items()},
            "classes": None if context.classes is None else list(context.classes),
            "labels_file": str((folder / "sample_labels.npy").absolute()) if context.classes else None,
            "device": context.device,
        }
        path = folder / "job.json"
        path.write_text(json.dumps(job, indent=1) + "\n")
        return path

    def _run(self, job: Path, log: Path, context: FitContext) -> None:
        place = str(job.absolute())
        words = [w.replace("{job}", place) for w in self.command]
        if words == list(self.command):
            words.append(place)
        context.progress(0.0, f"running {self.command[0]}")
        with open_new(log) as out:
            try:
                process = Supervised(words, out)
            except OSError as error:
                raise InputError(f"{self} cannot be started ({error})", "check that it is executable") from None
            try:
                code = process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                raise InputError(
                    f"{self} was stopped after {self.timeout:g} s{_tail(log)}", "raise timeout, or give it less to do"
                ) from None
            finally:
                process.end()
        if code != 0:
            reason = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
            raise InputError(f"{self} failed with {reason}{_tail(log)}", "run it by hand with the same job to see why")


def _tail(log: Path) -> str:
    text = log.read_bytes()[-TAIL:].decode(errors="replace").strip()
    return f"; the end of its output:\n{text}" if text else "; it printed nothing"


def _read(path: Path, what: str) -> Tensor:
    if not path.is_file():
        raise InputError(f"{what} ended without writing its samples", "write them to the job's samples_file")
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
        return torch.from_numpy(np.ascontiguousarray(array))
    except (ValueError, OSError, EOFError, SyntaxError, TypeError) as error:
        raise InputError(
            f"{what} wrote a samples_file that is not a .npy array of numbers ({error})", "write it with numpy.save"
        ) from None


def _write_png(folder: Path, data: Tensor) -> None:
    from PIL import Image

    folder.mkdir()
    pixels = ((data + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    for i, image in enumerate(pixels):
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(folder / f"{i:06d}.png")
