"""Public sets: their formats, where they are found, how they are fetched, and that a hostile pickle is never run."""

import dataclasses
import gzip
import hashlib
import io
import shutil
import struct
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import driftlaw as dl
from driftlaw.data import build, cifar10, digits, fashion_mnist, fetch_named
from driftlaw.data.sets import public
from driftlaw.data.sets.fetch import fetch
from driftlaw.data.sets.formats import read_cifar_binary, read_idx
from driftlaw.errors import ConfigError, DataNotFoundError, InputError, StorageError
from driftlaw.seeding import generator, numpy_generator


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """A machine without data sets and without network."""
    monkeypatch.setattr(public, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(public, "TORCHVISION", tmp_path / "data")
    monkeypatch.setenv("DRIFTLAW_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def offline(url, *rest):
        raise DataNotFoundError(f"{url} cannot be downloaded (offline)", "check the network")

    monkeypatch.setattr(public, "fetch", offline)
    return tmp_path


def images(n, *shape, seed=0):
    return numpy_generator(seed, "images").integers(0, 256, (n, *shape), dtype=np.uint8)


def labels(n):
    return (np.arange(n) * 7 % 10).astype(np.uint8)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_fashion(folder: Path, zipped: bool, n=8, n_test=5):
    folder.mkdir(parents=True)
    content = (images(n, 28, 28), labels(n), images(n_test, 28, 28, seed=1), labels(n_test))
    for name, array in zip(public._FASHION, content, strict=True):
        data = idx(array)
        (folder / f"{name}{'.gz' if zipped else ''}").write_bytes(gzip.compress(data) if zipped else data)
    return content


# ---------------------------------------------------------------------------------------------------------- digits


def test_digits():
    source = digits()
    assert (source.size, source.held_out_size, source.shape) == (1200, 597, (1, 8, 8))
    batch = source.draw(1200, generator(0, "d"))
    assert batch.x.aminmax() == (-1.0, 1.0)
    assert len(batch.y.unique()) == 10
    assert bool(((batch.x + 1) * 8 == ((batch.x + 1) * 8).round()).all())
    held = source.held_out(597, generator(0, "h")).x
    rows = {r.tobytes() for r in torch.cat([batch.x, held]).numpy()}
    assert len(rows) == 1797, "all digits are different, so both parts together must be all of them"
    for config in ({"kind": "digits"}, {"kind": "digits", "held_out": 0.5, "seed": 3}):
        rebuilt = build(config)
        assert build(rebuilt.config()).config() == rebuilt.config()
    assert build({"kind": "digits"}).config() == source.config() == {"kind": "digits", "held_out": 597, "seed": 0}


# ------------------------------------------------------------------------------------------------------------- IDX


def test_idx_reads_what_was_written(tmp_path):
    x = images(3, 4, 5)
    (tmp_path / "a").write_bytes(idx(x))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(x)))
    assert (read_idx(tmp_path / "a") == x).all()
    assert (read_idx(tmp_path / "a.gz") == x).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b[:3], "starts with 00 00 08"),
        (lambda b: b"\x00\x00\x0d" + b[3:], "this one with 00 00 0d"),
        (lambda b: b[:10], "header is incomplete"),
        (lambda b: b[:-1], "says 3 x 4 x 5, 76 bytes; it has 75"),
        (lambda b: b + b"x", "it has 77"),
        (lambda b: b[:4] + b"\xff" * 12 + b[16:], "79228162458924105385300197391 bytes; it has 76"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path, change, words):
    for suffix, pack in (("", bytes), (".gz", gzip.compress)):
        path = tmp_path / f"train{suffix}"
        path.write_bytes(pack(change(idx(images(3, 4, 5)))))
        with pytest.raises(InputError, match=rf"train{suffix} cannot be read, it is damaged or incomplete.*{words}"):
            read_idx(path)


def test_a_truncated_gzip_file_is_named(tmp_path):
    path = tmp_path / "train.gz"
    whole = gzip.compress(idx(images(30, 4, 5)))
    for content in (whole[:-9], whole[:300], whole[:5], b"", b"plain text", whole[:100] + b"\0\0\0\0" + whole[104:]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"train.gz cannot be read, it is damaged or incomplete"):
            read_idx(path)


# --------------------------------------------------------------------------------------------------- Fashion-MNIST


@pytest.mark.parametrize(
    "place", ["own/fashion-mnist", "debian/fashion-mnist", "data/FashionMNIST/raw", "cache/driftlaw/fashion-mnist"]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_fashion_mnist_is_found(nothing_here, place, zipped):
    x, y, x_test, y_test = write_fashion(nothing_here / place, zipped)
    source = fashion_mnist()
    batch = source.rows(torch.arange(8))
    assert (source.restore(batch.x).round().byte().numpy()[:, 0] == x).all()
    assert batch.y.tolist() == y.tolist()
    held = source.held_out(5, generator(0, "h"))
    assert {r.tobytes() for r in source.restore(held.x).round().byte().numpy()} == {r.tobytes() for r in x_test}
    assert sorted(held.y.tolist()) == sorted(y_test.tolist())
    assert source.classes[9] == "ankle boot"
    assert build(source.config()).config() == {"kind": "fashion-mnist"}


def test_the_order_of_the_places(nothing_here):
    places = [
        "cache/driftlaw/fashion-mnist",
        "data/FashionMNIST/raw",
        "debian/fashion-mnist",
        "own/FashionMNIST/raw",
        "own/fashion-mnist",
    ]
    for place in places:
        write_fashion(nothing_here / place, zipped=True)
        assert fetch_named("fashion-mnist") == str(nothing_here / place)


def test_a_wrong_fashion_mnist_is_refused(nothing_here):
    folder = nothing_here / "own/fashion-mnist"
    write_fashion(folder, zipped=False)
    (folder / public._FASHION[1]).write_bytes(idx(labels(7)))
    with pytest.raises(InputError, match=r"fashion-mnist .* is damaged.*labels \(7,\)"):
        fashion_mnist()
    (folder / public._FASHION[1]).write_bytes(idx(labels(8) + 1))
    with pytest.raises(InputError, match="labels are not 0 to 9"):
        fashion_mnist()
    (folder / public._FASHION[0]).write_bytes(idx(images(8, 32, 32)))
    with pytest.raises(InputError, match=r"\(8, 1, 32, 32\)"):
        fashion_mnist()


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10"])
def test_not_found_lists_every_way(nothing_here, name):
    with pytest.raises(DataNotFoundError, match="not on this machine") as e:
        build({"kind": name})
    words = [
        "DRIFTLAW_DATA",
        str(nothing_here / "own"),
        f"driftlaw data fetch {name}",
        "offline",
        "https://",
    ]
    words += (
        ["dataset-fashion-mnist", "FashionMNIST/raw", "torchvision"]
        if name == "fashion-mnist"
        else ["cifar-10-batches-bin"]
    )
    assert [w for w in words if w not in str(e.value)] == []
    assert list(nothing_here.iterdir()) == []


real = pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="needs the system package dataset-fashion-mnist"
)


@real
def test_the_real_fashion_mnist(monkeypatch):
    """Published statistics of the 60,000 training images in [0, 1]: mean 0.28604, standard deviation 0.35302."""
    monkeypatch.delenv("DRIFTLAW_DATA", raising=False)
    source = fashion_mnist()
    assert (source.size, source.held_out_size) == (60_000, 10_000)
    total = square = 0.0
    for start in range(0, 60_000, 10_000):
        x = (source.rows(torch.arange(start, start + 10_000)).x.double() + 1) / 2
        total, square = total + float(x.sum()), square + float(x.square().sum())
    n = 60_000 * 784
    assert total / n == pytest.approx(0.28604, abs=5e-6)
    assert (square / n - (total / n) ** 2) ** 0.5 == pytest.approx(0.35302, abs=5e-6)
    assert source._labels.bincount().tolist() == [7000] * 10


# --------------------------------------------------------------------------------------------------------- CIFAR-10


def write_cifar(root, form):
    parts = [(images(3, 3, 32, 32, seed=i), labels(3)) for i in range(6)]
    x, y = np.concatenate([p[0] for p in parts[:5]]), np.concatenate([p[1] for p in parts[:5]])
    if form == "cifar-10-batches-bin":
        (root / form).mkdir(parents=True)
        for name, (a, b) in zip(public._BATCHES, parts, strict=True):
            (root / form / f"{name}.bin").write_bytes(np.hstack([b[:, None], a.reshape(3, -1)]).tobytes())
    elif form == "cifar10.npz":
        root.mkdir(parents=True)
        arrays = {
            "x_train": x.transpose(0, 2, 3, 1),
            "y_train": y[:, None],
            "x_test": parts[5][0],
            "y_test": parts[5][1],
        }
        np.savez(root / form, **arrays)
    else:
        for part, (a, b) in (("train", (x, y)), ("test", parts[5])):
            for i, (pixels, label) in enumerate(zip(a, b, strict=True)):
                folder = root / form / part / public._CIFAR_CLASSES[label]
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{i}.png")
    return x, y, *parts[5]


FORMS = ["cifar-10-batches-bin", "cifar10.npz", "cifar10"]


@pytest.mark.parametrize("form", FORMS)
def test_cifar10_is_read_in_all_its_forms(nothing_here, form):
    x, y, x_test, y_test = write_cifar(nothing_here / "own", form)
    source = cifar10()
    assert (source.shape, source.size, source.held_out_size) == ((3, 32, 32), 15, 3)
    for batch, pixels, number in (
        (source.rows(torch.arange(15)), x, y),
        (source.held_out(3, generator(0, "h")), x_test, y_test),
    ):
        found = {
            (r.tobytes(), int(k)) for r, k in zip(source.restore(batch.x).round().byte().numpy(), batch.y, strict=True)
        }
        assert found == {(r.tobytes(), int(k)) for r, k in zip(pixels, number, strict=True)}
    assert build(source.config()).size == 15


def encoded(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def hf_table(x, y, image="img"):
    """The schema of the hub's cifar10 and fashion_mnist, and of `save_to_disk`."""
    cells = [{"bytes": encoded(p), "path": None} for p in x]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.table({image: pa.array(cells, kind), "label": pa.array(y.astype(np.int64))})


def write_huggingface(folder, form, x, y, x_test, y_test, image="img"):
    if form == "parquet":
        (folder / "plain_text").mkdir(parents=True)
        half = len(x) // 2
        parts = {"train-00000-of-00002": (x[:half], y[:half]), "train-00001-of-00002": (x[half:], y[half:])}
        for name, part in {**parts, "test-00000-of-00001": (x_test, y_test)}.items():
            pq.write_table(hf_table(*part, image), folder / "plain_text" / f"{name}.parquet")
        return
    for part, rows in (("train", (x, y)), ("test", (x_test, y_test))):
        (folder / part).mkdir(parents=True)
        with pa.OSFile(str(folder / part / "data-00000-of-00001.arrow"), "wb") as file:
            table = hf_table(*rows, image)
            with pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table, max_chunksize=4)


@pytest.mark.parametrize("form", ["parquet", "arrow"])
@pytest.mark.parametrize("name", ["cifar10", "fashion-mnist"])
def test_hugging_face_data_sets_are_read(nothing_here, form, name):
    shape = (3, 32, 32) if name == "cifar10" else (1, 28, 28)
    x, x_test = images(15, *shape), images(3, *shape, seed=1)
    y, y_test = labels(15), labels(3)
    folder = nothing_here / "own" / ("cifar10" if name == "cifar10" else "fashion_mnist")
    write_huggingface(folder, form, x, y, x_test, y_test, "img" if name == "cifar10" else "image")
    source = build({"kind": name})
    batch = source.rows(torch.arange(15))
    assert (source.restore(batch.x).round().byte().numpy() == x).all()
    assert batch.y.tolist() == y.tolist()
    held = source.held_out(3, generator(0, "h"))
    assert {r.tobytes() for r in source.restore(held.x).round().byte().numpy()} == {r.tobytes() for r in x_test}
    assert fetch_named(name) == str(folder)


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_wrong_hugging_face_data_sets_are_named(nothing_here, form):
    folder = nothing_here / "own/cifar10"
    parts = [images(6, 3, 32, 32), labels(6), images(3, 3, 32, 32, seed=1), labels(3)]

    def refused(words, change=None, table=None):
        shutil.rmtree(folder, ignore_errors=True)
        write_huggingface(folder, form, *parts)
        path = sorted(folder.rglob("test-*.parquet") if form == "parquet" else folder.glob("test/*.arrow"))[0]
        if table is not None:
            if form == "parquet":
                pq.write_table(table, path)
            else:
                with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
                    stream.write_table(table)
        else:
            path.write_bytes(change(path.read_bytes()))
        with pytest.raises(InputError, match=words):
            cifar10()

    good = hf_table(*parts[2:])
    refused(r"cannot be read, it is damaged or incomplete", change=lambda b: b[: len(b) // 2])
    refused("has the columns label. Expected one of encoded images", table=good.drop_columns(["img"]))
    refused("has the columns img", table=good.drop_columns(["label"]))
    refused(r"mixes grey and RGB images", table=pa.concat_tables([good[:1], hf_table(images(1, 1, 32, 32), labels(1))]))
    refused(r"different sizes", table=pa.concat_tables([good[:1], hf_table(images(1, 3, 16, 16), labels(1))]))
    broken = pa.array([{"bytes": b"no image", "path": None}] * 3, good.schema.field("img").type)
    refused("the image 0 of .* cannot be read", table=good.set_column(0, "img", broken))
    paths = pa.array([{"bytes": None, "path": "a.png"}] * 3, good.schema.field("img").type)
    refused("image 0 of .* is not in the file", table=good.set_column(0, "img", paths))
    missing = pa.array([1, None, 2], pa.int64())
    refused("labels of .* are missing or no whole numbers", table=good.set_column(1, "label", missing))
    refused(r"labels are not 0 to 9", table=good.set_column(1, "label", pa.array([1, 2, 10])))


def photographs(size=32):
    """Patches of the two colour photographs inside scikit-learn, labelled by photograph."""
    from sklearn.datasets import load_sample_images

    patches, photo = [], []
    for number, image in enumerate(load_sample_images().images):
        h, w = (side // size for side in image.shape[:2])
        blocks = image[: h * size, : w * size].reshape(h, size, w, size, 3).transpose(0, 2, 4, 1, 3)
        patches.append(blocks.reshape(-1, 3, size, size))
        photo.append(np.full(h * w, number, np.uint8))
    x, y = np.concatenate(patches), np.concatenate(photo)
    order = numpy_generator(0, "patches").permutation(len(x))
    return np.ascontiguousarray(x[order]), y[order]


def test_a_colour_study_of_real_photographs(nothing_here):
    """CIFAR-10's loader, a U-Net on three channels, refresh, measures and stored samples, on 520 real patches."""
    x, y = photographs()
    assert x.shape == (520, 3, 32, 32)
    write_huggingface(nothing_here / "own/cifar10", "parquet", x[:400], y[:400], x[400:], y[400:])
    unet = dl.Denoiser(
        net="unet", width=8, multipliers=(1, 2), steps=15, warm_steps=5, batch=8, lr=0.004, warmup=0, solver_steps=4
    )
    study = dl.Study(
        source="cifar10", policy=0.5, samples=40, generations=2, seed=1, estimator=unet,
        measures={"samples": 40, "dimension": 8, "critic_rows": 0},
    )  # fmt: skip
    records = list(dl.run(study, nothing_here / "run"))
    assert [g.lineage.fractions() for g in records] == [{"real": 1.0}, {"real": 0.5, "model 1": 0.5}]
    history = dl.load(nothing_here / "run")
    assert history.samples(2).shape == (40, 3, 32, 32)
    real = history.samples(0)
    assert real.shape == (40, 3, 32, 32)
    assert {(r * 127.5 + 127.5).round().astype(np.uint8).tobytes() for r in real} <= {p.tobytes() for p in x[:400]}
    for g in records:
        assert g.divergence["mmd2"].low > g.floor["mmd2"].value  # 15 steps: far from real, and seen to be


def test_the_binary_form_is_preferred(nothing_here):
    for form in reversed(FORMS):
        if form == "cifar10.npz":
            np.savez(nothing_here / "own" / form, x=0)
        else:
            write_cifar(nothing_here / "own", form)
        assert fetch_named("cifar10") == str(nothing_here / "own" / form)


def test_damaged_cifar_batches_are_named(tmp_path):
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\0" * 3072)
    with pytest.raises(
        InputError, match=r"data_batch_1 .* is damaged.*3072 bytes are not a whole number of records of 3073"
    ):
        read_cifar_binary(path)
    path.write_bytes(b"\0" * 3073 + b"\x0a" * 3073)
    with pytest.raises(InputError, match="record 1 has label 10"):
        read_cifar_binary(path)


def test_a_pickled_cifar10_is_not_read_and_the_message_says_so(nothing_here):
    folder = nothing_here / "own" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(b"cos\nmkdir\n(X\x08\x00\x00\x00explodedtR.")
    with pytest.raises(DataNotFoundError, match="cifar-10-batches-py is pickled and is not read"):
        cifar10()


# ------------------------------------------------------------------------------------------------------------ fetch


class Server(ThreadingHTTPServer):
    files: dict[str, bytes]
    promise = 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        if content is not None and self.server.promise >= 0:
            self.send_header("Content-Length", str(len(content) + self.server.promise))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as instance:
        instance.files = {}
        thread = threading.Thread(target=instance.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield instance
        instance.shutdown()
        thread.join()


def address(server, name):
    return f"http://127.0.0.1:{server.server_port}/{name}"


def sha(content):
    return hashlib.sha256(content).hexdigest()


def test_a_download_is_checked_and_put_in_place(server, tmp_path):
    content = images(1, 3, 700, 700).tobytes()
    server.files["/a.bin"] = content
    seen = []
    path = fetch(address(server, "a.bin"), tmp_path / "deep" / "a.bin", sha(content), lambda *p: seen.append(p))
    assert path.read_bytes() == content
    assert seen[-1] == (1.0, "1 MiB")
    assert [fraction for fraction, _ in seen] == sorted(fraction for fraction, _ in seen)
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]
    server.promise = -1
    assert fetch(address(server, "a.bin"), tmp_path / "b.bin", sha(content)).read_bytes() == content


def test_bad_downloads_leave_nothing(server, tmp_path):
    content = b"x" * 1000
    server.files["/a.bin"] = content
    path = tmp_path / "a.bin"
    with pytest.raises(DataNotFoundError, match=rf"a.bin sent has another SHA-256.*{'0' * 64}.*{sha(content)}"):
        fetch(address(server, "a.bin"), path, "0" * 64)
    with pytest.raises(DataNotFoundError, match=r"nothing.bin cannot be downloaded \(404 Client Error"):
        fetch(address(server, "nothing.bin"), path, sha(content))
    server.promise = 500
    with pytest.raises(DataNotFoundError, match=r"cannot be downloaded .*1000 bytes read, 500 more expected"):
        fetch(address(server, "a.bin"), path, sha(content))
    with pytest.raises(DataNotFoundError, match="not a web address"):
        fetch(f"file://{tmp_path}/x", path, "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_stops_before_its_hash_could_tell(server, tmp_path):
    """The length is checked on its own: here the hash of the part is the expected one."""
    server.files["/a.bin"] = b"half"
    server.promise = 4
    with pytest.raises(DataNotFoundError, match="4 bytes read, 4 more expected"):
        fetch(address(server, "a.bin"), tmp_path / "a.bin", sha(b"half"))


def test_no_network_and_no_place(server, tmp_path):
    with pytest.raises(DataNotFoundError, match=r"cannot be downloaded .*Check the network"):
        fetch("http://127.0.0.1:9/a.bin", tmp_path / "a.bin", "0" * 64)
    server.files["/a.bin"] = b"x"

    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"a.bin cannot be written .*file"):
        fetch(address(server, "a.bin"), tmp_path / "file" / "a.bin", sha(b"x"))


def test_fashion_mnist_is_fetched_once(nothing_here, server, monkeypatch):
    write_fashion(nothing_here / "upstream", zipped=True)
    downloads = []
    for name in public._FASHION:
        content = (nothing_here / "upstream" / f"{name}.gz").read_bytes()
        server.files[f"/{name}.gz"] = content
        downloads.append((address(server, f"{name}.gz"), sha(content)))
    monkeypatch.setattr(public, "fetch", fetch)
    small = dataclasses.replace(public.FASHION_MNIST, downloads=tuple(downloads))
    assert public.load(small).size == 8
    server.files.clear()
    assert public.load(small).size == 8
    assert public.locate(small)[0] == nothing_here / "cache/driftlaw/fashion-mnist"


def archive(root, names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            tar.add(root / "cifar-10-batches-bin" / name, f"cifar-10-batches-bin/{name}")
        tar.addfile(tarfile.TarInfo("../../escaped"), io.BytesIO())
    return buffer.getvalue()


def test_the_archive_of_cifar10_is_unpacked_whole_or_not_at_all(nothing_here, server, monkeypatch):
    write_cifar(nothing_here / "upstream", "cifar-10-batches-bin")
    names = [f"{b}.bin" for b in public._BATCHES]
    whole, part = archive(nothing_here / "upstream", names), archive(nothing_here / "upstream", names[:-1])
    server.files = {"/part.tar.gz": part, "/c.tar.gz": whole}
    monkeypatch.setattr(public, "fetch", fetch)
    small = dataclasses.replace(public.CIFAR10, downloads=((address(server, "part.tar.gz"), sha(part)),))
    with pytest.raises(InputError, match=r"part.tar.gz .* is damaged.*test_batch.bin"):
        public.load(small)
    assert not (nothing_here / "cache/driftlaw/cifar-10-batches-bin").exists()
    small = dataclasses.replace(public.CIFAR10, downloads=((address(server, "c.tar.gz"), sha(whole)),))
    assert public.load(small).size == 15
    left = sorted(p.name for p in (nothing_here / "cache/driftlaw").iterdir())
    assert left == ["cifar-10-batches-bin", "part.tar.gz"]
    assert not list(nothing_here.rglob("escaped"))


def test_unknown_names():
    with pytest.raises(ConfigError, match=r"no data set 'cifar100'. Did you mean 'cifar10'"):
        fetch_named("cifar100")
