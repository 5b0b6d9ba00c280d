"""What a timing depends on besides the code; names no host, user or path."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from driftlaw.native import kernel_sum as native


def facts() -> dict[str, object]:
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return {
        "processor": models[0].split(":")[1].strip() if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "load": list(os.getloadavg()),
        "native": native.describe(build=True),
    }


def peak_resident() -> float:
    """Peak MiB of this process image; getrusage would count what the parent held when it started this process."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
