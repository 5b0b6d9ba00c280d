"""A finished or growing run opened for analysis: its models and rows, each checked against its hash when loaded."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from driftlaw.errors import ConfigError
from driftlaw.learn.estimator import Model
from driftlaw.loop.branches.shared import shared_with_parent
from driftlaw.loop.history import History, read_model
from driftlaw.loop.own import refuse, to_read
from driftlaw.loop.step.setting import Past, Setting
from driftlaw.loop.study import Study


class OpenRun:
    """What a run was made of, without running it again.

    Args:
        history: the run.
        study: the study that the run was started with, where it holds a part of one's own.

    Raises:
        TrustError: it names some, and is neither trusted nor signed by this user.

    Attributes:
        study: its configuration.
        setting: what stayed the same through it.
        past: its generations, as the next one would see them.
    """

    def __init__(self, history: History, study: Study | None = None) -> None:
        self.history = history
        if study is None:
            refuse(to_read(history.manifest.get("own") or {}), "reading the run")
        elif not study.is_described_by(history.config):
            raise ConfigError("the study given is not that of the run", "give the one that it was started with")
        self.study = study or history.study()
        shared = shared_with_parent(history.directory, self.study, history.trust)
        decided = [g.fresh for g in history]
        self.setting = Setting(self.study, folder=history.directory.path, decided=decided, shared=shared)
        self._load = lru_cache(maxsize=None)(self._load_model)
        self.past = Past(lambda n: torch.from_numpy(self.samples(n)), self._load)

    def model(self, n: int) -> Model:
        """The stored model p_hat^n, n >= 1.

        Raises:
            CorruptFileError: its file is not the one that the run wrote.
        """
        return self._load(n)

    def samples(self, n: int) -> np.ndarray:
        """The stored rows of generation n; 0 is the target.

        Raises:
            CorruptFileError: their file is not the one that the run wrote.
        """
        self._verify(n, "samples.npy")
        return self.history.samples(n)

    def _load_model(self, n: int) -> Model:
        self._verify(n, "weights.safetensors")
        return read_model(self.history.directory, self.setting.maker(n), self.study.source.shape, n)

    def _verify(self, n: int, name: str) -> None:
        files = self.history[n].files if n else {}
        self.history.directory.verify(n, {k: v for k, v in files.items() if k == name})
