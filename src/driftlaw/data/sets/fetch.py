"""Downloads that are either complete and checked, or not there at all."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import tempfile
import urllib.request
from pathlib import Path

from driftlaw.errors import DataNotFoundError, StorageError
from driftlaw.progress import Progress, silent
from driftlaw.progress import part as part_of

#: Seconds without an answer after which a download is given up.
TIMEOUT = 20.0
_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM}


def fetch(url: str, path: Path, sha256: str, progress: Progress = silent) -> Path:
    """Download `url` to `path`, check its SHA-256, then put it in place with one atomic rename.

    Args:
        url: address, http or https.
        path: final place; its folder is created.
        sha256: hexadecimal digest that the content must have.
        progress: told the fraction of bytes that came.

    Raises:
        DataNotFoundError: no network, an incomplete download, or a wrong checksum; nothing is left behind.
        StorageError: the disk is full or not writable.
    """
    if not url.startswith(("https://", "http://")):
        raise DataNotFoundError(f"{url} is not a web address", "use http or https")
    part: Path | None = None
    try:
        digest, done = hashlib.sha256(), 0
        request = urllib.request.Request(url, headers={"User-Agent": "driftlaw"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            total = int(response.headers.get("Content-Length") or 0)
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
            part = Path(name)
            with os.fdopen(handle, "wb") as file:
                while block := response.read(1 << 20):
                    file.write(block)
                    digest.update(block)
                    done += len(block)
                    progress(part_of(done, total), f"{done >> 20} MiB")
                file.flush()
                os.fsync(file.fileno())
        if total and done != total:
            raise DataNotFoundError(f"the download of {url} is truncated: {done} of {total} bytes came", "try again")
        if digest.hexdigest() != sha256:
            raise DataNotFoundError(
                f"what {url} sent has SHA-256 {digest.hexdigest()}, expected {sha256}",
                "the file was changed or damaged on the way: try again, or get it from another place",
            )
        part.replace(path)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in _STORAGE:
            raise StorageError(f"{path} cannot be written ({error})", "free space or choose another folder") from None
        raise DataNotFoundError(f"{url} cannot be downloaded ({error})", "check the network") from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return path
