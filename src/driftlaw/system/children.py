"""Programs that end when we end, with everything that they started, also after kill -9.

A program of a user is started by a small supervisor, which leads its session and inherits its orphans
(``PR_SET_CHILD_SUBREAPER``). The supervisor waits for the program, or for the end of a pipe whose other end only this
process holds: the kernel closes it however we die. Then it kills every process that descends from it. Workers that are
ours ask the kernel to be killed when their parent dies (``PR_SET_PDEATHSIG``).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import BinaryIO

_PDEATHSIG, _SUBREAPER = 1, 36


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def end_with_parent(parent: int | None = None) -> None:
    """Ask to be killed when the thread that started this process is gone.

    Args:
        parent: process that started this one; if it is gone already, this process ends now.
    """
    _prctl(_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


class Supervised:
    """A program under a supervisor.

    Args:
        words: the command.
        log: where its output and errors go.

    Raises:
        OSError: there is no such program, or it is not executable.
    """

    def __init__(self, words: Sequence[str], log: BinaryIO) -> None:
        ours, self._alive = os.pipe()
        failed, told = os.pipe()
        try:
            command = [sys.executable, "-I", "-S", __file__, str(ours), str(told), *words]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(ours, told),
            )
        except BaseException:
            os.close(self._alive)
            os.close(failed)
            raise
        finally:
            os.close(ours)
            os.close(told)
        with os.fdopen(failed, "rb") as f:
            number = f.read()
        if number:
            self.end()
            raise OSError(int(number), os.strerror(int(number)))

    def wait(self, timeout: float | None = None) -> int:
        """Exit code; negative for a signal.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        code = self._process.wait(timeout)
        return code if code < 128 or code > 192 else 128 - code

    def end(self) -> None:
        """Kill it and everything that it started; does nothing when all is over."""
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _children(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - nothing of the project is imported by the supervisor
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{int(name)}/stat") as f:  # noqa: PTH123
            if int(f.read().rpartition(")")[2].split()[1]) == pid:
                found.append(int(name))
    return found


def _kill_descendants() -> None:
    """Kill what descends from this process until nothing does; orphans come to us, because we are a subreaper."""
    for _ in range(1000):
        try:
            alive = _children(os.getpid())
        except OSError:
            return
        if not alive:
            return
        todo = list(alive)
        while todo:
            pid = todo.pop()
            with contextlib.suppress(OSError):
                todo += _children(pid)
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for pid in alive:
            with contextlib.suppress(OSError):
                os.waitpid(pid, 0)


def _supervise(alive: int, told: int, words: list[str]) -> int:
    import select

    _prctl(_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    mine = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        end_with_parent(mine)
        os.close(alive)
        os.set_inheritable(told, False)
        try:
            os.execvp(words[0], words)
        except OSError as error:
            os.write(told, str(error.errno).encode())
        os._exit(127)
    os.close(told)
    code = -signal.SIGKILL
    while True:
        ready, _, _ = select.select([alive, reading], [], [])
        if alive in ready:
            break
        os.read(reading, 4096)
        try:
            done, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            break
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
    _kill_descendants()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(_supervise(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
