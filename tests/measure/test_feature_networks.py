import os
import sys
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from driftlaw.errors import ConfigError, DataNotFoundError, InputError
from driftlaw.measure.features.cache import CachedNetwork, FeatureCache
from driftlaw.measure.features.fitted import FeatureMap
from driftlaw.measure.features.network import FeatureNetwork, FeatureSpace, Preprocessing, hash_tensors
from driftlaw.measure.features.network_kinds import build, describe
from driftlaw.seeding import generator

SHAPE = (1, 8, 8)


def net(seed=0):
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    g = generator(seed, "net")
    with torch.no_grad():
        for p in module.parameters():
            p.normal_(generator=g)
    return module


@pytest.fixture(scope="module")
def quiet_net():
    with torch.random.fork_rng():
        return net()


def images(n=10, shape=SHAPE, seed=0):
    return 2 * torch.rand(n, *shape, generator=generator(seed, "images")) - 1


@pytest.fixture(autouse=True)
def _restore_random_state():
    with torch.random.fork_rng():  # torch's layers draw their first weights from the global stream
        yield


class TestNetwork:
    def test_protocol(self, quiet_net):
        phi = FeatureNetwork.from_module(quiet_net, SHAPE, name="mine")
        assert isinstance(phi, FeatureSpace)
        assert (phi.name, phi.dimension) == ("mine", 16)
        out = phi(images(7))
        assert out.shape == (7, 16)
        assert out.dtype == torch.float64
        assert torch.equal(out, quiet_net(images(7)).detach().double())
        assert phi(images(0)).shape == (0, 16)

    def test_batches_do_not_matter(self, quiet_net):
        one = FeatureNetwork.from_module(quiet_net, SHAPE, batch=3)
        assert torch.allclose(one(images(10)), FeatureNetwork.from_module(quiet_net, SHAPE)(images(10)), atol=1e-6)

    def test_fingerprint_is_of_content(self):
        same, other = net(0), net(1)
        prints = [FeatureNetwork.from_module(m, SHAPE).fingerprint for m in (net(0), same, other)]
        assert prints[0] == prints[1] != prints[2]
        with torch.no_grad():
            same[0].bias[0] += 1e-3
        assert FeatureNetwork.from_module(same, SHAPE).fingerprint != prints[0]
        scaled = FeatureNetwork.from_module(net(0), SHAPE, preprocessing=Preprocessing(scale=255))
        assert scaled.fingerprint != prints[0]

    def test_preprocessing_is_the_formula(self):
        g = Preprocessing(channels=3, scale=255, mean=(127, 0, 0), std=(128, 1, 2))
        x = torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
        out = g(x)[:, :, 0, 0]
        expected = torch.tensor([[-127 / 128, 0, 0], [0.5 / 128, 127.5, 63.75], [1, 255, 127.5]])
        assert torch.allclose(out, expected)
        assert Preprocessing(size=4)(torch.ones(2, 1, 8, 8)).shape == (2, 1, 4, 4)
        assert torch.allclose(Preprocessing(size=16)(torch.ones(2, 1, 8, 8)), torch.ones(2, 1, 16, 16))
        corner = -torch.ones(1, 1, 8, 8)
        corner[0, 0, 0, 0] = 1.0
        assert float(Preprocessing(size=2)(corner)[0, 0, 0, 0]) > 0.01, "antialiased: every pixel counts"

    def test_hashes_of_tensors_know_names_and_shapes(self):
        x = torch.zeros(2, 3)
        hashes = {hash_tensors([(name, v)]) for name, v in (("a", x), ("a", x.T), ("b", x), ("a", x.double()))}
        assert len(hashes) == 4

    def test_a_function_needs_a_fingerprint(self):
        with pytest.raises(InputError, match="has no fingerprint"):
            FeatureNetwork.from_module(lambda x: x.flatten(1), SHAPE)
        phi = FeatureNetwork.from_module(lambda x: x.flatten(1), SHAPE, fingerprint="flat-1")
        assert phi.dimension == 64

    def test_maps_whiten_it(self, quiet_net):
        phi = FeatureMap.fit(images(200), FeatureNetwork.from_module(quiet_net, SHAPE, name="mine"), dimension=5)
        z = phi(images(200))
        assert phi.name == "mine"
        assert torch.allclose(torch.cov(z.T), torch.eye(5).double(), atol=1e-8)
        other = FeatureMap.fit(images(200), FeatureNetwork.from_module(net(1), SHAPE, name="mine"), dimension=5)
        assert phi.fingerprint != other.fingerprint


class TestBadNetworks:
    def bad(self, function, shape=SHAPE):
        return FeatureNetwork.from_module(function, shape, fingerprint="f")

    def test_nan_names_the_row(self):
        phi = FeatureNetwork.from_module(
            lambda x: torch.where(x > 0.9, torch.nan, x).flatten(1), SHAPE, fingerprint="f", batch=4
        )
        rows = torch.zeros(10, *SHAPE)
        rows[6, 0, 3, 3] = 1.0
        with pytest.raises(
            InputError, match=r"1 of 4 rows of features that .* returned are NaN or infinite, the first is row 6"
        ):
            phi(rows)

    def test_shapes(self):
        with pytest.raises(InputError, match=r"returned shape \(2, 1, 8, 8\) for 2 images"):
            self.bad(lambda x: x)
        with pytest.raises(InputError, match="returned a tuple for 2 images"):
            self.bad(lambda x: (x, x))
        with pytest.raises(InputError, match=r"returned 3 features for images from row 0 on, 2 before"):
            self.bad(lambda x: torch.zeros(len(x), 2 if len(x) == 2 else 3))(images(5))

    def test_wrong_channels(self, quiet_net):
        with pytest.raises(InputError, match=r"fails on images of shape \(3, 8, 8\)"):
            FeatureNetwork.from_module(quiet_net, (3, 8, 8))
        phi = FeatureNetwork.from_module(quiet_net, SHAPE, preprocessing=Preprocessing(channels=1))
        with pytest.raises(InputError, match=r"images with 3 channels were given to a network for 1"):
            phi(images(2, (3, 8, 8)))

    def test_failed_assertions(self):
        def only(x):
            assert x.shape[-1] == 9, "made for 9 pixels"

        with pytest.raises(InputError, match=r"fails on images of shape \(1, 8, 8\) \(made for 9 pixels"):
            self.bad(only)

    def test_rows(self, quiet_net):
        phi = FeatureNetwork.from_module(quiet_net, SHAPE)
        with pytest.raises(InputError, match=r"needs images \[n, c, h, w\], got shape \(4, 3\)"):
            phi(torch.zeros(4, 3))
        rows = images(4)
        rows[2] = torch.inf
        with pytest.raises(InputError, match="1 of 4 images are NaN or infinite, the first is row 2"):
            phi(rows)
        with pytest.raises(InputError, match=r"needs images and the rows have shape \(5,\)"):
            FeatureNetwork.from_module(quiet_net, (5,))

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
    def test_no_cuda(self, quiet_net):
        for make in (lambda: FeatureNetwork.from_module(quiet_net, SHAPE, device="cuda"),
                     lambda: build("efficientnet-lite0", (1, 28, 28), "cuda")):  # fmt: skip
            with pytest.raises(ConfigError, match="no usable CUDA device"):
                make()

    def test_preprocessing(self):
        with pytest.raises(ConfigError, match="positive"):
            Preprocessing(std=0.0)
        with pytest.raises(ConfigError, match="1 or more"):
            Preprocessing(size=0)


class Twice(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        out = self.module(x)
        return out, 2 * out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("onnx")
        for seed, place in ((1, folder / "other"), (0, folder)):
            place.mkdir(exist_ok=True)
            module = net(seed)
            torch.jit.save(torch.jit.script(module), place / "net.pt")
            for name, batch, axes in (("net", 2, {"x": {0: "n"}}), ("fixed", 4, None)):
                torch.onnx.export(
                    module, (torch.zeros(batch, *SHAPE),), place / f"{name}.onnx", dynamo=False, input_names=["x"],
                    output_names=["features"], dynamic_axes=axes,
                )  # fmt: skip
        torch.onnx.export(
            Twice(module), (torch.zeros(2, *SHAPE),), folder / "twice.onnx", dynamo=False, input_names=["x"],
            output_names=["features", "twice"], dynamic_axes={"x": {0: "n"}},
        )  # fmt: skip
    save_file(module.state_dict(), folder / "weights.safetensors")
    torch.save(module.state_dict(), folder / "weights.pt")
    (folder / "mine.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.SiLU(), nn.AdaptiveAvgPool2d(2), "
        "nn.Flatten())\n"
        "number = 3\n"
    )
    return folder


class TestFiles:
    @pytest.mark.parametrize("file", ["net.pt", "net.onnx", "fixed.onnx"])
    def test_files_give_what_the_module_gives(self, folder, file):
        if file.endswith("onnx"):
            pytest.importorskip("onnxruntime")
        phi = build(str(folder / file), SHAPE)
        assert phi.dimension == 16
        assert torch.allclose(phi(images(6)), net()(images(6)).detach().double(), atol=1e-5)
        assert phi.fingerprint == build(str(folder / file), SHAPE).fingerprint
        assert phi.fingerprint != build(str(folder / "other" / file), SHAPE).fingerprint

    def test_one_of_several_outputs(self, folder):
        pytest.importorskip("onnxruntime")
        config = {"kind": "onnx", "path": str(folder / "twice.onnx")}
        one, two = build(config, SHAPE), build({**config, "output": "twice"}, SHAPE)
        assert torch.allclose(2 * one(images(3)), two(images(3)))
        assert one.fingerprint != two.fingerprint

    def test_own_module_with_weights(self, folder):
        config = {"kind": "module", "module": f"{folder / 'mine.py'}:build", "weights": str(folder / "weights.pt")}
        for name in ("weights.pt", "weights.safetensors"):
            found = build({**config, "weights": str(folder / name)}, SHAPE)(images(3))
            assert torch.allclose(found, net()(images(3)).detach().double(), atol=1e-6)
        state = torch.get_rng_state()
        build({**config, "scale": 1}, SHAPE)
        assert torch.equal(state, torch.get_rng_state())

    def test_pickled_weights_are_refused(self, folder):
        class Evil:
            def __reduce__(self):
                return (os.mkdir, (str(folder / "pickle-was-run"),))

        torch.save({"0.weight": Evil()}, folder / "evil.pt")
        config = {"kind": "module", "module": f"{folder / 'mine.py'}:build", "weights": str(folder / "evil.pt")}
        with pytest.raises(InputError, match=r"weights .*evil.pt do not fit"):
            build(config, SHAPE)
        assert not (folder / "pickle-was-run").exists()

    def test_a_package_that_is_broken(self, folder, monkeypatch):
        """As a torchvision that was built for another torch, which raises a RuntimeError."""
        (folder / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
        monkeypatch.delitem(sys.modules, "timm", raising=False)
        monkeypatch.syspath_prepend(folder)
        with pytest.raises(ConfigError, match=r"cannot be imported \(operator torchvision::nms does not exist\)"):
            build("dinov2", (3, 28, 28))

    def test_bad_files(self, folder):
        for name, kind in (("bad.onnx", "not a usable ONNX file"), ("bad.pt", "not a TorchScript file")):
            (folder / name).write_bytes(b"nothing of the kind")
            with pytest.raises(InputError, match=kind):
                build(str(folder / name), SHAPE)
        with pytest.raises(DataNotFoundError, match="no network file"):
            build(str(folder / "none.onnx"), SHAPE)
        with pytest.raises(InputError, match=r"net.onnx fails on images of shape \(3, 8, 8\)"):
            build(str(folder / "net.onnx"), (3, 8, 8))
        with pytest.raises(ConfigError, match=r"no output 'feature'. Did you mean 'features'"):
            build({"kind": "onnx", "path": str(folder / "net.onnx"), "output": "feature"}, SHAPE)
        for attribute in ("nothing", "number"):
            with pytest.raises(ConfigError, match="cannot be made"):
                build(f"{folder / 'mine.py'}:{attribute}", SHAPE)

    def test_descriptions(self):
        for ending in ("pt", "pts", "ts", "PT"):
            assert describe(f"a/b.{ending}") == {"kind": "torchscript", "path": f"a/b.{ending}"}
        for features, message in (
            ("efficientnet", "Did you mean 'efficientnet-lite0'"),
            ({"kind": "onnx"}, "needs the setting 'path'"),
            ({"kind": "onnx", "path": "x", "siz": 3}, "no setting 'siz'. Did you mean 'size'"),
            ({"kind": "onnx", "path": 3}, "path = 3"),
            ({"kind": "onnx", "path": "x", "std": 0}, "positive"),
            ({"kind": "onnx", "path": "x", "mean": "grey"}, "one number a channel"),
        ):
            with pytest.raises(ConfigError, match=message):
                describe(features)

    @pytest.mark.parametrize(("kind", "package"), [("dinov2", "timm"), ("inception", "torch-fidelity")])
    def test_missing_packages_say_how_to_install_them(self, kind, package):
        module = package.replace("-", "_")
        try:
            __import__(module)
        except ImportError:
            with pytest.raises(ConfigError, match=f"python -m pip install {package}"):
                build(kind, (3, 32, 32))

    def test_efficientnet(self):
        pytest.importorskip("efficientnet_lite_pytorch")
        phi = build("efficientnet-lite0", (1, 28, 28))
        out = phi(images(4, (1, 28, 28)))
        assert out.shape == (4, 1280)
        assert phi.preprocessing == Preprocessing(channels=3, size=64, scale=255, mean=127, std=128)
        own = build({"kind": "efficientnet-lite0", "mean": 0.5}, (1, 28, 28)).preprocessing
        assert own == Preprocessing(channels=3, size=64, mean=0.5), "scale, mean and std belong together"
        assert float(out.std()) > 0.1
        grey = images(2, (1, 28, 28))
        assert torch.allclose(phi(grey), phi(grey.expand(-1, 3, -1, -1)))


class TestCache:
    def counted(self):
        calls = []

        def function(x):
            calls.append(len(x))
            return x.flatten(1) * 1.5

        return FeatureNetwork.from_module(function, SHAPE, fingerprint="f"), calls

    def test_computed_once_by_content(self, tmp_path):
        phi, calls = self.counted()
        cached = CachedNetwork(phi, FeatureCache(tmp_path / "cache"))
        calls.clear()
        x = images(5)
        first = cached(x)
        assert torch.equal(first, cached(x.clone()))
        assert calls == [5]
        changed = x.clone()
        changed[4, 0, 0, 0] += 1e-6
        assert not torch.equal(cached(changed), first)
        assert calls == [5, 5]
        assert (cached.name, cached.dimension, cached.fingerprint) == (phi.name, 64, phi.fingerprint)

    def test_network_is_part_of_the_key(self, tmp_path):
        cache = FeatureCache(tmp_path)
        a = FeatureNetwork.from_module(net(0), SHAPE)
        b = FeatureNetwork.from_module(net(1), SHAPE)
        assert not torch.equal(cache(a, images(3)), cache(b, images(3)))

    def test_shape_is_part_of_the_key(self):
        phi, _ = self.counted()
        assert FeatureCache.key(phi, torch.zeros(2, 1, 2, 4)) != FeatureCache.key(phi, torch.zeros(2, 1, 4, 2))

    @pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
    def test_damage_is_seen_and_computed_again(self, tmp_path, damage):
        phi, calls = self.counted()
        cache = FeatureCache(tmp_path)
        right = cache(phi, images(5))
        (entry,) = tmp_path.iterdir()
        data = bytearray(entry.read_bytes())
        if damage == "flip":
            data[-3] ^= 1
        entry.write_bytes({"cut": data[: len(data) // 2], "flip": data, "empty": b""}[damage])
        calls.clear()
        assert torch.equal(cache(phi, images(5)), right)
        assert calls == [5]
        assert torch.equal(cache(phi, images(5)), right)
        assert calls == [5], "the repaired entry is whole"

    def test_double_precision_survives(self, tmp_path):
        phi = FeatureNetwork.from_module(lambda x: x.flatten(1).double() / 3, SHAPE, fingerprint="d")
        cache = FeatureCache(tmp_path)
        assert torch.equal(cache(phi, images(3)), cache(phi, images(3)))
        assert torch.equal(cache(phi, images(3)), images(3).flatten(1).double() / 3)

    def test_bounded(self, tmp_path):
        phi, _ = self.counted()
        cache = FeatureCache(tmp_path, limit_bytes=4000)
        for seed in range(5):
            cache(phi, images(5, seed=seed))
        assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 4000
        assert FeatureCache.key(phi, images(5, seed=4)) in {p.stem for p in tmp_path.iterdir()}

    def test_the_entry_used_longest_ago_goes_first_and_the_newest_never(self, tmp_path):
        phi, _ = self.counted()
        size = 3 * 64 * 4 + 600  # an entry is a little more than its numbers
        cache = FeatureCache(tmp_path, limit_bytes=2 * size)
        a, b, c = (images(3, seed=seed) for seed in range(3))
        for age, x in ((200, a), (100, b)):
            cache(phi, x)
            os.utime(tmp_path / f"{cache.key(phi, x)}.safetensors", (1e9 - age, 1e9 - age))
        cache(phi, a)
        cache(phi, c)
        assert {p.stem for p in tmp_path.iterdir()} == {cache.key(phi, x) for x in (a, c)}
        FeatureCache(tmp_path, limit_bytes=10)(phi, b)
        assert [p.stem for p in tmp_path.iterdir()] == [cache.key(phi, b)]

    def test_an_entry_of_another_shape_is_computed_again(self, tmp_path):
        phi, _ = self.counted()
        cache, x, y = FeatureCache(tmp_path), images(3), images(2)
        cache(phi, x)
        (tmp_path / f"{cache.key(phi, x)}.safetensors").rename(tmp_path / f"{cache.key(phi, y)}.safetensors")
        assert torch.equal(cache(phi, y), phi(y))

    def test_nothing_is_written_when_the_network_fails(self, tmp_path):
        phi, _ = self.counted()
        with pytest.raises(InputError):
            FeatureCache(tmp_path / "cache")(phi, images(3) * np.nan)
        assert not (tmp_path / "cache").exists()
