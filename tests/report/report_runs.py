"""Plausible run directories for the tests of the report, made without running a study."""

import json
import math

import numpy as np
import yaml
from sklearn.datasets import load_digits

from driftlaw.analysis.report import Accumulation, BoundsReport, Statement
from driftlaw.estimate import Estimate
from driftlaw.loop.history import History, load
from driftlaw.loop.record import Generation, Lineage
from driftlaw.loop.store import RunDirectory, write_array, write_text
from driftlaw.theory import FixedFraction, bounds, classify, propagator

MANIFEST = {"driftlaw": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "threads": 1, "device": "cpu", "seed": 0,
            "classes": [str(k) for k in range(10)]}  # fmt: skip
MANIFEST |= {"command": "driftlaw run digits --alpha 0.1", "created": "2026-01-01T00:00:00+00:00"}


def normal(value, stderr, method="Monte Carlo", n=1000, warnings=()):
    return Estimate.normal(value, stderr, n, method, warnings)


def directory(path, config, arrays, records, labels=None, timings=()):
    run = RunDirectory(path)
    run.create(yaml.safe_dump(config, sort_keys=False), MANIFEST)
    for index, x in enumerate(arrays):
        run.folder(index).mkdir(parents=True)
        write_array(run.folder(index) / "samples.npy", x.astype(np.float32))
    if labels is not None:
        write_array(run.folder(0) / "labels.npy", labels.astype(np.int64))
    for record in records:
        run.append(record)
    for index, timing in enumerate(timings, start=1):
        run.folder(index).mkdir(parents=True, exist_ok=True)
        write_text(run.folder(index) / "timing.json", json.dumps(timing))
    return load(path)


def digits(path, generations=5, alpha=0.1, seed=0, drift=1.0, name="digits", real_rows=True, **changes) -> History:
    """An image study whose samples blur and whose classes die out; `drift` 0 keeps it on the floor."""
    rng = np.random.default_rng(seed)
    data = load_digits()
    order = rng.permutation(len(data.images))[:400]
    real = (data.images[order] / 8.0 - 1)[:, None]
    arrays, records = [real], []
    for n in range(1, generations + 1):
        x = real[rng.permutation(400)] * (1 - 0.06 * n * drift) + 0.05 * n * drift * rng.normal(size=real.shape)
        arrays.append(np.clip(x, -1, 1))
        shares = np.full(10, 0.1) + drift * 0.018 * n * np.linspace(1, -1, 10)
        shares = np.clip(shares, 0.001, None) / np.clip(shares, 0.001, None).sum()
        entropy = float(-(shares * np.log(shares)).sum())
        wave = 0.02 * math.sin(n)
        divergence = {
            "chi2_lower": normal(drift * 0.5 * n**1.2 + wave, 0.05, "Mahalanobis U-statistic, 32 PCA features"),
            "mmd2": normal(drift * 0.01 * n, 0.001, "unbiased, RBF kernel"),
            "frechet": normal(1.0 + drift * 2.5 * n + wave, 0.1, "Gaussian fit", 800, ("biased at n = 800",)),
            "precision": normal(0.8 - 0.1 * drift * n, 0.02, "k = 5 neighbours"),
            "recall": normal(0.8 - 0.12 * drift * n, 0.02, "k = 5 neighbours"),
            "density": normal(1.0 - 0.05 * drift * n, 0.04, "k = 5 neighbours"),
            "coverage": normal(0.9 - 0.1 * drift * n, 0.02, "k = 5 neighbours"),
        }
        floor = {
            "chi2_lower": normal(0.0, 0.05), "mmd2": normal(0.0, 0.001), "frechet": normal(1.0, 0.1),
            "precision": normal(0.8, 0.02), "recall": normal(0.8, 0.02), "density": normal(1.0, 0.04),
            "coverage": normal(0.9, 0.02),
        }  # fmt: skip
        modes = {str(k): normal(float(s), 0.01, "classifier") for k, s in enumerate(shares)}
        modes["entropy"] = normal(entropy, 0.01, "plug-in entropy with Miller-Madow correction")
        real_modes = {str(k): normal(0.1, 0.01, "classifier", 400) for k in range(10)}
        real_modes["entropy"] = normal(math.log(10), 0.01, "plug-in entropy with Miller-Madow correction")
        real_count = 800 if n == 1 else round(800 * alpha)
        lineage = Lineage(real_count, {} if n == 1 else {n - 1: 800 - real_count}, real_count)
        record = {
            "index": n, "alpha": lineage.real / 800, "fresh": alpha,
            "mixing": tuple([0.0] * (n - 1) + [1 - alpha]), "lineage": lineage, "samples": 800,
            "divergence": divergence, "floor": floor, "modes": modes, "real_modes": real_modes,
            "moments": {"second_moment": normal(20 - drift * n, 0.1),
                        "second_moment_drift": normal(-0.04 * drift * n, 0.01)},
            "training": {"loss": 0.3 - 0.01 * n, "held_out_loss": 0.32 + 0.01 * n, "steps": 2000.0},
            "warnings": ("held-out rows are few",) if n > 2 else (),
        }  # fmt: skip
        records.append(Generation(**{**record, **changes.get("record", {})}))
    config = {
        "name": name,
        "source": {"kind": "digits"},
        "estimator": {"kind": "denoiser", "steps": 2000},
    }
    config |= {"policy": {"kind": "fixed", "alpha": alpha}, "samples": 800, "generations": generations, "seed": seed}
    timing = [{"training": 12.0, "sampling": 1.2, "peak_memory_mib": 812.0 + n} for n in range(generations)]
    kept = arrays if real_rows else []
    return directory(path, config, kept, records, data.target[order] if real_rows else None, timing)


def path_measures(n, refused):
    """Whatever container the record has for them, all of them filled."""
    names = "energy_learned kl kl_reverse tv chi2 kl_initial kl_initial_reverse kl_standard"
    values = {name: normal(0.4 / n, 0.01) for name in names.split()}
    values |= {"energy_ideal": normal(1.81 / n, 0.02), "observability": normal(1.0, 0.01) if n > 1 else refused}
    return Generation.__dataclass_fields__["path"].default_factory(**values)


def gmm(path, generations=20, seed=0) -> History:
    """A vector study with densities: infinite chi2, a refused estimate, one-step measures and path measures."""
    rng = np.random.default_rng(seed)
    centres = np.zeros((5, 10))
    centres[1:, :2] = [(4, 4), (4, -4), (-4, 4), (-4, -4)]
    arrays, records = [], []
    for n in range(generations + 1):
        x = centres[rng.integers(0, 5, 500)] + 0.6 * np.sqrt(1 + n) * rng.normal(size=(500, 10))
        arrays.append(x)
        if n == 0:
            continue
        infinite = Estimate.infinite("exact tail test", "the tails of p_hat are too heavy for p")
        refused = Estimate.refused("ratio", "the error energy is zero")
        shares = np.array([0.2 - 0.004 * n, *[0.2 + 0.001 * n] * 4])
        modes = {f"mode {k}": normal(float(s), 0.004) for k, s in enumerate(shares)}
        modes["entropy"] = normal(float(-(shares * np.log(shares)).sum()), 0.003)
        records.append(
            Generation(
                index=n, alpha=0.5 if n > 1 else 1.0, fresh=0.5, mixing=tuple([0.0] * (n - 1) + [0.5]),
                lineage=Lineage(500, {}, 500) if n == 1 else Lineage(250, {n - 1: 250}, 250), samples=500,
                divergence={
                    "kl": normal(0.4 * math.log1p(n), 0.02), "kl_reverse": normal(0.5 * math.log1p(n), 0.03),
                    "tv": normal(0.25 * math.log1p(n) / 2, 0.01), "hellinger2": normal(0.1 * math.log1p(n), 0.01),
                    "chi2": infinite, "chi2_mix": normal(0.1 + 0.02 * math.log1p(n), 0.004),
                },
                one_step={"kl": normal(1.4 / n, 0.02), "chi2": infinite if n == 1 else normal(2 / n, 0.1)},
                moments={"second_moment": normal(29.2 * (1 + 0.012 * n), 0.2),
                         "second_moment_drift": normal(0.012 * n, 0.004)},
                modes=modes,
                path=path_measures(n, refused),
                warnings=("chi2: the tails of p_hat are too heavy for p",),
            )
        )  # fmt: skip
    config = {"name": "gmm", "source": {"kind": "gmm"}, "estimator": {"kind": "kde", "bandwidth": 0.6}}
    config |= {"policy": {"kind": "fixed", "alpha": 0.5}, "samples": 500, "generations": generations, "seed": seed}
    return directory(path, config, arrays, records)


def analysed(N=4, alpha=0.5, kappa=0.3):
    """A report of made-up numbers: some statements silent, one contradicted, some without a measurement."""
    policy = FixedFraction(alpha)
    gram = 0.2 * ((1 - kappa) * np.eye(N) + kappa)
    gram[0, 1] = gram[1, 0] = -0.05
    G = propagator(policy, N)
    drift = tuple(normal(float(d), 0.01) for d in np.diag(G @ gram @ G.T))
    sizes = tuple(normal(0.2, 0.01) for _ in range(N))
    statements = [Statement(n, "mixture", b) for n, b in enumerate(bounds.minkowski(policy, sizes, 0.0, drift), 1)]
    for n in range(1, N + 1):
        eps2 = normal(1.8 / n, 0.01)
        statements.append(Statement(n, "", bounds.proposition_3_1(eps2, normal(0.01, 0.001), normal(0.9 / n, 0.01))))
        statements.append(Statement(n, "", bounds.theorem_3_4(eps2, None, normal(0.5 / n, 0.01))))
        statements.append(
            Statement(n, "p", bounds.improved_floor(alpha, normal(0.2, 0.01), Estimate.infinite("x", "why")))
        )
        statements.append(Statement(n, "", bounds.sharp_first_order(0.1, eps2, normal(5.0, 0.01))))
    statements.append(Statement(None, "mixture", bounds.theorem_4_2_displayed(alpha, [0.2] * N, 0.0, 1.0, drift[-1])))
    statements.append(Statement(None, "", bounds.tv_steady_state(alpha, normal(0.2, 0.01), 0.0, normal(0.1, 0.01))))
    found = Accumulation("mixture", "given", 100, G, gram, gram / 10, drift, sizes, normal(kappa, 0.01), 2e-16,
                         classify(drift, policy, gram))  # fmt: skip
    return BoundsReport("gmm", N, 0.02, 100, 0, tuple(statements), (found,), ("chi2 against p is infinite",))
