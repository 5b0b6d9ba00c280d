"""What becomes of an input: a command line or a reader runs in this process under a time limit, and is classified."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from driftlaw.errors import DriftlawError

#: Seconds of processor time after which an input counts as hanging.
LIMIT = 60.0


class HangError(BaseException):
    """It took too long; no library takes this for an error of its own."""


def _hang(*_: object) -> None:
    raise HangError


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Inside, more than :data:`LIMIT` seconds of processor time are an error; a busy machine is none."""
    before = signal.signal(signal.SIGVTALRM, _hang)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def command(words: list[str]) -> str:
    """Outcome of a command line: "exit 0", "exit 1", "exit 2", "exit 3"; anything else says what happened."""
    from driftlaw.cli import app, console

    before, sys.argv = sys.argv, ["driftlaw", *words]
    printed = io.StringIO()
    files = console.out._file, console.err._file  # `file` would be today's stdout, for ever
    console.out.file = console.err.file = printed
    try:
        with limited(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            warnings.simplefilter("ignore")
            app.main()
        code: object = 0
    except SystemExit as end:
        code = end.code if end.code is not None else 0
    except HangError:
        return "hang"
    finally:
        sys.argv = before
        console.out._file, console.err._file = files
    return f"exit {code}" if code in (0, 1, 2, 3) else f"exit {code}: {_logged(printed.getvalue())}"


def _logged(text: str) -> str:
    for word in text.split():
        path = Path(word.rstrip("."))
        if path.suffix == ".log" and path.is_file():
            lines = path.read_text().strip().splitlines()
            path.unlink()
            return " | ".join(lines[-7:])
    return text[-500:]


def reading(read: Callable[[], object]) -> tuple[str, object]:
    """Outcome of a reader, "read" or "refused", and what it gave; anything else says what happened."""
    start = time.process_time()
    try:
        with limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return "read", read()
    except DriftlawError:
        return "refused", None
    except HangError:
        return "hang", None
    except Exception as error:
        import traceback

        frames = [f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)]
        return f"{type(error).__name__}: {error} at {' '.join(frames[-6:])}"[:600], time.process_time() - start
