"""``driftlaw data``: results on stdout, one JSON document when asked, failures with a remedy."""

import json

import pytest
from typer.testing import CliRunner

from driftlaw.cli.verbs.data import app
from driftlaw.data import NAMES
from driftlaw.data.sets import public
from driftlaw.errors import ConfigError, DataNotFoundError

runner = CliRunner()


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(public, "roots", lambda: [tmp_path])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_list(places):
    result = runner.invoke(app, ["list"])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["name", "rows", "held", "out", "shape", "where"]
    assert [line.split()[0] for line in lines[1:5]] == list(NAMES)
    assert "endless" in lines[1]
    assert "1200" in lines[2]
    assert "1x8x8" in lines[2]
    assert "not here: driftlaw data fetch cifar10" in lines[4]


def test_list_json_is_one_document():
    document = json.loads(runner.invoke(app, ["list", "--json"]).stdout)
    assert [row["name"] for row in document["datasets"]] == list(NAMES)
    assert set(document["datasets"][0]) == {"name", "rows", "held_out", "shape", "available", "where"}


def test_fetch_finds_what_is_here(places):
    (places / "cifar10.npz").touch()
    assert json.loads(runner.invoke(app, ["fetch", "cifar10", "--json"]).stdout) == {
        "name": "cifar10",
        "where": str(places / "cifar10.npz"),
    }
    assert runner.invoke(app, ["fetch", "digits"]).stdout == "digits: part of scikit-learn, nothing to download\n"


def test_failures_name_the_remedy(monkeypatch):
    error = runner.invoke(app, ["fetch", "fashion"]).exception
    assert isinstance(error, ConfigError)
    assert "Did you mean 'fashion-mnist'" in str(error)

    def offline(url, *rest):
        raise DataNotFoundError(f"{url} cannot be downloaded (offline)")

    monkeypatch.setattr(public, "fetch", offline)
    result = runner.invoke(app, ["fetch", "fashion-mnist", "--json"])
    assert isinstance(result.exception, DataNotFoundError)
    assert result.exception.exit_code == 2
    assert result.stdout == ""
