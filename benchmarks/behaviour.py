"""What the command line answers, pinned: every number of it against those of a reference file.

``python -m benchmarks.behaviour --write FILE`` runs the commands of :data:`CASES` with fixed seeds on data made here
and keeps their JSON documents; ``--against FILE`` runs them again, prints how many values are equal in each document
and which are not, and exits 1 if a difference is not explained in :data:`CHANGED`. The driftlaw is the one that
``python -m driftlaw`` finds, so that another version is measured with PYTHONPATH. The reference,
``benchmarks/behaviour-v0.1.json``, is of commit fe2e35e::

    git worktree add ../v0.1 fe2e35e
    PYTHONPATH=../v0.1/src python -m benchmarks.behaviour --write benchmarks/behaviour-v0.1.json
    PYTHONPATH=src python -m benchmarks.behaviour --against benchmarks/behaviour-v0.1.json

A value's path is ``case/key/key/...``; items of a list are named by what they are (generation, name, side) where they
say so, else by their position. A pattern is of :mod:`fnmatch`: ``*`` also crosses ``/``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

#: Relative tolerance, and the absolute one beside it for what is zero but for rounding.
RELATIVE, ABSOLUTE = 1e-9, 1e-12
#: Significant digits kept in a reference.
DIGITS = 12
#: Keys whose values are not compared, wherever they stand, and why.
IGNORED = {
    **dict.fromkeys(("run", "report", "out", "sketch"), "a path"),
    **dict.fromkeys(("peak_memory_mib", "bytes", "seconds"), "of the machine"),
    **dict.fromkeys(("files", "fingerprint", "format"), "hashes and versions; the numbers themselves are compared"),
    **dict.fromkeys(
        ("method", "warnings", "notes", "note", "formula", "reference", "because", "statement", "title", "command"),
        "words",
    ),
    "evidence": "words; of a plan, what its innovation and alignment were read from",
}
#: pattern: (relative tolerance, absolute tolerance, reason).
TOLERANCES: dict[str, tuple[float, float, str]] = {
    "run digits*": (1e-4, 1e-5, "float32 training: rounding of matrix products differs between processors"),
    "plan mean/*": (1e-6, 1e-9, "of schedules whose costs differ by rounding the first is taken since 52d52c5"),
    "*/reconstruction_error": (0.0, 1e-9, "is rounding itself"),
}
#: pattern: reason. Deliberate changes of behaviour since the reference.
CHANGED: dict[str, str] = {
    **dict.fromkeys(
        ("audit arrays/*/pc1/shift/*", "audit table/*/pc4/shift/*", "audit sketches/*/pc[345]/shift/*"),
        "signs of principal directions are fixed since 4672b31: these turned",
    ),
    **dict.fromkeys(
        (
            *("audit*/generations/*/columns/*", "audit*/generations/*/findings*", "audit*/generations/*/looks/*"),
            *("audit*/generations/*/flags*", "audit*/verdict/*"),
        ),
        "audits come to a verdict since f092424: new keys",
    ),
    **dict.fromkeys(
        ("audit*/generations/*/rows/precision*", "audit*/generations/*/rows/copied_p"), "new keys since 2e7f6a0"
    ),
    **dict.fromkeys(
        ("audit*/forecast/*", "audit*/dynamics/misfit*"),
        "forecasts are medians and refused where they say nothing, misfits are new keys since e9307af",
    ),
    "*/regime/name": '"undecided" is called "undetermined" since bdeb135',
    **dict.fromkeys(
        (
            *("audit*/generations/*/p_value*", "audit*/generations/*/floor/*", "audit*/regime/exponent/*"),
            *(f"audit*/generations/*/{e}/{k}" for e in ("drift", "innovation") for k in ("low", "high", "stderr")),
        ),
        "pooled test, floors of real rows, intervals by kurtosis since 07f7e74; drift and innovation keep their values",
    ),
}

#: Keys that name an item of a list.
NAMES = ("generation", "index", "key", "what", "name", "side", "where", "quantity", "reference")
RUN = ["--device", "cpu", "--seed", "3"]
SMALL = {"samples": 60, "density_samples": 400, "path_samples": 200, "dimension": 4, "critic_rows": 60}
GAUSSIAN = {  # one dimension: in several, draws of full covariances changed in 4672b31 (symmetric root)
    **{"name": "gaussian", "estimator": {"kind": "gaussian"}, "policy": {"kind": "fixed", "alpha": 0.3}},
    **{"samples": 120, "generations": 3, "measures": SMALL, "mixing": "multinomial"},
    "source": {"kind": "gmm", "weights": [0.25, 0.75], "means": [[-2.0], [1.0]], "covariances": [0.5, 1.0]},
}
WINDOW = GAUSSIAN | {
    **{"name": "window", "estimator": {"kind": "kde", "bandwidth": 0.5, "t0": 0.02}, "generations": 2},
    **{"policy": {"kind": "window", "k": 2, "fresh": 0.2}, "source": {"kind": "gmm"}},
}
ADAPTIVE = WINDOW | {"name": "adaptive", "policy": {"kind": "adaptive", "budget": 2.0, "horizon": 3}}
DIGITS_RUN = {
    **{"name": "digits", "source": {"kind": "digits"}, "policy": {"kind": "fixed", "alpha": 0.25}, "reuse": True},
    **{"samples": 80, "generations": 2, "threads": 1, "measures": SMALL},
    "estimator": {
        **{"kind": "denoiser", "width": 24, "blocks": 1, "steps": 40, "warm_steps": 20, "batch": 32, "lr": 0.004},
        **{"warmup": 5, "holdout_every": 20, "checkpoint_every": 0, "solver_steps": 5},
    },
}
GENERATED = ("gen1", "gen2", "gen3")


def _set(values: dict[str, Any]) -> list[str]:
    return [word for k, v in values.items() for word in ("--set", f"measures.{k}={v}")]


def _rows(ending: str) -> list[str]:
    return [f"{name}{ending}" for name in ("real", *GENERATED)]


#: Commands in their order; later ones read what earlier ones wrote.
CASES: dict[str, list[str]] = {
    "run gmm": [
        *("run", "gmm", "--preset", "smoke", "--samples", "150", "--generations", "3", *RUN, *_set(SMALL)),
        *("--out", "gmm"),
    ],
    "run gaussian": ["run", "gaussian.yaml", *RUN, "--out", "gaussian"],
    "run window": ["run", "window.yaml", *RUN, "--out", "window"],
    "run adaptive": ["run", "adaptive.yaml", *RUN, "--out", "adaptive"],
    "run digits": ["run", "digits.yaml", *RUN, "--out", "digits"],
    "bounds gmm": ["bounds", "gmm", "--samples", "400"],
    "bounds gaussian": ["bounds", "gaussian", "--samples", "400"],
    "audit arrays": [
        *("audit", *_rows(".npy"), "--holdout", "holdout.npy", "--alpha", "0.3", "--dimension", "3", "--out", "audit")
    ],
    "audit arrays unknown alpha": ["audit", *_rows(".npy"), "--features", "identity"],
    "audit table": ["audit", *_rows(".csv"), "--categorical", "zip", "--dimension", "5"],
    "audit images": ["audit", "images/real", "images/gen1", "images/gen2", "--dimension", "4", "--mode", "L"],
    "sketch real": ["sketch", "real.csv", "-o", "real.sketch", "--categorical", "zip", "--blocks", "8"],
    "sketch gen1": ["sketch", "gen1.csv", "-o", "gen1.sketch", "--like", "real.sketch"],
    "sketch gen2": ["sketch", "gen2.csv", "-o", "gen2.sketch", "--like", "real.sketch"],
    "audit sketches": ["audit", "real.sketch", "gen1.sketch", "gen2.sketch"],
    "plan given": ["plan", "--innovation", "1", "--alignment", "1", "--budget", "100", "--horizon", "20"],
    "plan mean": [
        *("plan", "--innovation", "0.5", "--alignment", "0.3", "--budget", "2", "--horizon", "8", "--objective", "mean")
    ],
    "plan terminal": [
        *("plan", "--innovation", "0.5", "--alignment", "0", "--budget", "1", "--horizon", "6"),
        *("--objective", "terminal", "--dimension", "5", "--start", "0.4"),
    ],
    "plan infeasible": ["plan", "--innovation", "1", "--alignment", "0.5", "--budget", "0.2", "--horizon", "5"],
    "plan total": ["plan", "--innovation", "1", "--alignment", "0.5", "--total-fresh", "2", "--horizon", "5"],
    "plan run": ["plan", "--from", "gmm", "--budget", "50", "--horizon", "4", "--start", "last"],
    "plan audit": ["plan", "--from", "audit", "--budget", "2", "--horizon", "4"],
    "reproduce table": [
        *("reproduce", "table", "--alphas", "0.5", "--generations", "2", "--target-se", "0.2", "--workers", "1"),
        *("--out", "reproduce"),
    ],
}


def inputs(folder: Path) -> None:
    """Data and studies that the commands read."""
    for config in (GAUSSIAN, WINDOW, ADAPTIVE, DIGITS_RUN):
        (folder / f"{config['name']}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    rng = np.random.default_rng(1)
    mix = np.array([[1, 0.3, 0], [0, 1, 0], [0, 0.2, 0.5]])
    for name, spread, shares, n in (
        ("real", 1.0, (0.6, 0.3, 0.1), 900),
        ("holdout", 1.0, (0.6, 0.3, 0.1), 400),
        ("gen1", 0.95, (0.65, 0.28, 0.07), 400),
        ("gen2", 0.88, (0.7, 0.26, 0.04), 400),
        ("gen3", 0.8, (0.76, 0.22, 0.02), 400),
    ):
        rows = rng.normal(size=(n, 3)) @ mix * spread
        np.save(folder / f"{name}.npy", rows.astype(np.float32))
        table = pd.DataFrame({"age": np.round(40 + 12 * rows[:, 0]).astype(int)})
        table["income"] = np.round(np.exp(1 + 0.5 * rows[:, 1]), 2)
        table["town"], table["zip"] = rng.choice(list("ABC"), n, p=shares), rng.choice([10115, 20095], n, p=(0.7, 0.3))
        table.loc[::17, "income"] = np.nan
        table.to_csv(folder / f"{name}.csv", index=False)
    for name, spread in (("real", 60), ("gen1", 52), ("gen2", 45)):
        place = folder / "images" / name
        place.mkdir(parents=True)
        for k in range(160 if name == "real" else 100):
            pixels = np.clip(128 + spread * np.outer(rng.normal(size=6), rng.normal(size=6)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{k:03d}.png")


def measure() -> dict[str, Any]:
    """The documents of the cases; a command that fails gives its exit code."""
    found = {}
    path = [str(Path(p).absolute()) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path)}
    with tempfile.TemporaryDirectory(prefix="behaviour-") as name:
        inputs(Path(name))
        for case, words in CASES.items():
            sys.stderr.write(f"driftlaw {' '.join(words)}\n")
            command = [sys.executable, "-m", "driftlaw", *words, "--json"]
            done = subprocess.run(command, cwd=name, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.stderr.write(done.stderr[-2000:])
            found[case] = pruned(json.loads(done.stdout) if done.returncode == 0 else {"exit": done.returncode})
    return found


def pruned(value: Any) -> Any:
    """A document without what is not compared, numbers to :data:`DIGITS` digits."""
    if isinstance(value, dict):
        named = {"reference"} if "propagator" in value else set()  # there it is a name, in statements it is words
        return {k: pruned(v) for k, v in value.items() if k in named or k not in IGNORED}
    if isinstance(value, list):
        return [pruned(v) for v in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def values(document: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Paths and leaves; an empty mapping or list is a leaf."""
    if isinstance(document, dict) and document:
        for key, value in document.items():
            yield from values(value, f"{path}/{key}")
    elif isinstance(document, list) and document:
        seen: Counter[str] = Counter()
        for position, value in enumerate(document):
            name = ", ".join(str(value[k]) for k in NAMES if k in value) if isinstance(value, dict) else ""
            name = name or str(position)
            seen[name] += 1
            yield from values(value, f"{path}/{name}" + (f" ({seen[name]})" if seen[name] > 1 else ""))
    else:
        yield path, document


def same(a: Any, b: Any, path: str) -> bool:
    """Equal but for rounding; infinities are text in these documents."""
    if isinstance(a, bool) or isinstance(b, bool) or not (isinstance(a, int | float) and isinstance(b, int | float)):
        return bool(a == b)
    rel, small = next(((r, s) for p, (r, s, _) in TOLERANCES.items() if fnmatchcase(path, p)), (RELATIVE, ABSOLUTE))
    return abs(a - b) <= max(rel * max(abs(a), abs(b)), small)


def compare(now: dict[str, Any], then: dict[str, Any]) -> int:
    """Print the table; returns how many differences are not explained."""
    unexplained, explained = [], Counter[str]()
    sys.stdout.write(f"{'case':<28} {'equal':>6} {'changed':>8} {'gone':>6} {'new':>6} {'explained':>10}\n")
    for case in dict.fromkeys([*then, *now]):
        old, new = (dict(values(d.get(case, {}), case)) for d in (then, now))
        count: Counter[str] = Counter()
        for path in dict.fromkeys([*old, *new]):
            kind = "new" if path not in old else "gone" if path not in new else "changed"
            if kind == "changed" and same(old[path], new[path], path):
                count["equal"] += 1
            elif pattern := next((p for p in CHANGED if fnmatchcase(path, p)), ""):
                count["explained"] += 1
                explained[pattern] += 1
            else:
                count[kind] += 1
                unexplained.append(f"{kind:<8} {path}: {old.get(path)!r} -> {new.get(path)!r}")
        numbers = " ".join(f"{count[k]:>{w}}" for k, w in (("equal", 6), ("changed", 8), ("gone", 6), ("new", 6)))
        sys.stdout.write(f"{case:<28} {numbers} {count['explained']:>10}\n")
    for pattern, reason in CHANGED.items():
        sys.stdout.write(f"explained {explained[pattern]:>5} by {pattern}: {reason}\n")
    for line in unexplained:
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"{len(unexplained)} unexplained differences\n")
    return len(unexplained)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="FILE")
    what.add_argument("--against", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.write:
        options.write.write_text(json.dumps(measure(), sort_keys=True, separators=(",", ":")) + "\n")
    elif compare(measure(), json.loads(options.against.read_text())):
        sys.exit(1)


if __name__ == "__main__":
    main()
