"""Sweeps on Ray, where it is installed: own parts, failures, and a cluster that RAY_ADDRESS names."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("ray")
pytestmark = pytest.mark.heavy

SCRIPT = """
import sys
import ray
import torch
import driftlaw as dl

class Threads(dl.GaussianMLE):
    def fit(self, data, context=dl.FitContext()):
        if torch.get_num_threads() != 1:
            raise RuntimeError(f"{torch.get_num_threads()} threads")
        return super().fit(data, context)

if __name__ == "__main__":
    if sys.argv[2] == "cluster":
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    study = dl.Study(source=dl.GaussianMixture([1.0], [[0.0, 0.0]], [1.0]), estimator=Threads(),
                     samples=60, generations=1, policy=0.5,
                     measures={"samples": 0, "density_samples": 100, "path_samples": 0})
    found = dl.sweep(study, sys.argv[1], alphas=[0.5], seeds=[0, 1], workers=2, engine="ray")
    print(len(found), found.failures, ray.is_initialized())
"""


@pytest.mark.parametrize("where", ["local", "cluster"])
def test_cells_run_on_ray_with_one_thread_each_and_a_quiet_stdout(tmp_path, where):
    (tmp_path / "mine.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(tmp_path / "mine.py"), str(tmp_path / "out"), where]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.stdout == f"2 {{}} {where == 'cluster'}\n", done.stderr  # a cluster that was there stays
