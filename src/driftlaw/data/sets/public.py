r"""Fashion-MNIST and CIFAR-10: where they are looked for, how they are read, how they are fetched.

Looked for in this order: ``$DRIFTLAW_DATA``, Debian's data set folder, a torchvision root at ``./data``, the cache of
earlier downloads; then downloaded from the official addresses, with SHA-256 checked. Besides the official files, forms
of other libraries are read: torchvision's, Keras's .npz, Hugging Face's parquet and arrow, folders of images. The
official test set is the held-out part, so a fit never sees it. References: Xiao, Rasul, Vollgraf, arXiv 1708.07747
(Fashion-MNIST); Krizhevsky, "Learning multiple layers of features from tiny images", 2009 (CIFAR-10).
"""

from __future__ import annotations

import logging
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from driftlaw.data.finite import Array, FiniteSource
from driftlaw.data.images import read_images
from driftlaw.data.rows.places import damaged
from driftlaw.data.sets import huggingface
from driftlaw.data.sets.fetch import fetch
from driftlaw.data.sets.formats import read_cifar_binary, read_idx
from driftlaw.data.stored import read_table
from driftlaw.errors import DataNotFoundError, InputError
from driftlaw.progress import Progress, silent

DEBIAN = Path("/usr/share/datasets")
TORCHVISION = Path("data")
#: CIFAR-10's python version: pickles, which are never loaded.
PICKLED = "cifar-10-batches-py"


class Parts(NamedTuple):
    """Official split: images ``[n, c, h, w]`` uint8 and labels ``[n]``."""

    x: Array
    y: Array
    x_test: Array
    y_test: Array


@dataclass(frozen=True)
class Form:
    """One way in which a data set lies in a folder: a relative path, what must be there, and its reader."""

    path: str
    needs: tuple[str, ...]
    read: Callable[[Path], Parts]
    patterns: tuple[str, ...] = ()

    def is_at(self, root: Path) -> bool:
        """Whether `root` holds the data set in this form; a file may be gzipped, a pattern must match something."""
        place = root / self.path
        if not (place.exists() and all((place / f).exists() or (place / f"{f}.gz").exists() for f in self.needs)):
            return False
        return all(next(place.glob(p), None) is not None for p in self.patterns)

    def __str__(self) -> str:
        return "/".join([self.path, *self.patterns[:1]])


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    Args:
        name: its name in driftlaw.
        shape: of one image.
        sizes: rows of the official training and test sets.
        classes: names in the order of the labels.
        forms: how it may lie in a folder, preferred first.
        downloads: pairs of address and SHA-256.
        folder: where downloads go, below the cache.
        package: Debian package that holds it, or "".
    """

    name: str
    shape: tuple[int, int, int]
    sizes: tuple[int, int]
    classes: tuple[str, ...]
    forms: tuple[Form, ...]
    downloads: tuple[tuple[str, str], ...]
    folder: str
    package: str = ""


def cache() -> Path:
    """Folder of downloads: ``$XDG_CACHE_HOME/driftlaw`` or ``~/.cache/driftlaw``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "driftlaw"


def roots() -> list[Path]:
    """Folders to look in, in order."""
    own = os.environ.get("DRIFTLAW_DATA")
    return [*([Path(own).expanduser()] if own else []), DEBIAN, TORCHVISION, cache()]


def locate(public: PublicSet) -> tuple[Path, Form] | None:
    """Where the data set lies and in which form, or None."""
    return next(((root / f.path, f) for root in roots() for f in public.forms if f.is_at(root)), None)


def obtain(public: PublicSet, progress: Progress = silent) -> tuple[Path, Form]:
    """Find the data set, or download it into the cache.

    Raises:
        DataNotFoundError: it is not here and cannot be downloaded; the message lists every way to provide it.
        StorageError: the cache is not writable.
    """
    if (found := locate(public)) is not None:
        return found
    logging.getLogger(__name__).warning("downloading %s to %s", public.name, cache() / public.folder)
    try:
        for url, sha256 in public.downloads:
            path = fetch(url, cache() / public.folder / url.rpartition("/")[2], sha256, progress)
            if path.name.endswith(".tar.gz"):
                _unpack(path, public.forms[0])
    except DataNotFoundError as error:
        pickled = [root / PICKLED for root in roots() if public.name == "cifar10" and (root / PICKLED).exists()]
        hint = f"; {pickled[0]} is pickled and is not read: take CIFAR-10's binary version" if pickled else ""
        debian = f"install Debian's package {public.package}; " if public.package else ""
        places = ", ".join(map(str, public.forms))
        raise DataNotFoundError(
            f"{public.name} is not on this machine; looked in {', '.join(map(str, roots()))} for {places}; "
            f"the download failed: {error.what}{hint}",
            f"do one of these: set DRIFTLAW_DATA to a folder that holds one of {places}; {debian}"
            f"{'' if public.name == 'cifar10' else f'put a torchvision root at ./{TORCHVISION}; '}"
            f"or run `driftlaw data fetch {public.name}` with a network that reaches {public.downloads[0][0]}",
        ) from None
    if (found := locate(public)) is None:
        raise damaged(cache() / public.folder, "files are missing after the download")
    return found


def load(public: PublicSet) -> FiniteSource:
    """The data set as a source: official training set to draw from, official test set held out."""
    _, form = found = obtain(public)
    parts = form.read(found[0])
    for x, y in ((parts.x, parts.y), (parts.x_test, parts.y_test)):
        if x.dtype != np.uint8 or x.shape[1:] != public.shape or y.shape != (len(x),) or not len(x):
            raise damaged(found[0], f"{x.dtype} images {x.shape} with labels {y.shape} are not {public.name}")
        if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= len(public.classes):
            raise damaged(found[0], f"labels are not 0 to {len(public.classes) - 1}")
    n = len(parts.x)
    return FiniteSource(
        public.name,
        np.concatenate([parts.x, parts.x_test]),
        np.arange(n),
        np.arange(n, n + len(parts.x_test)),
        location=127.5,
        scale=127.5,
        labels=torch.from_numpy(np.concatenate([parts.y, parts.y_test]).astype(np.int64)),
        classes=public.classes,
        recipe={"kind": public.name},
    )


def _unpack(path: Path, form: Form) -> None:
    """Write the wanted members of an archive, and only them, beside it; then remove the archive."""
    folder = path.parent / form.path
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as name, tarfile.open(path) as archive:
            part = Path(name) / "part"
            part.mkdir()
            for wanted in form.needs:
                member = archive.extractfile(f"{form.path}/{wanted}")
                if member is None:
                    raise damaged(path, f"{wanted} is not a file")
                (part / wanted).write_bytes(member.read())
            part.rename(folder)
    except (tarfile.TarError, KeyError, EOFError, zlib.error) as error:
        raise damaged(path, error) from None
    path.unlink()


def _read_fashion(folder: Path) -> Parts:
    def idx(name: str) -> Array:
        plain = folder / name
        return read_idx(plain if plain.exists() else folder / f"{name}.gz")

    x, y, x_test, y_test = (idx(name) for name in _FASHION)
    if x.ndim != 3 or x_test.ndim != 3:
        raise damaged(folder, f"images of shape {x.shape} and {x_test.shape} are not [n, h, w]")
    return Parts(x[:, None], y, x_test[:, None], y_test)


def _read_cifar(folder: Path) -> Parts:
    train = [read_cifar_binary(folder / f"data_batch_{i}.bin") for i in range(1, 6)]
    x, y = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return Parts(x, y, *read_cifar_binary(folder / "test_batch.bin"))


def _read_cifar_npz(path: Path) -> Parts:
    train, test = (read_table(path, key=f"x_{part}", label=f"y_{part}") for part in ("train", "test"))
    x, x_test = (t.values.transpose(0, 3, 1, 2) if t.values.shape[-1:] == (3,) else t.values for t in (train, test))
    y, y_test = (np.asarray(t.labels).reshape(-1) for t in (train, test))
    return Parts(x, y, x_test, y_test)


def _read_cifar_images(folder: Path) -> Parts:
    parts = []
    for part in ("train", "test"):
        images = read_images(folder / part, mode="RGB")
        if images.labels is None or set(images.labels) - set(_CIFAR_CLASSES):
            raise InputError(
                f"{folder / part} has no folders named by class", f"name its folders {', '.join(_CIFAR_CLASSES)}"
            )
        number = np.array([_CIFAR_CLASSES.index(name) for name in images.labels])
        parts += [images.values, number]
    return Parts(*parts)


def _huggingface(path: str, form: str) -> Form:
    train, test = huggingface.patterns(form)

    def read(folder: Path) -> Parts:
        return Parts(*huggingface.read_part(folder, train), *huggingface.read_part(folder, test))

    return Form(path, (), read, (train, test))


_FASHION = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_FASHION_URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
_FASHION_SHA256 = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")

FASHION_MNIST = PublicSet(
    "fashion-mnist",
    (1, 28, 28),
    (60_000, 10_000),
    ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    (
        Form("fashion-mnist", _FASHION, _read_fashion),
        Form("FashionMNIST/raw", _FASHION, _read_fashion),
        _huggingface("fashion_mnist", huggingface.PARQUET),
        _huggingface("fashion_mnist", huggingface.ARROW),
    ),
    tuple((f"{_FASHION_URL}/{name}.gz", sha) for name, sha in zip(_FASHION, _FASHION_SHA256, strict=True)),
    folder="fashion-mnist",
    package="dataset-fashion-mnist",
)
CIFAR10 = PublicSet(
    "cifar10",
    (3, 32, 32),
    (50_000, 10_000),
    _CIFAR_CLASSES,
    (
        Form(
            "cifar-10-batches-bin",
            tuple(f"{b}.bin" for b in _BATCHES),
            _read_cifar,
        ),
        Form("cifar10.npz", (), _read_cifar_npz),
        _huggingface("cifar10", huggingface.PARQUET),
        _huggingface("cifar10", huggingface.ARROW),
        Form("cifar10", ("train", "test"), _read_cifar_images),
    ),
    (
        (
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    folder="",
)
PUBLIC = {b.name: b for b in (FASHION_MNIST, CIFAR10)}
