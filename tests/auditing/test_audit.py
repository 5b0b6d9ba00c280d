"""``dl.audit`` from data and from sketches: what is found, what is said, what is refused."""

import json

import numpy as np
import pytest

import driftlaw as dl
from driftlaw.auditing import words
from driftlaw.auditing.record import Audit
from driftlaw.errors import CorruptFileError, DataNotFoundError, InputError


def recursion(rng, generations=6, n=2000, k=4, alpha=0.3, step=0.2):
    """Standard normal rows whose mean follows the aligned recursion along the first column."""
    mean, out = np.zeros(k), []
    for _ in range(generations):
        mean = (1 - alpha) * mean + step * np.eye(k)[0]
        out.append(mean + rng.standard_normal((n, k)))
    return out


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((8000, 4)), rng.standard_normal((1500, 4)), recursion(rng)


@pytest.fixture(scope="module")
def found(data):
    real, holdout, line = data
    return dl.audit(real, line, holdout=holdout, features="identity")


def test_the_line_is_understood(found):
    assert all(g.exceeds_floor for g in found.generations)
    truth = [(0.2 * sum(0.7**j for j in range(n))) ** 2 for n in range(1, 7)]
    for g, t in zip(found.generations, truth, strict=True):
        assert g.drift.low <= t <= g.drift.high
        assert g.floor.low < 0 < g.floor.high < g.drift.low
        assert g.changes.features[0].name == "x0"
    assert found.effective_alpha.low <= 0.3 <= found.effective_alpha.high
    assert found.memory.value == pytest.approx(1 / found.effective_alpha.value)
    assert found.alignment.low > 0.5
    assert found.innovation.low <= 0.04 <= found.innovation.high
    next_drift = (0.2 * sum(0.7**j for j in range(7))) ** 2
    assert found.forecast(1)[0].low <= next_drift <= found.forecast(1)[0].high
    assert "point the same way and add up (systematic bias)" in words.alignment_words(found)
    assert "x0 by +" in words.moved_words(found)


def test_rows_are_measured_against_other_real_rows(found):
    last = found.generations[-1].rows
    assert last is not None
    assert last.recall_floor.low <= 1
    assert last.near_duplicates.low < 0.02 < last.near_duplicates.high + 0.02
    assert last.exemplars is None


def test_sketches_give_the_same_numbers(data, found, tmp_path):
    real, holdout, line = data
    base = dl.sketch(real, "identity")
    base.save(tmp_path / "real.sketch")
    dl.sketch(line[1], like=base).save(tmp_path / "two.sketch")
    sets = [dl.sketch(line[0], like=base), tmp_path / "two.sketch", *line[2:]]
    again = dl.audit(tmp_path / "real.sketch", sets, holdout=dl.sketch(holdout, like=base))
    assert [g.drift for g in again.generations] == [g.drift for g in found.generations]
    single = [[g.p_value_single.value for g in a.generations] for a in (again, found)]  # fewer looks to adjust for
    assert single[0] == single[1]
    assert again.effective_alpha == found.effective_alpha
    assert [g.floor for g in again.generations] == [g.floor for g in found.generations]
    assert again.generations[0].rows is None


def test_the_record_reads_back(found, tmp_path):
    path = found.save(tmp_path)
    text = path.read_text()
    assert json.loads(text)["effective_alpha"]["value"] == found.effective_alpha.value
    for again in (Audit.load(tmp_path), Audit.load(path), Audit.from_json(json.loads(text))):
        assert again.to_json() == found.to_json()
        assert again.forecast(7) == found.forecast(7)
    path.write_text(text[:-100])
    with pytest.raises(CorruptFileError, match="not JSON"):
        Audit.load(path)
    with pytest.raises(InputError, match="not the document of an audit"):
        Audit.from_json({"kind": "plan"})
    with pytest.raises(InputError, match="format 99"):
        Audit.from_json({"kind": "audit", "format": 99})
    with pytest.raises(DataNotFoundError):
        Audit.load(tmp_path / "nothing")


def test_no_drift_is_not_found():
    rng = np.random.default_rng(1)
    a = dl.audit(rng.standard_normal((4000, 5)), [rng.standard_normal((1000, 5)) for _ in range(4)])
    assert not any(g.exceeds_floor for g in a.generations)
    assert a.verdict.word == "clean"
    assert "would usually have shown" in a.verdict.reasons[0]
    assert a.alignment.is_refused


def test_one_generation(data):
    real, _, line = data
    a = dl.audit(real, line[:1], features="identity")
    assert a.generations[0].exceeds_floor
    assert a.generations[0].innovation.value == a.generations[0].drift.value
    assert a.effective_alpha.is_refused
    assert a.alignment.is_refused
    assert a.memory.is_refused
    assert a.forecast(1)[0].is_refused
    assert a.regime.name == "undetermined"


def test_given_alpha(data):
    real, _, line = data
    assert dl.audit(real, line[:2], features="identity", alpha=0.3).forecast(1)[0].is_refused
    a = dl.audit(real, line[:3], features="identity", alpha=0.3)
    assert a.effective_alpha.value == 0.3
    assert not a.generations[1].innovation.is_refused
    assert not a.forecast(1)[0].is_refused
    assert a.fails(0.01)
    assert not a.fails(10.0)
    with pytest.raises(InputError, match="limit is not a number"):
        a.fails(float("nan"))


def test_tables_with_categories_and_missing_values():
    rng = np.random.default_rng(2)

    def table(n, tall=0.0, share=0.5, missing=0.0):
        x = rng.standard_normal(n) + tall
        x[rng.random(n) < missing] = np.nan
        kind = np.where(rng.random(n) < share, "cat", "dog")
        return {"height": x, "width": rng.standard_normal(n), "kind": kind}

    a = dl.audit(table(5000), [table(2000, 0.6, 0.8, 0.2)], features="identity")
    columns = {c.name: c for c in a.generations[0].changes.columns}
    assert columns["kind"].chi2.low > 0.2  # exact: .3^2 (1/.5 + 1/.5) = .36
    assert columns["kind"].chi2.high < 0.6
    assert columns["height"].chi2.low > 0
    assert columns["width"].chi2.low <= 0
    assert columns["height"].tail.low > columns["height"].real_tail.value
    assert any("of height are missing" in w for w in a.generations[0].warnings)


def test_copies_of_training_rows_are_seen():
    rng = np.random.default_rng(3)
    real, holdout = rng.standard_normal((3000, 6)), rng.standard_normal((600, 6))
    copies = np.concatenate([real[:500], rng.standard_normal((500, 6))])
    a = dl.audit(real, [copies], holdout=holdout, features="identity")
    rate = a.generations[0].rows.near_duplicates
    assert rate.low < 0.5 < rate.high + 0.02
    assert rate.low > 0.4
    blind = dl.audit(real, [copies], features="identity").generations[0].rows.near_duplicates
    assert blind.is_refused
    assert "holdout" in blind.warnings[0]


def test_spread_and_images():
    rng = np.random.default_rng(4)
    real = np.clip(0.3 * rng.standard_normal((1500, 1, 4, 4)), -1, 1).astype(np.float32)
    made = np.clip(0.15 * rng.standard_normal((800, 1, 4, 4)), -1, 1).astype(np.float32)
    g = dl.audit(real, [made], dimension=6).generations[0]
    assert not g.exceeds_floor  # the mean did not move, the spread did
    assert g.changes.spread.total.high < 0.35
    assert g.changes.spread.largest.value < g.changes.spread.equal[0]
    shown = g.rows.exemplars
    assert shown.images().shape == (16, 4, 4, 1)
    flat = ((made[:, 0] + 1) * 127.5).round().astype(np.uint8)
    assert any((shown.images()[0, :, :, 0] == x).all() for x in flat)


def test_a_holdout_of_another_law_is_said():
    rng = np.random.default_rng(5)
    real, made, other = (rng.standard_normal((n, 3)) for n in (3000, 500, 500))
    a = dl.audit(real, [made], holdout=other + 1)
    assert any("the holdout differs from the real data" in w for w in a.warnings)


def test_fewer_rows_than_features_and_constant_columns():
    rng = np.random.default_rng(6)
    real, made = rng.standard_normal((60, 50)), rng.standard_normal((40, 50)) + 1
    real[:, 7] = 0.0
    a = dl.audit(real, [made], features="identity")
    assert any("no covariance can be inverted" in w for w in a.warnings)
    assert any("constant" in w for w in a.warnings)
    assert a.features["diagonal"]
    assert any("are few" in w for w in a.generations[0].warnings)
    assert a.generations[0].exceeds_floor
    assert a.generations[0].changes.spread.smallest.is_refused
    json.dumps(a.to_json(), allow_nan=False)


def test_an_iterator_gives_all_but_rows(data):
    real, _, line = data
    a = dl.audit(iter(np.array_split(real, 7)), [iter(np.array_split(line[0], 3))], features="identity")
    assert a.generations[0].exceeds_floor
    assert a.generations[0].rows is None


@pytest.mark.parametrize(
    ("real", "generations", "options", "message"),
    [
        (np.zeros((50, 2)), [], {}, "no generation to audit"),
        (np.eye(50)[:, :2], np.eye(50)[:, :2], {}, "generations must be a list"),
        ("normal", ["other shape"], {}, "shape"),
        ("normal", ["nan"], {}, "NaN"),
        ("normal", ["normal"], {"alpha": 1.5}, "alpha = 1.5 is outside"),
        ("normal", ["few"], {}, "has 3 rows"),
        ("normal", ["table"], {}, "table"),
        (np.ones((50, 2)), ["normal"], {}, "varies"),
        ("normal", ["normal"], {"features": "pcb"}, "pca"),
    ],
)
def test_bad_input(real, generations, options, message):
    rng = np.random.default_rng(7)
    normal = rng.standard_normal((100, 2))
    sets = {
        "normal": normal, "other shape": rng.standard_normal((50, 3)), "nan": np.where(normal > 2, np.nan, normal),
        "few": normal[:3], "table": {"a": normal[:, 0]},
    }  # fmt: skip
    pick = lambda x: sets[x] if isinstance(x, str) else x  # noqa: E731
    with pytest.raises(InputError, match=message):
        dl.audit(pick(real), [*map(pick, generations)] if isinstance(generations, list) else generations, **options)


def test_foreign_and_missing_files(tmp_path, data):
    real, _, line = data
    with pytest.raises(DataNotFoundError):
        dl.audit(real, [tmp_path / "nothing.npy"])
    (tmp_path / "empty").mkdir()
    with pytest.raises((InputError, DataNotFoundError)):
        dl.audit(real, [tmp_path / "empty"])
    other = dl.sketch(line[0], "identity")
    with pytest.raises(InputError, match="sketch"):
        dl.audit(real, [other], features="identity")


@pytest.mark.heavy
def test_a_shift_spread_over_an_embedding_is_found_by_default():
    """D = 1 over 768 float16 numbers, 500 rows against 5,000: eleven standard deviations of no drift."""
    rng, k = np.random.default_rng(9), 768
    mix, scale = rng.standard_normal((k, k)) / np.sqrt(k), np.exp(0.5 * rng.standard_normal(k))
    draw = lambda n, u=0.0: (((z := rng.standard_normal((n, k)) + u) + 0.5 * z @ mix) * scale).astype(np.float16)  # noqa: E731
    u = rng.standard_normal(k)
    real = draw(5000)
    moved, honest = dl.audit(real, [draw(500, u / np.linalg.norm(u)), draw(500)]).generations
    assert moved.exceeds_floor
    assert moved.drift.low <= 1 <= moved.drift.high
    assert not honest.exceeds_floor  # a false alarm has probability below 5 %; the seed is fixed


def test_columns_of_a_table_are_named_by_default():
    rng = np.random.default_rng(10)
    table = lambda n, up=0.0: {"age": rng.normal(40 + up, 10, n), "kind": rng.choice(["a", "b", "c"], n)}  # noqa: E731
    found = dl.audit(table(4000), [table(1000, 5.0)])
    assert found.features["name"] == "identity"
    assert found.generations[0].changes.features[0].name == "age"
