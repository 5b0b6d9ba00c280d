"""Downloads that are either complete and checked, or not there at all (pooch does the work)."""

from __future__ import annotations

from pathlib import Path

from driftlaw.errors import DataNotFoundError, StorageError
from driftlaw.progress import Progress, part, silent

#: Seconds without an answer after which a download is given up.
TIMEOUT = 20.0


class _Bar:
    """Passes on what pooch tells a progress bar."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.total, self.done = progress, 0, 0

    def update(self, size: int) -> None:
        self.done = min(self.done + size, self.total) if self.total else self.done + size
        self.progress(part(self.done, self.total), f"{self.done >> 20} MiB")

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        """Nothing is left to draw."""


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
    import pooch
    from requests import RequestException

    if not url.startswith(("https://", "http://")):
        raise DataNotFoundError(f"{url} is not a web address", "use http or https")
    download = pooch.HTTPDownloader(
        progressbar=_Bar(progress), chunk_size=1 << 20, timeout=TIMEOUT, headers={"User-Agent": "driftlaw"}
    )
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(url, f"sha256:{sha256}", path.name, path.parent, downloader=download)
    except RequestException as error:  # an OSError, too
        raise DataNotFoundError(f"{url} cannot be downloaded ({error})", "check the network and try again") from None
    except ValueError as error:
        fix = "the file was changed or damaged on the way: try again, or get it from another place"
        raise DataNotFoundError(f"what {url} sent has another SHA-256: {error}", fix) from None
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error})", "free space or choose another folder") from None
    return path
