"""Shared by all tests: one thread per process keeps results identical whatever runs beside them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)

# The same examples every time; `make fuzz` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("fuzz", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile("repeatable")


#: Why a test is skipped, where a package of the system would let it run.
LACKS = re.compile(r"needs the system package (\S+)|absent: no C\+\+ compiler")


def pytest_terminal_summary(terminalreporter):
    """Say how many tests did not run for want of a system package, and which command installs what they need."""
    reasons = [str(report.longrepr[-1]) for report in terminalreporter.stats.get("skipped", ())]
    packages = [found[1] or "g++" for reason in reasons if (found := LACKS.search(reason))]
    if packages:
        terminalreporter.section("skipped for want of system packages", sep="-")
        terminalreporter.line(
            f"{len(packages)} tests need {', '.join(sorted(set(packages)))}, missing here. To install: make test-deps"
        )


@pytest.fixture(autouse=True)
def _global_random_state_untouched():
    """Nothing in driftlaw reads or writes the global random state."""
    import numpy as np

    before = torch.get_rng_state()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(before, torch.get_rng_state()), "torch's global random state was used"
    assert (state == np.random.get_state()[1]).all(), "numpy's global random state was used"  # noqa: NPY002


@pytest.fixture
def small_disk(tmp_path):
    """Mount a real file system of a given size: ``small_disk("64k") -> Path``; skips where one cannot be mounted."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("mounting a small file system needs root on Linux")
    mounted = []

    def mount(size: str) -> Path:
        folder = tmp_path / "small"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this sandbox cannot mount")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
