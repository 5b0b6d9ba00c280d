"""The run directory against what really happens to files: torn writes, full disks, second writers, edits."""

import json
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch

from driftlaw.errors import CorruptFileError, RunDirectoryError, RunLockedError, StorageError
from driftlaw.estimate import Estimate
from driftlaw.loop.history import load
from driftlaw.loop.record import Generation, Lineage
from driftlaw.loop.store import (
    JOURNAL,
    RunDirectory,
    file_sha256,
    read_array,
    read_tensors,
    storage_errors,
    write_array,
    write_atomic,
    write_tensors,
    write_text,
)


def record(index: int, **more) -> Generation:
    kl = Estimate.normal(0.5, 0.1, 100, "Monte Carlo", ["a warning"])
    return Generation(
        index=index,
        alpha=0.1,
        fresh=0.1,
        mixing=(0.0,) * (index - 1) + (0.9,),
        lineage=Lineage(real=10, models={index - 1: 90} if index > 1 else {}, fresh=10),
        samples=100,
        divergence={"kl": kl, "chi2": Estimate.infinite("exact tail test", "heavier tails")},
        **more,
    )


@pytest.fixture
def directory(tmp_path):
    d = RunDirectory(tmp_path / "run")
    d.create("name: x\n", {"seed": 0})
    return d


def test_journal_round_trip_is_exact(directory):
    written = [record(i) for i in (1, 2, 3)]
    for r in written:
        directory.append(r)
    assert directory.records() == written
    assert load(directory.path).generations == tuple(written)


@pytest.mark.parametrize("cut", [1, 2, 50, -1])
def test_a_torn_last_line_is_dropped_and_repaired(directory, cut):
    for i in (1, 2):
        directory.append(record(i))
    whole = (directory.path / JOURNAL).read_bytes()
    first = whole.index(b"\n") + 1
    torn = whole[: first + cut] if cut > 0 else whole[:cut]
    (directory.path / JOURNAL).write_bytes(torn)
    assert [r.index for r in directory.records()] == [1]
    assert (directory.path / JOURNAL).read_bytes() == torn, "reading must not write"
    directory.records(repair=True)
    directory.append(record(2))
    assert (directory.path / JOURNAL).read_bytes() == whole


def test_a_damaged_line_is_named(directory):
    for i in (1, 2, 3):
        directory.append(record(i))
    path = directory.path / JOURNAL
    path.write_bytes(path.read_bytes().replace(b'"value":0.5', b'"value":0.4', 1))
    with pytest.raises(CorruptFileError, match=r"journal.jsonl line 1"):
        directory.records()


def test_a_missing_line_is_named(directory):
    directory.append(record(1))
    directory.append(record(3))
    with pytest.raises(CorruptFileError, match="line 2 is generation 3, expected 2"):
        directory.records()


def test_newer_format_foreign_folder_and_edited_config_are_refused(directory, tmp_path):
    with pytest.raises(RunDirectoryError, match="not a driftlaw run"):
        RunDirectory(tmp_path).manifest()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="not empty"):
        RunDirectory(tmp_path / "full").check_new()
    with pytest.raises(RunDirectoryError, match="resume"):
        directory.check_new()
    (directory.path / "config.yaml").write_text("name: y\n")
    with pytest.raises(CorruptFileError, match=r"config.yaml"):
        directory.manifest()
    (directory.path / "config.yaml").write_text("name: x\n")
    manifest = directory.manifest()
    (directory.path / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(RunDirectoryError, match=r"format 99.*Upgrade"):
        directory.manifest()
    (directory.path / "manifest.json").write_text("{")
    with pytest.raises(CorruptFileError, match=r"manifest.json"):
        directory.manifest()


def test_a_second_process_is_refused_and_a_dead_one_is_not(directory):
    code = f"""
        import time
        from driftlaw.loop.store import RunDirectory
        with RunDirectory({str(directory.path)!r}).locked():
            print("held", flush=True)
            time.sleep(60)
    """
    holder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunLockedError), directory.locked():
            pass
    finally:
        holder.kill()
        holder.wait()
    with directory.locked():
        pass


def test_changed_or_missing_files_are_found_by_hash(directory):
    folder = directory.folder(1)
    folder.mkdir()
    files = {"samples.npy": write_array(folder / "samples.npy", np.arange(6.0))}
    directory.verify(1, files)
    data = bytearray((folder / "samples.npy").read_bytes())
    data[-1] ^= 1
    (folder / "samples.npy").write_bytes(data)
    with pytest.raises(CorruptFileError, match=r"001.samples.npy is truncated or was changed"):
        directory.verify(1, files)
    (folder / "samples.npy").unlink()
    with pytest.raises(CorruptFileError, match=r"001.samples.npy is missing"):
        directory.verify(1, files)


def test_truncated_tensors_and_arrays_are_named(tmp_path):
    write_tensors(tmp_path / "w.safetensors", {"a": torch.arange(100.0)}, {"step": 3})
    tensors, meta = read_tensors(tmp_path / "w.safetensors")
    assert meta == {"step": 3}
    assert torch.equal(tensors["a"], torch.arange(100.0))
    write_array(tmp_path / "x.npy", np.arange(100.0))
    for name, read in (("w.safetensors", read_tensors), ("x.npy", read_array)):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-40])
        with pytest.raises(CorruptFileError, match=name):
            read(tmp_path / name)


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CorruptFileError):
        read_array(tmp_path / "evil.npy")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    write_text(tmp_path / "a.txt", "old")

    def fail(f):
        f.write(b"new but")
        raise RuntimeError("crash")

    with pytest.raises(RuntimeError):
        write_atomic(tmp_path / "a.txt", fail)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_digest_is_of_what_lies_on_disk(tmp_path):
    assert write_text(tmp_path / "a", "hello") == file_sha256(tmp_path / "a")


def test_full_disk_keeps_what_was_finished(small_disk):
    """A real file system of 64 KiB that runs full while the second record is written."""
    mount = small_disk("64k")
    d = RunDirectory(mount / "run")
    d.create("name: x\n", {"seed": 0})
    d.append(record(1))
    with pytest.raises(StorageError, match=r"no space left.*resume"):
        write_array(d.path / "big.npy", np.zeros(100_000))
    assert not list(d.path.glob("*big*"))
    with pytest.raises(StorageError, match="no space"):
        d.append(replace(record(2), warnings=tuple("x" * 1000 for _ in range(200))))
    assert [r.index for r in d.records()] == [1]
    d.append(record(2))
    assert [r.index for r in d.records()] == [1, 2]


def test_unwritable_place_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"), RunDirectory(tmp_path / "file" / "run").locked():
        pass
    with pytest.raises(StorageError), storage_errors(tmp_path):
        raise PermissionError(13, "denied")
