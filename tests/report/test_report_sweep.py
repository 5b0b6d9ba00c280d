import math
import re

import numpy as np
import pytest
import report_runs

from driftlaw import report
from driftlaw.errors import InputError
from driftlaw.estimate import Estimate
from driftlaw.report import sweep


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("sweep")
    made = {}
    for alpha in (0.9, 0.1):
        for seed in range(3):
            label = f"alpha-{alpha}/seed-{seed}"
            made[label] = report_runs.digits(
                root / label, 3, alpha=alpha, seed=seed, drift=(1 - alpha) * (1 + 0.1 * seed)
            )
    return root, made


def test_runs_with_equal_policies_are_repetitions(runs):
    groups = sweep.group_runs(runs[1])
    assert [(g.label, len(g.runs)) for g in groups] == [("α = 0.1", 3), ("α = 0.9", 3)]
    at, mean, deviation, bad = groups[0].spread("divergence", "frechet")
    values = np.array([[g.divergence["frechet"].value for g in run] for run in groups[0].runs])
    assert (at, bad) == ([1, 2, 3], 0)
    np.testing.assert_allclose(mean, values.mean(0))
    np.testing.assert_allclose(deviation, values.std(0, ddof=1))


def test_page(runs):
    root, made = runs
    report.write(made["alpha-0.1/seed-0"])
    path = report.write_sweep(made, root)
    html = path.read_text()
    assert path == root / "report.html"
    assert len(html.encode()) <= 5 * 2**20
    assert '<a href="alpha-0.1/seed-0/report.html">' in html
    assert html.count("<a href=") == 1
    assert "2 policies, up to 3 seeds each." in html
    assert "α = 0.1 (3 seeds)" in html
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_infinite_values_are_words(tmp_path):
    change = {"divergence": {"chi2": Estimate.infinite("tail test", "heavy tails"), "kl": report_runs.normal(1, 0.1)}}
    html = report.build_sweep({"a": report_runs.digits(tmp_path / "a", 2, record=change)})
    assert "2 values are infinite or unknown" in html
    assert "not finite" in html
    assert not re.search(r">[^<]*\b(nan|inf)\b", html)
    assert math.isinf(change["divergence"]["chi2"].value)


def test_runs_without_generations(tmp_path):
    empty, one = report_runs.digits(tmp_path / "a", 0), report_runs.digits(tmp_path / "b", 2)
    with pytest.raises(InputError, match="no run of this sweep"):
        report.build_sweep({"a": empty})
    html = report.build_sweep({"a": empty, "b": one})
    assert "1 of 2 runs have no finished generation" in html
    assert "No generation is finished yet." in html
