"""What a fork has from its parent: generations 1..K, whole, and who learned them.

``fork.json`` beside the manifest names the parent (relative to the fork), the hash of its journal up to generation K
and the configurations of the estimators that learned the shared generations. It carries this user's signature where it
names code, as config.yaml does. Files of shared generations are hard links to the parent's, or copies where the file
system has none, so that the parent may go.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driftlaw import files
from driftlaw.errors import CorruptFileError
from driftlaw.kinds import ESTIMATORS
from driftlaw.learn.estimator import Estimator
from driftlaw.loop.record import Generation
from driftlaw.loop.store import JOURNAL, RunDirectory, read_json, write_json
from driftlaw.loop.study import Study
from driftlaw.loop.trust import SIGNATURE, sign
from driftlaw.loop.trust import check as check_trust

#: The file in a fork's directory.
FORK = "fork.json"
_FIX = "restore it from the parent, or fork again"


@dataclass(frozen=True)
class Parent:
    """Where a fork comes from.

    Args:
        path: of the parent, relative to the fork; it need not exist any more.
        journal_sha256: hash of the parent's journal up to generation `at`, which is also the fork's.
        at: K, the last shared generation.
        estimators: who learned the shared generations, ``(last generation, configuration)`` in order.
    """

    path: str
    journal_sha256: str
    at: int
    estimators: tuple[tuple[int, Mapping[str, Any]], ...]


@dataclass(frozen=True)
class Shared:
    """Generations 1..K that a run has from another one; empty for a run of its own.

    Args:
        records: of these generations.
        estimators: who learned each of them.
    """

    records: tuple[Generation, ...] = ()
    estimators: tuple[Estimator, ...] = ()

    def __len__(self) -> int:
        return len(self.records)


def write(directory: RunDirectory, parent: Parent) -> None:
    """Write ``fork.json``, with this user's signature where it names code."""
    document = _document(parent)
    signature = sign(document)
    write_json(directory.path / FORK, document if signature is None else {**document, SIGNATURE: signature})


def _document(parent: Parent) -> dict[str, Any]:
    listed = [{"through": last, "estimator": dict(config)} for last, config in parent.estimators]
    return {"format": 1, **vars(parent), "estimators": listed}


def parent_of(directory: RunDirectory) -> Parent | None:
    """Where a run was forked from; None for a run of its own.

    Raises:
        CorruptFileError: ``fork.json`` is damaged.
    """
    return None if (found := _read(directory)) is None else found[0]


def _read(directory: RunDirectory) -> tuple[Parent, Any] | None:
    path = directory.path / FORK
    if not os.path.lexists(path):
        return None
    document = read_json(path)
    try:
        listed = tuple((int(e["through"]), dict(e["estimator"])) for e in document["estimators"])
        parent = Parent(str(document["path"]), str(document["journal_sha256"]), int(document["at"]), listed)
        if not listed or parent.at < 1 or listed[-1][0] != parent.at:
            raise ValueError("its generations do not add up")
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptFileError(f"{path} is damaged ({error})", _FIX) from error
    return parent, document.get(SIGNATURE)


def check(directory: RunDirectory) -> None:
    """Check that the journal of a fork begins as its parent's did.

    Raises:
        CorruptFileError: it does not, or ``fork.json`` is damaged.
    """
    parent = parent_of(directory)
    if parent is not None and journal_sha256(directory, parent.at) != parent.journal_sha256:
        raise CorruptFileError(f"{directory.path / JOURNAL} does not begin as its parent's journal did", _FIX)


def journal_sha256(directory: RunDirectory, generations: int) -> str:
    """Hash of the first lines of a journal."""
    return files.sha256(b"".join(files.read_bytes(directory.path / JOURNAL).splitlines(keepends=True)[:generations]))


def shared_with_parent(directory: RunDirectory, study: Study, trust: bool = False) -> Shared:
    """The generations that a run has from its parent, their learners built.

    Args:
        directory: the run.
        study: its study, whose estimator is taken where it is the one that learned a shared generation.
        trust: whether code that ``fork.json`` names may be used although another user made the fork.

    Raises:
        CorruptFileError: ``fork.json`` or the shared part of the journal is damaged.
        TrustError: it names code, and is neither trusted nor signed by this user.
    """
    found = _read(directory)
    if found is None:
        return Shared()
    parent, signature = found
    check(directory)
    own = ESTIMATORS.describe(study.estimator)
    if any(config != own for _, config in parent.estimators):
        check_trust(_document(parent), directory.path / FORK, trust=trust, signature=signature)
    makers: list[Estimator] = []
    for last, config in parent.estimators:
        maker = study.estimator if config == own else ESTIMATORS.build(config)
        makers += [maker] * (last - len(makers))
    return Shared(tuple(directory.records()[: parent.at]), tuple(makers))
