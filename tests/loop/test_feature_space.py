"""Studies that measure in a network's features: which rows it learns from, and that a resumed run measures the same."""

import json
import shutil

import numpy as np
import pytest
import torch

import driftlaw as dl
from driftlaw.data import as_source
from driftlaw.data.arrays import ArraySource
from driftlaw.errors import ConfigError, CorruptFileError, DataNotFoundError, InputError
from driftlaw.loop.step import feature_space
from driftlaw.loop.step.setting import Setting
from driftlaw.measure.features.network import hash_rows
from driftlaw.measure.sets.reference import split
from driftlaw.seeding import generator, stream_seed

CLASSIFIER = {"kind": "classifier", "width": 4, "features": 16, "least_steps": 60, "epochs": 1}


def stripes(n, seed=0):
    """`n` 8x8 images of three classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    wave = np.sin(np.arange(8) * (0.5 + 0.6 * y[:, None]) + rng.uniform(0, 6.3, (n, 1)))
    x = 0.5 * wave[:, None, None, :] + 0.1 * rng.standard_normal((n, 1, 8, 8))
    return x.clip(-1, 1).astype(np.float32), y


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    x, y = stripes(6000)
    np.savez(path, x=x, y=y)
    return path


def study(path, features=CLASSIFIER, **changes):
    settings = {"samples": 120, "generations": 2, "policy": 0.5, "seed": 3}
    measures = {"samples": 100, "features": features, "dimension": 6, "density_samples": 100, "path_samples": 0}
    source = {"kind": "array", "path": str(path), "held_out": 600}
    return dl.Study(source=source, estimator=dl.GaussianMLE(), measures=measures, **(settings | changes))


def test_the_classifier_learns_from_rows_that_nothing_else_uses(files):
    setting = Setting(study(files))
    held_out, n = setting.held_out, 100
    train = setting.study.source.draw(4000, setting.stream("reference", "train"))
    rows, apart = feature_space._labelled(setting, train, held_out, n, 0)
    assert apart
    own = {hash_rows(row) for row in rows.x}
    assert len(own) == len(rows) >= feature_space.FEWEST
    trained = setting.supply.take(setting.fresh_before(3), 0).batch
    for others in (train, held_out, trained):
        assert not own & {hash_rows(row) for row in others.x}


def test_too_few_rows_are_taken_from_the_reference_and_said(tmp_path):
    x, y = stripes(900)
    np.savez(tmp_path / "few.npz", x=x, y=y)
    setting = Setting(study(tmp_path / "few.npz", reuse=True))
    reference = setting.reference
    note = reference.warnings[0]
    assert "that generations may train on too: too few others are left; accuracy" in note
    seed = stream_seed(3, "reference")
    train = setting.study.source.draw(300, setting.stream("reference", "train"))
    rows, apart = feature_space._labelled(setting, train, setting.held_out, 100, seed)
    assert not apart
    floor = {hash_rows(row) for row in train.x[split(300, 100, seed)[1]]}
    assert not floor & {hash_rows(row) for row in rows.x}
    assert len(rows) == 200


def test_a_resumed_run_measures_in_the_same_space(files, tmp_path):
    whole = list(dl.run(study(files), out=tmp_path / "whole"))
    run = dl.run(study(files), out=tmp_path / "cut")
    next(run)
    run.close()
    document = json.loads((tmp_path / "cut/features/classifier.json").read_text())
    assert document["apart_from_generations"]
    assert document["accuracy"]["value"] > 0.6  # chance is 1/3
    assert document["note"] in whole[0].warnings
    shutil.rmtree(tmp_path / "cut/features/cache")
    (second,) = dl.resume(tmp_path / "cut")
    assert second.divergence == whole[1].divergence
    assert second.floor == whole[1].floor
    assert {"class_chi2", "memorised", "train_nearest", "chi2_gauss", "diversity"} <= set(second.divergence)
    assert set(second.floor) >= {"memorised", "train_nearest"}
    history = dl.load(tmp_path / "cut")
    assert dl.bounds(history, samples=200).main.reference == "classifier"


def test_damaged_weights_are_named(files, tmp_path):
    run = dl.run(study(files), out=tmp_path / "run")
    next(run)
    run.close()
    weights = tmp_path / "run/features/classifier.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(CorruptFileError, match=r"classifier.safetensors is missing, truncated or was changed"):
        list(dl.resume(tmp_path / "run"))


def test_a_network_of_the_user(files, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class Means(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(-1, -2)).flatten(1)\n"
    )
    features = f"{tmp_path / 'mine.py'}:Means"
    records = list(dl.run(study(files, features), out=tmp_path / "run"))
    assert all(e.n == 100 for k, e in records[0].divergence.items() if k == "mmd2")
    assert dl.Study.from_config(dl.load(tmp_path / "run").config).measures.features == features
    assert (tmp_path / "run/features/cache").is_dir()
    assert not (tmp_path / "run/features/classifier.json").exists()


def test_copies_of_training_rows_are_caught_in_a_run(files):
    class Parrot:
        """Returns its training rows."""

        def __init__(self, rows):
            self.rows = rows

        def sample(self, n, g):
            return self.rows[torch.randint(len(self.rows), (n,), generator=g)]

        def state(self):
            return {"rows": self.rows}

    class Copying:
        def fit(self, data, context):
            return Parrot(data)

        def load(self, state, shape):
            return Parrot(state["rows"])

        def config(self):
            return {"kind": "parrot"}

    base = study(files, "pca")
    (record,) = dl.run(base.model_copy(update={"estimator": Copying(), "generations": 1}))
    assert record.divergence["memorised"].low > 0.9
    assert record.divergence["train_nearest"].low > 0.5 > record.floor["train_nearest"].low
    (honest,) = dl.run(base.model_copy(update={"generations": 1}))
    assert honest.divergence["memorised"].low <= 0.011


def test_a_collapsed_generator_lowers_recall_not_precision(files):
    """Real rows of one class of three, in the classifier's features; the differences are far above sampling error."""
    setting = Setting(study(files))
    source = as_source(setting.study.source)
    fresh = source.draw(2000, generator(1, "fresh"))
    reference = setting.reference
    all_, one = reference.compare(fresh.x[:100]), reference.compare(fresh.x[fresh.y == 1][:100])
    assert one["precision"].value > all_["precision"].value - 0.1
    assert one["recall"].value < all_["recall"].value - 0.3
    assert one["class_chi2"].low > 1.0  # shares (0, 1, 0) against thirds: 2
    assert all_["class_chi2"].low <= 0.0 <= all_["class_chi2"].high
    for key in ("diversity", "effective_number"):
        assert one[key].high < all_[key].low


class TestBadInput:
    def test_unknown(self, files):
        for features, message in (
            ("clasifier", "unknown features 'clasifier'. Did you mean 'classifier'"),
            ({"kind": "classifier", "witdh": 3}, "no setting 'witdh'. Did you mean 'width'"),
            ({"kind": "onyx"}, "Did you mean 'onnx'"),
            (7, "measures.features is a int"),
            ({"kind": "onnx", "path": "x", "scal": 1}, "Did you mean 'scale'"),
        ):
            with pytest.raises(ConfigError, match=message):
                study(files, features)

    def test_nothing_is_written(self, files, tmp_path):
        bad = study(files, str(tmp_path / "none.onnx"))
        with pytest.raises(DataNotFoundError, match="there is no network file"):
            dl.run(bad, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_no_labels(self, tmp_path):
        np.save(tmp_path / "x.npy", stripes(400)[0])
        source = ArraySource.from_file(tmp_path / "x.npy")
        with pytest.raises(ConfigError, match=r"classifier needs labelled rows and x\.npy has no labels"):
            dl.run(dl.Study(source=source, estimator=dl.GaussianMLE(), policy=0.5, samples=50,
                            measures={"features": "classifier"}))  # fmt: skip

    def test_vectors(self):
        target = dl.GaussianMixture.paper()
        with pytest.raises(InputError, match=r"needs images and gmm has rows of shape \[10\]"):
            dl.run(dl.Study(source=target, estimator=dl.KDE(0.6), policy=0.5, measures={"features": "classifier"}))
