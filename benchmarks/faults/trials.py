"""Trials of one case: a fork of this process runs the command, a call fails, the documented commands go on.

This process has loaded everything and started no thread, so a fork is a fresh ``driftlaw`` without the seconds of its
imports. It must run under the interposed library, see :mod:`benchmarks.faults.control`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.cases import TIMES, Case
from benchmarks.faults.control import COUNT, MODES, Control

#: Seconds after which a command counts as hanging.
LIMIT = 120.0


class Runner:
    """Runs commands of one case in folders of their own.

    Args:
        folder: of the case.
        control: of the library.
    """

    def __init__(self, folder: Path, control: Control) -> None:
        self.folder, self.control = folder, control
        (folder / "inputs").mkdir(parents=True)

    def place(self, name: str) -> Path:
        """A new place for a trial: a working folder, temporary files, this user's secret."""
        place = self.folder / "trials" / name
        for inner in ("work", "tmp", "config"):
            (place / inner).mkdir(parents=True)
        (place / "config").chmod(0o700)
        return place

    def command(self, place: Path, words: tuple[str, ...], mode: int | None = None, at: int = 0) -> tuple[int, str]:
        """Exit code of a command (negative for a signal, -1000 when it hangs) and what it printed."""
        log, loaded = self.folder / "log", self.folder / "modules"
        pid = os.fork()
        if pid == 0:
            _child(place, words, log, loaded, lambda: mode is None or self.control.arm(mode, place, at))
        code, end = None, time.monotonic() + LIMIT
        while code is None and time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if done else None
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        if code is None:
            os.waitpid(pid, 0)
        self.control.disarm()
        return -1000 if code is None else code, log.read_text(errors="replace")


def _child(place: Path, words: tuple[str, ...], log: Path, loaded: Path, arm: object) -> None:
    """The command, in the fork; does not return."""
    code = 99
    try:
        os.setsid()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(descriptor, number)
        os.chdir(place / "work")
        os.environ |= {"TMPDIR": str(place / "tmp"), "XDG_CONFIG_HOME": str(place / "config")}
        tempfile.tempdir = None
        context = multiprocessing.get_context("fork")  # workers of a sweep inherit what is loaded
        multiprocessing.get_context = lambda method=None: context  # type: ignore[assignment]
        _draw_nothing()
        sys.argv = ["driftlaw", *words]
        from driftlaw.cli.app import main

        arm()  # type: ignore[operator]
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        with contextlib.suppress(OSError):
            loaded.write_text("\n".join(sorted(sys.modules)))
        os._exit(code)


def _draw_nothing() -> None:
    """Pages are written without their figures, which take ten times as long as everything else."""
    from driftlaw.report import audit, page, sweep

    for module in (audit, page, sweep):
        module.build = lambda *_: "<!doctype html>"  # type: ignore[assignment]


def content(place: Path) -> dict[str, str]:
    """Hash of every file that must not depend on an interruption."""
    found = {}
    for path in sorted((place / "work").rglob("*")):
        if path.is_file() and path.name not in TIMES and not path.name.endswith("-tmp"):
            name = str(path.relative_to(place / "work"))
            lines = path.read_bytes().splitlines(keepends=True)
            if path.name == "config.yaml":  # its signature depends on this user's secret, which each trial makes anew
                lines = [line for line in lines if not line.startswith(b"#")]
            found[name] = hashlib.sha256(b"".join(lines)).hexdigest()
    return found


def litter(place: Path) -> list[str]:
    """Temporary files that were left."""
    work = [p for p in (place / "work").rglob("*") if p.name.endswith("-tmp") or p.name.startswith("attempt-")]
    return [str(p.relative_to(place)) for p in work]


def trials(case: Case, folder: Path, control: Control, every: int = 1) -> dict[str, object]:
    """All trials of a case.

    Args:
        case: the command.
        folder: new; for all files.
        control: of the library.
        every: fail only each so-many-th call.
    """
    runner = Runner(folder, control)
    case.prepare(folder / "inputs")
    whole = runner.place("whole")
    code, text = runner.command(whole, case.start)
    if code:
        sys.exit(f"{case.name} fails by itself:\n{text}")
    for name in (folder / "modules").read_text().split():
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    counted = runner.place("counted")
    runner.command(counted, case.start, COUNT)
    calls, expected = control.seen[0], content(whole)
    if content(counted) != expected:
        sys.exit(f"{case.name} gives other files each time: {_differences(expected, content(counted))}")
    start, outcomes, faults = time.monotonic(), dict[str, Counter[str]](), []
    for mode in MODES:
        outcomes[mode] = Counter()
        for at in range(1, calls + 1, every):
            name = f"{mode}-{at}".replace(" ", "-")
            outcome, detail = _trial(runner, case, runner.place(name), mode, at, expected)
            outcomes[mode][outcome] += 1
            if detail:
                faults.append({"mode": mode, "call": at, "of": calls, "outcome": outcome, "detail": detail})
                print(f"{case.name} {mode} {at}/{calls}: {outcome}: {detail}", file=sys.stderr, flush=True)
            else:
                shutil.rmtree(folder / "trials" / name)
    return {
        "case": case.name,
        "calls": calls,
        "outcomes": {mode: dict(count) for mode, count in outcomes.items()},
        "faults": faults,
        "seconds": round(time.monotonic() - start, 1),
    }


def _trial(runner: Runner, case: Case, place: Path, mode: str, at: int, expected: dict[str, str]) -> tuple[str, str]:
    """Outcome of one trial, and what was wrong with it."""
    code, text = runner.command(place, case.start, MODES[mode], at)
    call = runner.control.seen[1]
    if code == -1000:
        return "hang", f"at {call}"
    if code not in ({0, 2} if mode != "kill" else {0, 2, -signal.SIGKILL}):
        return "traceback", f"at {call}, exit {code}: {_last(text)}"
    said = []
    for words in case.go_on:
        again, text = runner.command(place, words)
        said.append(f"{' '.join(words[:2])}: exit {again}: {_last(text)}")
        if again in (70, 1, -1000):
            return "traceback" if again != -1000 else "hang", f"at {call}; {said[-1]}"
        if again == 0:
            break
    else:
        return "stuck", f"at {call}, exit {code}; {'; '.join(said)}"
    found = content(place)
    if found != expected:
        return "different", f"at {call}; {_differences(expected, found)}"
    if left := litter(place):
        return "litter", f"at {call}; {', '.join(left)}"
    if not call:
        return "never came", ""
    return ("carried on, same" if code == 0 else "stopped, same"), ""


def _last(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-3:])[:600]


def _differences(expected: dict[str, str], found: dict[str, str]) -> str:
    return ", ".join(sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k)))


def all_trials(cases: list[Case], folder: Path, control: Control, every: int) -> Iterator[dict[str, object]]:
    """Case by case."""
    for case in cases:
        yield trials(case, folder / case.name, control, every)
