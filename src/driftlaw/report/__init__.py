"""The report: one self-contained HTML page of a run or a sweep. It reads records and recomputes nothing.

Plotting code is loaded when a page is built, not when this package is imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from driftlaw.errors import InputError

if TYPE_CHECKING:
    from driftlaw.auditing.record import Audit
    from driftlaw.auditing.verdict.verdict import Verdict
    from driftlaw.loop.history import History
    from driftlaw.planning.plan import Plan

__all__ = [
    "build",
    "build_audit",
    "build_sweep",
    "verdict_of",
    "write",
    "write_audit",
    "write_plan",
    "write_report",
    "write_sweep",
]


def build(history: History) -> str:
    """The page of one run as HTML: one file, no script needed to read it, nothing loaded from anywhere.

    Args:
        history: a finished or growing run.

    Raises:
        InputError: no generation is finished yet.
        CorruptFileError: a stored file is damaged; the message names it.
    """
    from driftlaw.report import page

    return page.build(history)


def verdict_of(history: History) -> Verdict:
    """The word for a run's last generation, judged against real data, with its reasons and what to do next.

    Raises:
        InputError: no generation is finished yet.
    """
    from driftlaw.report.verdict import verdict

    return verdict(history)


def write(history: History, path: str | os.PathLike[str] | None = None) -> Path:
    """Write the page of one run, whole or not at all.

    Args:
        history: a finished or growing run.
        path: the file; ``report.html`` in the run directory by default.

    Returns:
        Where it lies.

    Raises:
        InputError: no generation is finished yet.
        CorruptFileError: a stored file is damaged; the message names it.
        StorageError: the file cannot be written.
    """
    from driftlaw.report import page

    return page.save(page.build(history), history.directory.path / "report.html" if path is None else Path(path))


def build_sweep(histories: Mapping[str, History], links: Mapping[str, str] | None = None) -> str:
    """The combined page of a sweep: drift curves by policy, mean and spread over seeds.

    Args:
        histories: runs by label. Runs whose policies are equal are taken as repetitions over seeds.
        links: where each run's own report lies, relative to this page.

    Raises:
        InputError: no run has a finished generation.
    """
    from driftlaw.report import sweep

    return sweep.build(histories, links or {})


def write_sweep(histories: Mapping[str, History], path: str | os.PathLike[str]) -> Path:
    """Write the combined page of a sweep with links to those reports of its runs that exist.

    Args:
        histories: runs by label.
        path: the file, or an existing folder that ``report.html`` goes into.

    Returns:
        Where it lies.

    Raises:
        InputError: no run has a finished generation.
        StorageError: the file cannot be written.
    """
    from driftlaw.report import page, sweep

    target = Path(path) / "report.html" if Path(path).is_dir() else Path(path)
    reports = {label: h.directory.path / "report.html" for label, h in histories.items()}
    links = {k: Path(os.path.relpath(p, target.parent)).as_posix() for k, p in reports.items() if p.is_file()}
    return page.save(sweep.build(histories, links), target)


def build_audit(audit: Audit) -> str:
    """The page of an audit.

    Args:
        audit: just made, or read from audit.json.
    """
    from driftlaw.report import audit as pages

    return pages.build(audit)


def write_audit(audit: Audit, path: str | os.PathLike[str]) -> Path:
    """Write the page of an audit, whole or not at all; returns where it lies.

    Raises:
        StorageError: the file cannot be written.
    """
    from driftlaw.report import audit as pages
    from driftlaw.report import page

    return page.save(pages.build(audit), Path(path))


def write_plan(plan: Plan, directory: str | os.PathLike[str]) -> Path:
    """Write ``plan.html`` and ``plan.json`` of a refresh plan into a folder.

    Args:
        plan: made by ``driftlaw.plan``.
        directory: made if it is not there.

    Returns:
        Where the page lies.

    Raises:
        StorageError: not writable.
    """
    from driftlaw.report import plan as pages

    return pages.write(plan, Path(directory))


def write_report(
    what: History | Audit | Plan | Mapping[str, History], path: str | os.PathLike[str] | None = None
) -> Path:
    """Write the page of a run, an audit, a plan or a sweep; public as ``driftlaw.write_report``.

    Args:
        what: a run as ``driftlaw.load`` gives it, an audit, a plan, or the runs of a sweep by label.
        path: the file, or for a plan the folder of its page and data. By default a run's own ``report.html``, else
            ``report.html`` in the working directory (``plan`` for a plan).

    Returns:
        Where the page lies.

    Raises:
        InputError: none of these, or a run without a finished generation.
        StorageError: the file cannot be written.

    Example:
        >>> import driftlaw as dl
        >>> dl.write_report(dl.load("runs/gmm"))  # doctest: +SKIP
    """
    from driftlaw.auditing.record import Audit
    from driftlaw.loop.history import History
    from driftlaw.planning.plan import Plan

    if isinstance(what, History):
        return write(what, path)
    if isinstance(what, Audit):
        return write_audit(what, path or "report.html")
    if isinstance(what, Plan):
        return write_plan(what, path or "plan")
    if isinstance(what, Mapping):
        return write_sweep(what, path or "report.html")
    raise InputError(f"a {type(what).__name__} has no report", "give a run, an audit, a plan or the runs of a sweep")
