"""timm, DINOv2 and Inception with files of random weights; skipped without the packages, which need torchvision."""

import pytest
import torch

from driftlaw.errors import ConfigError, DataNotFoundError, InputError
from driftlaw.measure.features.network_kinds import build
from driftlaw.seeding import generator

DINO = "vit_small_patch14_dinov2"


def package(name):
    try:
        return pytest.importorskip(name)
    except RuntimeError as error:  # a torchvision built for another torch
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with torch.random.fork_rng():  # the packages draw first weights from the global stream
        yield


def images(n=3, shape=(1, 28, 28)):
    return 2 * torch.rand(n, *shape, generator=generator(0, "images")) - 1


def saved(state, path):
    torch.save(state, path)
    return str(path)


class TestTimm:
    @pytest.mark.parametrize(("model", "side", "middle"), [("test_efficientnet", 160, None), ("test_vit", 160, 0.5)])
    def test_features_are_what_comes_before_the_classifier(self, tmp_path, model, side, middle):
        net = package("timm").create_model(model, num_classes=7).eval()
        weights = saved(net.state_dict(), tmp_path / "with-classifier.pt")
        phi = build({"kind": "timm", "model": model, "weights": weights}, (1, 28, 28))
        assert (phi.preprocessing.channels, phi.preprocessing.size) == (3, side)
        if middle is not None:
            assert set(phi.preprocessing.mean) == set(phi.preprocessing.std) == {middle}
        x = phi.preprocessing(images())
        with torch.no_grad():
            expected = net.forward_head(net.forward_features(x), pre_logits=True).double()
        assert torch.allclose(phi(images()), expected, atol=1e-5)
        headless = {k: v for k, v in net.state_dict().items() if not k.startswith(("head.", "classifier."))}
        again = {"kind": "timm", "model": model, "weights": saved(headless, tmp_path / "without.pt")}
        assert build(again, (1, 28, 28)).fingerprint == phi.fingerprint

    def test_size_reaches_networks_of_fixed_size(self, tmp_path):
        net = package("timm").create_model("test_vit")
        config = {"kind": "timm", "model": "test_vit", "weights": saved(net.state_dict(), tmp_path / "vit.pt")}
        phi = build({**config, "size": 32}, (3, 32, 32))
        assert phi.preprocessing.size == 32
        assert phi(images(2, (3, 32, 32))).shape == (2, 64)
        with pytest.raises(ConfigError, match=r"patches of 16 pixels and size is 40. Set size to a multiple, such as"):
            build({**config, "size": 40}, (3, 32, 32))

    def test_bad_input(self, tmp_path):
        timm = package("timm")
        state = timm.create_model("test_vit").state_dict()
        weights = saved(state, tmp_path / "vit.pt")
        with pytest.raises(ConfigError, match=r"no model 'tset_vit'.*\['test_vit'"):
            build({"kind": "timm", "model": "tset_vit", "weights": weights}, (1, 28, 28))
        with pytest.raises(ConfigError, match=r"no weights 'test_vit.tag'"):
            build({"kind": "timm", "model": "test_vit.tag", "weights": weights}, (1, 28, 28))
        del state["blocks.3.mlp.fc1.weight"]
        for name, wrong, message in (
            ("cut", state, r"Missing key\(s\) in state_dict: \"blocks.3.mlp.fc1.weight\""),
            ("empty", {}, "not a mapping from names to tensors"),
            ("number", {"step": 3}, "not a mapping from names to tensors"),
        ):
            config = {"kind": "timm", "model": "test_vit", "weights": saved(wrong, tmp_path / f"{name}.pt")}
            with pytest.raises(InputError, match=message):
                build(config, (1, 28, 28))

    def test_weights_that_cannot_be_had(self):
        package("timm")
        with pytest.raises(DataNotFoundError, match=r"resnet10t are not on this machine .* name the file: weights"):
            build({"kind": "timm", "model": "resnet10t"}, (1, 28, 28))


class TestDinov2:
    def test_files_of_timm_and_of_the_authors(self, tmp_path):
        """Both hold positions for 518 pixels; the authors' also holds the token of masked patches."""
        state = package("timm").create_model(DINO, num_classes=0).state_dict()
        files = {"timm": state, "authors": {**state, "mask_token": torch.zeros(1, 384)}}
        found = [
            build({"kind": "dinov2", "weights": saved(s, tmp_path / f"{name}.pth"), "size": 28}, (1, 28, 28))
            for name, s in files.items()
        ]
        assert found[0].fingerprint == found[1].fingerprint
        assert found[0](images()).shape == (3, 384)
        assert found[0].preprocessing.mean == (0.485, 0.456, 0.406)

    def test_size_is_224(self, tmp_path):
        state = package("timm").create_model(DINO, num_classes=0, img_size=224).state_dict()
        phi = build({"kind": "dinov2", "weights": saved(state, tmp_path / "dino.pth")}, (1, 28, 28))
        assert (phi.preprocessing.size, phi.dimension) == (224, 384)


class TestInception:
    def weights(self, folder):
        module = package("torch_fidelity.feature_extractor_inceptionv3")

        class Blank(module.FeatureExtractorInceptionV3):
            def load_state_dict(self, state):
                """Keep the first weights."""

        empty = saved({}, folder / "empty.pth")
        net = Blank("inception-v3-compat", ["2048"], feature_extractor_weights_path=empty)
        return net, saved(net.state_dict(), folder / "inception.pth")

    def test_bytes_go_in(self, tmp_path):
        net, weights = self.weights(tmp_path)
        phi = build({"kind": "inception", "weights": weights}, (3, 16, 16))
        x = images(2, (3, 16, 16))
        expected = net(((x + 1) * 127.5).round().to(torch.uint8))[0].double()
        assert expected.shape == (2, 2048)
        assert torch.allclose(phi(x), expected, rtol=1e-6, atol=0.0)

    def test_nothing_is_unpickled(self, tmp_path):
        package("torch_fidelity.feature_extractor_inceptionv3")

        class Evil:
            def __reduce__(self):
                return (saved, ({}, tmp_path / "pickle-was-run"))

        weights = saved({"conv.weight": Evil()}, tmp_path / "evil.pth")
        with pytest.raises(InputError, match=r"evil.pth do not fit"):
            build({"kind": "inception", "weights": weights}, (3, 16, 16))
        assert not (tmp_path / "pickle-was-run").exists()
