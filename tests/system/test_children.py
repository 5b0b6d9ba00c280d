"""Programs and what they start end with us: real processes, real kill -9; signals stop with a message."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ENV = os.environ | {"OMP_NUM_THREADS": "1"}
#: A program that starts a child, which starts a daemon of its own session, and waits.
PROGRAM = """
    import os, pathlib, subprocess, sys, time
    here = pathlib.Path(sys.argv[1])
    if len(sys.argv) == 3:
        (here / f"{sys.argv[2]}.pid").write_text(str(os.getpid()))
        time.sleep(300)
    for name in ("child", "daemon"):
        subprocess.Popen([sys.executable, __file__, str(here), name], start_new_session=name == "daemon")
    (here / "program.pid").write_text(str(os.getpid()))
    time.sleep(300)
"""


def eventually(what, seconds=60):
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.02)
    return what()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def running(tmp_path):
    """A supervised program with a child and a daemon; and the process that started it."""
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    code = f"""
        import subprocess, sys
        from driftlaw.system.children import Supervised
        with open({str(tmp_path / "log")!r}, "wb") as log:
            p = Supervised([sys.executable, {str(tmp_path / "program.py")!r}, {str(tmp_path)!r}], log)
        try:
            p.wait(float(sys.argv[1]))
        except subprocess.TimeoutExpired:
            pass
        finally:
            p.end()
    """

    def start(seconds):
        owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(seconds)], env=ENV)
        names = [tmp_path / f"{n}.pid" for n in ("program", "child", "daemon")]
        assert eventually(lambda: all(n.exists() and n.read_text() for n in names))
        return owner, [int(n.read_text()) for n in names]

    return start


@pytest.mark.parametrize("end", ["kill -9", "timeout"])
def test_children_grandchildren_and_daemons_end_with_us(running, end):
    owner, pids = running(300 if end == "kill -9" else 2)
    assert end == "timeout" or all(map(alive, pids))
    if end == "kill -9":
        owner.kill()
    owner.wait()
    assert eventually(lambda: not any(map(alive, pids))), [p for p in pids if alive(p)]


def test_exit_codes_signals_and_missing_programs_are_told(tmp_path):
    from driftlaw.system.children import Supervised

    with (tmp_path / "log").open("wb") as log:
        for words, code in ((["true"], 0), (["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -9 $$"], -9)):
            process = Supervised(words, log)
            assert process.wait(60) == code
            process.end()
        with pytest.raises(FileNotFoundError):
            Supervised(["no-such-program"], log)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_a_run_with_its_program_and_say_how_to_go_on(tmp_path, number):
    text = f"""
        source: gmm
        estimator: {{kind: command, command: ["{sys.executable}", program.py, "{tmp_path}"]}}
        policy: 0.5
        samples: 50
        generations: 1
        measures: {{samples: 0, density_samples: 200, path_samples: 0}}
    """
    (tmp_path / "program.py").write_text(
        "import os, pathlib, time\npathlib.Path('program.pid').write_text(str(os.getpid()))\ntime.sleep(300)\n"
    )
    (tmp_path / "study.yaml").write_text(textwrap.dedent(text))
    words = [sys.executable, "-m", "driftlaw", "run", "study.yaml", "--trust", "--out", "my run"]
    process = subprocess.Popen(words, env=ENV, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert eventually(lambda: (tmp_path / "program.pid").exists())
    pid = int((tmp_path / "program.pid").read_text())
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "stopped; go on with `driftlaw resume 'my run'`" in err
    assert eventually(lambda: not alive(pid))
