"""Studies in YAML that nobody would write: refused with exit code 2, or understood; never a traceback, never a hang."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from driftlaw.loop import presets
from fuzz.outcomes import command

KINDS = (
    *("gmm", "digits", "kde", "gaussian", "mixture-em", "denoiser", "command", "callable", "flow", "fixed", "replace"),
    *("schedule", "window", "accumulate", "adaptive", "array", "images", "pca", "x", ""),
)
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from([10**400, -1, 0, 2**63, 1e308, "../x", "inf", "1e999", "gmm", "kde", "replace", "fixed:0.5",
                     "window:3", "schedule:1,nan", "adaptive:0.1,20", "schedule:" + "1," * 5000, "nowhere.npy"]),
)  # fmt: skip


def deep(inner):
    return st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=6), inner, max_size=3),
        st.fixed_dictionaries({"kind": st.one_of(st.sampled_from(KINDS), inner)}),
    )


ANY = st.recursive(ODD, deep, max_leaves=8)
PART = st.builds(
    lambda kind, more: {"kind": kind, **more},
    st.sampled_from(KINDS),
    st.dictionaries(
        st.sampled_from(["alpha", "k", "fresh", "bandwidth", "width", "steps", "weights", "means", "covariances",
                         "path", "held_out", "seed", "alphas", "t0", "T", "components", "batch",
                         "size", "horizon", "budget"]),
        ANY, max_size=4,
    ),
)  # fmt: skip
PLAIN = {
    "gmm": {"source": "gmm", "estimator": {"kind": "kde", "bandwidth": 0.6}, "policy": 0.5, "samples": 60},
    "preset": presets.preset("gmm", "smoke"),
    "digits": presets.preset("digits", "smoke"),
}
NAMES = ("source", "estimator", "policy", "samples", "generations", "seed", "mixing", "reuse", "device", "threads",
         "measures", "name", "extra", "format")  # fmt: skip


@st.composite
def studies(draw):
    whole = dict(draw(st.sampled_from(list(PLAIN.values()))))
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)):
        if draw(st.booleans()) and name in whole:
            del whole[name]
        elif name == "measures" and draw(st.booleans()):
            keys = [
                "samples",
                "density_samples",
                "features",
                "dimension",
                "path_samples",
                "t0",
                "T",
                "target_se",
                "critic",
            ]
            whole[name] = draw(st.dictionaries(st.sampled_from(keys), ANY, max_size=3))
        else:
            whole[name] = draw(st.one_of(ANY, PART))
    return yaml.safe_dump(whole, sort_keys=False)


TEXTS = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["[" * 5000, "{a: " * 2000, "- " * 3000, "format: Infinity", "source: &a [*a]",
                     "a: !!python/name:os.system",
                     "source: gmm\nsource: kde", "? {a: 1}\n: 2", "samples: .inf", "samples: 1e400", "%YAML 9.9\n---\n",
                     "&a [&b [*a, *b]]", "source: 2026-99-99", "source: 0o99", "policy: 1:99:99", "<<: [1]",
                     "kind: [1]"]),
)  # fmt: skip


def check(path, text):
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    outcome = command(["sweep", str(path), "--alphas", "0.5", "--seeds", "0", "--dry-run"])
    assert outcome in ("exit 0", "exit 2"), outcome


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("studies") / "study.yaml"


@settings(max_examples=130)
@given(studies())
def test_studies(place, text):
    check(place, text)


@settings(max_examples=40)
@given(TEXTS)
def test_texts(place, text):
    check(place, text)


@pytest.mark.heavy
@settings(max_examples=1700)
@given(studies())
def test_many_studies(place, text):
    check(place, text)


@pytest.mark.heavy
@settings(max_examples=300)
@given(TEXTS)
def test_many_texts(place, text):
    check(place, text)
