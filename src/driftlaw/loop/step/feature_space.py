"""The feature space of a study: a name, a network of the user, or a classifier that the run trains for itself.

The classifier learns from real labelled rows that no generation trains on and that no measure compares: those of the
supply that the policy never reaches, without the reference's rows. Where fewer than :data:`FEWEST` are left, it learns
from the rows that fit the reference, on which generations may train too, and every record says so. Held-out rows and
the floor's rows are never among its own. Its weights lie in the run's ``features/`` folder, so that a resumed run
measures in the same space; so do the features of rows that were sent through a network, by content.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from driftlaw import seeding
from driftlaw.data.source import Batch
from driftlaw.data.supply import FreshSupply
from driftlaw.errors import ConfigError, CorruptFileError, InputError
from driftlaw.files import file_sha256, make_folder, read_bytes
from driftlaw.learn.classifier import Classifier, ConvClassifier
from driftlaw.loop.feature_kinds import PLAIN, classifier_of
from driftlaw.loop.store import read_json, read_tensors, write_json, write_tensors
from driftlaw.loop.study import Study
from driftlaw.measure.features import network_kinds
from driftlaw.measure.features.cache import CachedNetwork, FeatureCache
from driftlaw.measure.features.network import FeatureNetwork, FeatureSpace, hash_rows
from driftlaw.measure.sets.moments import proportion
from driftlaw.measure.sets.reference import split


class Run(Protocol):
    """What a feature space asks of a run; :class:`driftlaw.loop.step.setting.Setting` has it."""

    @property
    def study(self) -> Study:
        """The study that is run."""

    @property
    def device(self) -> str:
        """The device on which networks work."""

    @property
    def folder(self) -> Path | None:
        """Of the run; None keeps everything in memory."""

    @property
    def supply(self) -> FreshSupply:
        """Fresh real rows, in one fixed order."""

    def fresh_bound(self) -> int:
        """Most fresh rows that the whole run takes from the supply."""


#: Labelled rows that the classifier wants at least (and 20 for each class), and takes at most.
FEWEST, MOST = 500, 40_000
#: Bytes on disk of a run's cache of features.
DISK_BYTES = 1 << 28
_FILES = ("classifier.safetensors", "classifier.json")


def check(setting: Run) -> None:
    """Find out now, before anything is written, whether the feature space can be had.

    Raises:
        ConfigError: no labels for a classifier, a package that is missing, or CUDA where there is none.
        DataNotFoundError: a network's file is not there.
        InputError: rows that are not images, or a network that does not fit them.
    """
    features, source = setting.study.measures.features, setting.study.source
    if classifier_of(features) is None:
        network_kinds.build(features, source.shape, setting.device)
    elif len(source.shape) != 3 or min(source.shape[1:]) < 4:
        raise InputError(
            f"features: classifier needs images and {source.name} has rows of shape {list(source.shape)}",
            "use features: pca",
        )
    elif source.size is None or not source.classes or len(source.classes) < 2:
        raise ConfigError(
            f"features: classifier needs labelled rows and {source.name} has no labels of two classes",
            "give a source with labels, or use features: pca",
        )


def of_run(
    setting: Run, train: Batch, held_out: Batch, n: int, seed: int
) -> tuple[str | FeatureSpace, tuple[str, ...]]:
    """The study's kind of features or its network, and what a reader must know of it.

    Args:
        setting: of the run.
        train: real rows of the reference.
        held_out: real rows that everything is compared with.
        n: rows of the floor.
        seed: of the reference's split.
    """
    features = setting.study.measures.features
    if isinstance(features, str) and features in PLAIN:
        return features, ()
    config = classifier_of(features)
    notes: tuple[str, ...] = ()
    if config is None:
        found = network_kinds.build(features, setting.study.source.shape, setting.device)
    else:
        model, note = _trained(setting, config, train, held_out, n, seed)
        notes = (note,)
        found = penultimate(model, setting.device)
    folder = setting.folder
    if folder is None or not os.access(folder, os.W_OK):
        return found, notes
    return CachedNetwork(found, FeatureCache(folder / "features" / "cache", DISK_BYTES)), notes


def penultimate(model: Classifier, device: str) -> FeatureNetwork:
    """The features of a classifier."""
    return FeatureNetwork.from_module(_Penultimate(model), model.shape, name="classifier", device=device, batch=512)


class _Penultimate(torch.nn.Module):
    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.net = model.net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.features(x)


def _trained(
    setting: Run, config: ConvClassifier, train: Batch, held_out: Batch, n: int, seed: int
) -> tuple[Classifier, str]:
    """The run's classifier, from its folder or trained now, and a note on it."""
    source, folder = setting.study.source, setting.folder
    place = None if folder is None else folder / "features"
    if place is not None and (stored := _stored(place, config, source.shape)) is not None:
        return stored
    rows, apart = _labelled(setting, train, held_out, n, seed)
    assert rows.y is not None
    assert held_out.y is not None
    model = config.fit(
        rows.x,
        rows.y,
        classes=len(source.classes or ()),
        seed=seeding.stream_seed(setting.study.seed, "features", "classifier"),
        device=setting.device,
    )
    right = int((model.predict(held_out.x) == held_out.y).sum())
    accuracy = proportion(right, len(held_out), "accuracy on held-out real rows")
    on = "that no generation trains on" if apart else "that generations may train on too: too few others are left"
    note = (
        f"features: a classifier trained on {len(rows)} real rows {on}; accuracy {accuracy} on {len(held_out)} "
        "held-out rows"
    )
    if place is not None:
        make_folder(place)
        digest = write_tensors(place / _FILES[0], model.state())
        document = {
            "config": config.config(),
            "trained_on": len(rows),
            "apart_from_generations": apart,
            "accuracy": accuracy.to_json(),
            "note": note,
        }
        write_json(place / _FILES[1], {"weights": digest, **document})
    return model, note


def _stored(place: Path, config: ConvClassifier, shape: tuple[int, ...]) -> tuple[Classifier, str] | None:
    """The classifier of a run that had trained one.

    Raises:
        CorruptFileError: its files are damaged or were changed.
    """
    weights, description = (place / name for name in _FILES)
    if not description.is_file():
        return None  # killed before it was finished: it is trained again
    try:
        document = _description(description)
        known, trained_on, note = document["weights"], int(document["trained_on"]), str(document["note"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CorruptFileError(f"{description} is damaged ({error})", "restore it, or start a new run") from error
    if not weights.is_file() or file_sha256(weights) != known:
        raise CorruptFileError(
            f"{weights} is missing, truncated or was changed (its hash differs)", "restore it, or start a new run"
        )
    return config.load(read_tensors(weights)[0], shape, trained_on), note


def _description(path: Path) -> dict[str, Any]:
    """What is known of the stored classifier; 0.1 kept the hash of its weights where the document's own is now."""
    document = json.loads(read_bytes(path))
    return read_json(path) if "weights" in document else {**document, "weights": document["sha256"]}


def _labelled(setting: Run, train: Batch, held_out: Batch, n: int, seed: int) -> tuple[Batch, bool]:
    """Labelled real rows for the classifier, and whether no generation trains on any of them."""
    source = setting.study.source
    used, wanted, left = _left(setting)
    if left >= wanted:
        free = setting.supply.take(min(left, MOST + len(train)), used).batch
        taken = {hash_rows(row) for batch in (train, held_out) for row in batch.x}
        keep = torch.tensor([hash_rows(row) not in taken for row in free.x])
        if int(keep.sum()) >= wanted and free.y is not None and _several(free.y[keep]):
            return Batch(free.x[keep][:MOST], free.y[keep][:MOST]), True
    fit_rows, _ = split(len(train), n, seed)
    if train.y is None or not _several(train.y[fit_rows]):
        raise InputError(
            f"features: classifier needs rows of two classes and {source.name} has too few", "use features: pca"
        )
    return Batch(train.x[fit_rows], train.y[fit_rows]), False


def learned_rows(setting: Run) -> int:
    """Labelled rows that no generation trains on, about as many as a classifier gets; 0 where they are too few."""
    _, wanted, left = _left(setting)
    return min(left, MOST) if left >= wanted else 0


def _left(setting: Run) -> tuple[int, int, int]:
    """Rows that generations train on, rows that a classifier wants at least, and rows that are left for it."""
    source, used = setting.study.source, setting.fresh_bound()
    return used, max(FEWEST, 20 * len(source.classes or ())), (source.size or 0) - used


def _several(labels: Tensor) -> bool:
    return len(labels) > 1 and bool((labels != labels[0]).any())
