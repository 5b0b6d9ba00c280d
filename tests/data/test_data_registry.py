"""Names, paths, arrays, laws and configurations all become sources; what does not is refused with the nearest name."""

import datasets
import fsspec
import numpy as np
import pandas as pd
import polars
import pytest
import torch
from PIL import Image

from driftlaw.data import NAMES, ArraySource, DataSource, DensitySource, as_source, build, catalogue
from driftlaw.errors import ConfigError, DataNotFoundError, InputError
from driftlaw.process.laws.mixture import GaussianMixture
from driftlaw.seeding import generator


class Exponential:
    """A law without a configuration."""

    def __init__(self, shape=(2,), value=None):
        self.shape, self.value = shape, value

    def sample(self, n, generator=None):
        u = torch.rand((n, *self.shape), generator=generator, dtype=torch.float64)
        return -torch.log1p(-u) if self.value is None else torch.full_like(u, self.value)

    def log_prob(self, x):
        return -x.flatten(1).sum(1)


def test_laws():
    mixture = GaussianMixture.paper()
    source = as_source(mixture)
    assert isinstance(source, DensitySource)
    assert isinstance(source, DataSource)
    assert source.law is mixture
    assert (source.name, source.shape, source.size, source.classes) == ("gmm", (10,), None, None)
    x = source.draw(5, generator(0, "a"))
    assert torch.equal(x.x, mixture.sample(5, generator(0, "a")).float())
    assert torch.equal(x.x, source.held_out(5, generator(0, "a")).x)
    assert not torch.equal(x.x, source.draw(5, generator(1, "a")).x)
    assert torch.equal(source.log_prob(x.x), mixture.log_prob(x.x))
    assert as_source("gmm").law == mixture
    rebuilt = build(source.config())
    assert rebuilt.law == mixture
    assert rebuilt.config() == source.config()
    assert build({"kind": "gmm"}).law == mixture
    with pytest.raises(InputError, match="density and has no numbered rows"):
        source.rows(torch.tensor([0]))


def test_a_law_without_a_configuration_says_so():
    source = as_source(Exponential())
    assert source.name == "Exponential"
    assert source.draw(3, generator(0, "a")).x.dtype == torch.float32
    with pytest.raises(ConfigError, match=r"Exponential.*cannot be written.*kind: array"):
        source.config()


def test_bad_laws():
    with pytest.raises(InputError, match=r"shape \(1, 2, 2\)"):
        as_source(Exponential((2, 2)))
    with pytest.raises(InputError, match="not finite"):
        as_source(Exponential(value=float("nan")))
    with pytest.raises(InputError, match="-1 rows of gmm"):
        as_source("gmm").draw(-1, generator(0, "a"))


def test_sources_are_returned_as_they_are():
    source = ArraySource(np.arange(8.0)[:, None])
    assert as_source(source) is source
    assert as_source({"kind": "digits", "held_out": 100}).size == 1697
    assert as_source(np.arange(8.0)[:, None]).size == 6
    assert as_source(torch.arange(8.0)[:, None]).size == 6


def test_everything_that_holds_rows_is_a_source(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    frame = pd.DataFrame(x, columns=list("abc"))
    (tmp_path / "parts").mkdir()
    frame[:20].to_parquet(tmp_path / "parts" / "0.parquet")
    frame[20:].to_parquet(tmp_path / "parts" / "1.parquet")
    frame.to_json(tmp_path / "x.jsonl", orient="records", lines=True, double_precision=15)
    with fsspec.open("memory://sources/x.npy", "wb") as file:
        np.save(file, x)
    datasets.Dataset.from_dict({"v": x.tolist()}).save_to_disk(str(tmp_path / "saved"))
    expected = as_source(x)
    for obj in (
        frame, polars.from_pandas(frame), {c: frame[c].to_numpy() for c in frame}, list(x), iter(x),
        torch.utils.data.TensorDataset(torch.from_numpy(x)), datasets.Dataset.from_dict({"v": x.tolist()}),
        tmp_path / "parts", tmp_path / "x.jsonl", "memory://sources/x.npy", tmp_path / "saved",
    ):  # fmt: skip
        source = as_source(obj)
        index = torch.arange(source.size)
        torch.testing.assert_close(source.rows(index).x, expected.rows(index).x)
    for obj in (tmp_path / "parts", "memory://sources/x.npy"):
        assert build(as_source(obj).config()).size == expected.size
    images = [Image.fromarray(np.full((4, 4), 9 * i, np.uint8)) for i in range(9)]
    assert as_source(images).shape == (1, 4, 4)
    with pytest.raises(InputError, match="1 of 2 columns are not numeric: 'name'"):
        as_source(pd.DataFrame({"name": ["a", "b"], "x": [1.0, 2.0]}))


@pytest.mark.parametrize(
    ("obj", "error", "words"),
    [
        ("digit", ConfigError, "'digit' is neither a data set nor a file or folder here. Did you mean 'digits'"),
        ("./digits", DataNotFoundError, "no file or folder digits"),
        ("rows.npy", DataNotFoundError, "no file .*rows.npy"),
        (3, InputError, "a int is not a source of data. Give a GaussianMixture, an array, a table, a data set, a path"),
        (None, InputError, "NoneType"),
    ],
)
def test_what_is_not_a_source(obj, error, words):
    with pytest.raises(error, match=words):
        as_source(obj)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "source needs a kind, got {}"),
        ({"kind": "digitz"}, "'digitz'. Did you mean 'digits'"),
        ({"kind": 3}, "unknown source kind 3"),
        ({"kind": "digits", "heldout": 5}, "source 'digits' has no setting 'heldout'. Did you mean 'held_out'"),
        ({"kind": "fashion-mnist", "seed": 5}, "no setting 'seed'"),
        ({"kind": "array"}, r"source 'array' needs the setting 'path'\. Add path"),
        ({"kind": "images", "path": "x", "size": "big"}, "size = 'big' cannot be used: .* valid integer"),
        ({"kind": "images", "path": "x", "mode": "CMYK"}, "mode = 'CMYK' cannot be used: .* 'L' or 'RGB'"),
        ({"kind": "digits", "held_out": "many"}, "held_out = 'many' cannot be used"),
        ({"kind": "digits", "held_out": 1797}, "held_out = 1797 cannot split the 1797 rows of digits"),
        ({"kind": "gmm", "weight": [1.0]}, "weight"),
    ],
)
def test_bad_configurations(config, words):
    with pytest.raises(ConfigError, match=words):
        build(config)


def test_the_catalogue_says_where_everything_is(tmp_path, monkeypatch):
    from driftlaw.data.sets import public

    monkeypatch.setattr(public, "roots", lambda: [tmp_path])
    rows = {row["name"]: row for row in catalogue()}
    assert tuple(rows) == NAMES
    for name in ("gmm", "digits"):
        source = as_source(name)
        assert (rows[name]["rows"], rows[name]["shape"]) == (source.size, list(source.shape))
        assert rows[name]["available"]
    assert not rows["fashion-mnist"]["available"]
    assert "dataset-fashion-mnist" in rows["fashion-mnist"]["where"]
    (tmp_path / "cifar10.npz").touch()
    row = next(r for r in catalogue() if r["name"] == "cifar10")
    assert row["available"]
    assert row["where"] == str(tmp_path / "cifar10.npz")
