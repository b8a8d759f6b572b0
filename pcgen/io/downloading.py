"""Downloads that can be interrupted, and archives that cannot escape their folder."""

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import stat
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pcgen.errors import ConfigurationError, DataError
from pcgen.io.files import atomic, existing
from pcgen.io.progress import Report
from pcgen.io.progress import progress as show

_BLOCK = 1 << 18


def download(
    url: str,
    path: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    md5: str | None = None,
    progress: bool = True,
    timeout: float = 30.0,
) -> Path:
    """Download a file.

    What has arrived is kept in `<path>.part` when the connection breaks, and the next call goes on from there; where
    the server cannot, or the file has changed meanwhile, it starts again.

    Args:
        url: http or https.
        path: Where to put it; it appears there whole and checked, or not at all. A file that is there already is
            kept if it has the checksum, or if none is given.
        sha256: Expected checksum, hexadecimal.
        md5: Another, for sources that state only this.
        progress: Show a bar with the time that remains.
        timeout: Seconds without a byte after which to give up.

    Returns:
        The path.

    Raises:
        DataError: If the server refuses, goes silent or sends too little, or a checksum is wrong.
        ConfigurationError: If the URL is of another scheme.
    """
    path = Path(path)
    if not url.lower().startswith(("http://", "https://")):
        raise ConfigurationError(f"{url!r} is not an http or https address")
    sums = {"sha256": sha256, "md5": md5}
    if path.is_file() and not _wrong_sum(path, sums):
        return path
    part, note = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, part, note, progress=progress, timeout=timeout)
        wrong = _wrong_sum(part, sums)
        if wrong:
            part.unlink()
            note.unlink(missing_ok=True)
            raise DataError(f"{url}: {wrong}; what arrived was thrown away, try again or another source")
        part.replace(path)
        note.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _wrong_sum(path: Path, sums: dict[str, str | None]) -> str | None:
    for kind, expected in sums.items():
        if expected is None:
            continue
        with path.open("rb") as file:
            found = hashlib.file_digest(file, kind).hexdigest()
        if found != expected.lower():
            return f"{kind} is {found}, but {expected.lower()} was expected"
    return None


def _fetch(url: str, part: Path, note: Path, *, progress: bool, timeout: float) -> None:
    """Bring the part up to its whole length, going on from what is there when it is of the same file."""
    before = _read_note(note, url) if part.is_file() else {}
    start = part.stat().st_size if before.get("mark") else 0
    with _network_errors(url, timeout):
        response = _open(url, start, before.get("mark"), timeout)
        with response:
            if start and (response.status != 206 or not _continues(response, start, before)):
                start = 0
                if response.status == 206:  # a piece of something else: ask again for the whole
                    part.unlink()
                    _fetch(url, part, note, progress=progress, timeout=timeout)
                    return
            total = before.get("total") if start else _length(response)
            mark = response.headers.get("ETag") or response.headers.get("Last-Modified")
            mark = None if (mark or "").startswith("W/") else mark  # a weak tag does not promise the same bytes
            note.write_text(json.dumps({"url": url, "mark": mark, "total": total}), encoding="utf-8")
            with show(part.stem, total, shown=progress, in_bytes=True) as report:
                _copy(response, part, start, report)
    size = part.stat().st_size
    if total is not None and size != total:
        raise DataError(f"{url}: the connection ended after {size} of {total} bytes; call again to go on from there")


def _open(url: str, start: int, mark: str | None, timeout: float) -> Any:
    headers = {"User-Agent": "pcgen", "Accept-Encoding": "identity"}
    if start and mark:
        headers |= {"Range": f"bytes={start}-", "If-Range": mark}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)  # noqa: S310 -- http(s) only, checked above
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing is left beyond what is there: make sure from the beginning
            return _open(url, 0, None, timeout)
        raise


def _continues(response: Any, start: int, before: dict[str, Any]) -> bool:
    same_file = response.headers.get("ETag", before["mark"]) == before["mark"] or not before["mark"].startswith('"')
    span = response.headers.get("Content-Range", "")
    return same_file and span == f"bytes {start}-{before['total'] - 1}/{before['total']}"


def _length(response: Any) -> int | None:
    length = response.headers.get("Content-Length")
    return int(length) if length is not None and length.isdigit() else None


def _read_note(note: Path, url: str) -> dict[str, Any]:
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        return content if content["url"] == url and isinstance(content["total"], int) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _copy(response: Any, part: Path, start: int, report: Report) -> None:
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        file.truncate()
        # a connection that breaks leaves what has arrived: the file is closed, and its length is what counts
        while block := response.read1(_BLOCK):
            file.write(block)
            report(file.tell(), None)


@contextlib.contextmanager
def _network_errors(url: str, timeout: float) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        raise DataError(f"{url}: the server answers {error.code} {error.reason}") from error
    except TimeoutError as error:
        raise DataError(f"{url}: no answer for {timeout:g} seconds; call again to go on from there") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise DataError(f"{url}: no answer for {timeout:g} seconds") from error
        raise DataError(f"{url}: cannot be reached ({error.reason})") from error
    except (http.client.HTTPException, ConnectionError) as error:
        raise DataError(f"{url}: the connection broke ({error!r}); call again to go on from there") from error


def extract_zip(
    path: str | os.PathLike[str], folder: str | os.PathLike[str], *, max_bytes: int = 64 << 30, progress: bool = True
) -> Path:
    """Unpack a zip archive into a new folder, which appears whole or not at all.

    Args:
        path: The archive.
        folder: A folder that is not there yet.
        max_bytes: Refuse archives that unpack to more than this (64 GiB; ModelNet40 takes 10).
        progress: Show a bar.

    Returns:
        The folder.

    Raises:
        DataError: If it is not a whole zip archive, a member would land outside the folder or is a link, or it is
            too large.
    """
    path, folder = existing(path), Path(folder)
    if folder.exists():
        raise DataError(f"{folder} is already there; give another name or remove it")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = _check_members(path, members, max_bytes)
            _check_space(folder, total)
            with (
                atomic(folder, folder=True) as temporary,
                show(f"Unpacking {path.name}", total, shown=progress, in_bytes=True) as report,
            ):
                done = 0
                for member in members:
                    _extract(archive, member, temporary)
                    done += member.file_size
                    report(done, None)
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} is not a whole zip archive: {error}") from error
    return folder


def _check_members(path: Path, members: list[zipfile.ZipInfo], max_bytes: int) -> int:
    for member in members:
        name, windows = PurePosixPath(member.filename), PureWindowsPath(member.filename)
        if name.is_absolute() or windows.drive or windows.is_absolute() or ".." in (*name.parts, *windows.parts):
            raise DataError(f"{path}: its member {member.filename!r} would land outside the folder; nothing unpacked")
        if not member.filename.strip("/.\\"):
            raise DataError(f"{path}: a member has the name {member.filename!r}; nothing unpacked")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise DataError(f"{path}: its member {member.filename!r} is a link; nothing unpacked")
    total = sum(m.file_size for m in members)
    if total > max_bytes:
        raise DataError(f"{path}: unpacks to {total} bytes, more than the {max_bytes} allowed (max_bytes)")
    return total


def _check_space(folder: Path, total: int) -> None:
    there = next(p for p in folder.absolute().parents if p.exists())
    free = shutil.disk_usage(there).free
    if total > free:
        raise DataError(f"{folder}: {total} bytes to unpack, but {free} are free on {there}")


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / member.filename
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # zipfile reads no more than the size that a member announces and checks its sum, so `max_bytes` holds
    with archive.open(member) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, _BLOCK)
