"""The documents of audits, plans and bounds follow the schemas in docs/schemas, and the schemas can refuse."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

import driftlaw as dl

ROOT = Path(__file__).parent.parent


def schema(name):
    document = json.loads((ROOT / "docs" / "schemas" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def strict(document):
    """As a reader gets it."""
    return json.loads(json.dumps(document, allow_nan=False))


@pytest.fixture(scope="module")
def audits():
    g = np.random.default_rng(0)

    def table(n):
        return pd.DataFrame({"x": g.normal(size=n), "c": g.choice(["u", "v"], n)})

    rows = [g.normal(0.1 * i, 1, size=(800, 3)) for i in range(5)]
    return [
        dl.audit(rows[0], rows[1:]),
        dl.audit(rows[0], rows[1:2], holdout=g.normal(size=(400, 3))),
        dl.audit(table(900), [table(300).assign(c="w")]),
        dl.audit(dl.sketch(rows[0], "identity"), rows[1:2]),
    ]


def test_audits_follow_their_schema(audits):
    for a in audits:
        schema("audit").validate(strict(a.to_json()))


def test_plans_follow_their_schema():
    for p in (
        dl.plan(innovation=0.01, alignment=0.8, budget=0.1, horizon=6),
        dl.plan(innovation=0.01, alignment=0.0, budget=0.1, horizon=6, objective="mean"),
        dl.plan(innovation=1.0, alignment=1.0, budget=0.1, horizon=3),
    ):
        schema("plan").validate(strict(p.to_json()))


def test_bounds_of_earlier_runs_follow_their_schema():
    found = sorted((ROOT / "tests" / "fixtures").rglob("bounds.json"))
    assert found
    for path in found:
        schema("bounds").validate(json.loads(path.read_text()))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("verdict"),
        lambda d: d["verdict"].update(word="fine"),
        lambda d: d["verdict"].update(reasons=["a"] * 4),
        lambda d: d["generations"].clear(),
        lambda d: d["generations"][0]["drift"].pop("low"),
        lambda d: d["generations"][0]["drift"].update(value=None),
        lambda d: d["generations"][0].update(n="800"),
        lambda d: d["generations"][0]["looks"].update(mean=1.2),
    ],
)
def test_a_spoilt_document_is_refused(audits, spoil):
    document = copy.deepcopy(strict(audits[0].to_json()))
    spoil(document)
    with pytest.raises(jsonschema.ValidationError):
        schema("audit").validate(document)
