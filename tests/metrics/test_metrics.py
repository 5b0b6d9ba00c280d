"""Flat numbers of generations, and drift in a training loop: against the audit itself, split, on two ranks, refused."""

import math

import numpy as np
import pytest
import torch
from torch import multiprocessing

import driftlaw as dl
from driftlaw.metrics import DriftMetric, flatten

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(3000, 4))
MADE = RNG.normal(0.2, 1, size=(1200, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "a"
    study = dl.Study(
        source=dl.GaussianMixture.paper(),
        estimator=dl.KDE(0.6),
        policy=0.5,
        samples=100,
        generations=2,
        measures={"density_samples": 200, "path_samples": 200},
    )
    return list(dl.run(study, out=folder))


def test_the_module_is_the_function(run):
    found = dl.metrics(run[-1])
    assert found == flatten(run[-1])
    assert dl.metrics.DriftMetric is DriftMetric


def test_numbers_of_a_record_by_name(run):
    record, found = run[-1], dl.metrics(run[-1])
    kl = record.divergence["kl"]
    assert [found[f"divergence/kl{end}"] for end in ("", "/low", "/high")] == [kl.value, kl.low, kl.high]
    assert found["index"] == 2.0
    assert found["path/energy_ideal"] == record.path.energy_ideal.value
    assert all(isinstance(v, float) and not math.isnan(v) for v in found.values())
    refused = [k for k, e in record.divergence.items() if e.is_refused]
    assert not any(f"divergence/{k}" in found for k in refused)


def test_numbers_of_an_audited_generation():
    found = dl.metrics(dl.audit(REAL, [MADE], features="identity").generations[0])
    assert found["drift/low"] < found["drift"] < found["drift/high"]
    assert "p_value" in found


@pytest.mark.parametrize("wrong", [3, {"a": 1.0}, dl.KDE(0.1), None])
def test_what_is_no_generation_is_refused(wrong):
    with pytest.raises(dl.InputError, match="not a generation"):
        dl.metrics(wrong)


def test_drift_is_that_of_the_audit_however_rows_arrive():
    metric = DriftMetric(REAL, "identity")
    whole = dl.audit(metric.real, [dl.sketch(MADE, like=metric.real)]).generations[0]
    for part in np.array_split(MADE, 7):
        metric.update(torch.from_numpy(part))
    found = metric.compute()
    assert found["n"] == len(MADE)
    assert float(found["drift"]) == pytest.approx(whole.drift.value, rel=1e-9)
    assert float(found["drift_low"]) == pytest.approx(whole.drift.low, rel=1e-6)
    metric.reset()
    with pytest.raises(dl.InputError, match="at least 4"):
        metric.compute()


def test_forward_gives_the_batch_and_keeps_it():
    metric = DriftMetric(dl.sketch(REAL, "identity"))
    alone = metric(torch.from_numpy(MADE[:600]))
    assert alone["n"] == 600
    assert metric(torch.from_numpy(MADE[600:]))["n"] == 600
    assert metric.compute()["n"] == 1200


def test_bad_rows_change_nothing():
    metric = DriftMetric(REAL, "identity")
    metric.update(torch.from_numpy(MADE))
    before = metric.compute()
    for bad in (torch.zeros(5, 3), torch.full((5, 4), math.nan)):
        with pytest.raises(dl.InputError):
            metric.update(bad)
    assert metric.compute() == before


def rank(index, address, queue):
    torch.distributed.init_process_group("gloo", init_method=address, rank=index, world_size=2)
    metric = DriftMetric(dl.sketch(REAL, "identity"))
    if index == 0:  # uneven: one rank has seen nothing of the second half
        metric.update(torch.from_numpy(MADE[:800]))
        metric.update(torch.from_numpy(MADE[800:1000]))
    else:
        metric.update(torch.from_numpy(MADE[1000:]))
    found = metric.compute()
    queue.put((index, float(found["drift"]), float(found["n"])))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_ranks_merge(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=rank, args=(i, f"file://{tmp_path}/meet", queue)) for i in range(2)]
    for w in workers:
        w.start()
    found = sorted(queue.get(timeout=120) for _ in workers)
    for w in workers:
        w.join(60)
    metric = DriftMetric(dl.sketch(REAL, "identity"))
    metric.update(torch.from_numpy(MADE))
    one = float(metric.compute()["drift"])
    assert [f[2] for f in found] == [1200, 1200]
    assert found[0][1] == found[1][1] == pytest.approx(one, rel=1e-9)
