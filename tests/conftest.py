"""Shared by all tests: one thread per process keeps results identical whatever runs beside them."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _global_random_state_untouched():
    """Nothing in driftlaw reads or writes the global random state."""
    import numpy as np

    before = torch.get_rng_state()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(before, torch.get_rng_state()), "torch's global random state was used"
    assert (state == np.random.get_state()[1]).all(), "numpy's global random state was used"  # noqa: NPY002
