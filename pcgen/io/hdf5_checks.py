"""What of an HDF5 file is read at all: HDF5 can do far more than hold numbers, and a stranger's file may ask for it.

A link or a dataset may lie in another file (any file of the user's, given away as "points"); a chunk may unpack to a
thousand times what it announces, a filter be one that only a plugin knows, a million texts be one and the same
megabyte, and the heap in which they lie keep HDF5 busy for ever. What a file of clouds does not need is refused before
it is followed.
"""

import math
import mmap
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from pcgen.errors import DataError
from pcgen.io.files import check_claim

_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
_GZIP = 1
_KINDS = "biufSUO"
_ALWAYS_FINE = 1 << 15  # bytes of a packed chunk: it becomes 33 MB at most
_PIECE = 1 << 20  # bytes
_EXTERNAL, _LAYOUT, _CONTINUED = 0x07, 0x08, 0x10  # messages of an object header
_VIRTUAL = b"\3"  # a layout's class
_MOST_BLOCKS, _LARGEST_BLOCK = 64, 1 << 20
_HEAP, _WIDTH = b"GCOL\1", 8  # how a heap of texts begins, as HDF5 checks it; bytes of a size in a file


def check_links(path: Path, group: Any) -> None:
    """Refuse a group with members that lie elsewhere, before any of them is opened.

    Raises:
        DataError: If a member is a link by name, within the file or to another, or a dataset in other files.
    """
    import h5py

    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            where = (
                f"{link.filename}:{link.path}" if isinstance(link, h5py.ExternalLink) else getattr(link, "path", "?")
            )
            raise DataError(f"{path}: {name} is a link to {where}; links are not followed, copy the data into the file")
        info = group.id.links.get_info(name.encode("utf-8", "surrogateescape"))
        if lies_elsewhere(path, info.u, group.file.userblock_size):
            raise DataError(f"{path}: {name} lies in other files, which are not opened; copy the data into this one")


def lies_elsewhere(path: Path, place: int, base: int = 0) -> bool:
    """Say whether the header of a dataset announces storage in other files: HDF5 itself may hang on opening it.

    Args:
        path: The file.
        place: Where the object's header begins.
        base: Byte from which the file counts its places.
    """
    with path.open("rb") as file:
        return any(
            kind == _EXTERNAL or (kind == _LAYOUT and body[:1] in {b"\3", b"\4"} and body[1:2] == _VIRTUAL)
            for kind, body in _messages(file, place, base)
        )


def _messages(file: BinaryIO, place: int, base: int) -> Iterator[tuple[int, bytes]]:
    """Give the kinds and bytes of an object header's messages (File Format Specification 3.0, IV.A)."""
    place += base
    file.seek(place)
    head = file.read(6)
    second = head[:4] == b"OHDR"
    if second:
        flags = head[5]
        file.seek(place + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
        width = 1 << (flags & 3)
        blocks = [(0, int.from_bytes(file.read(width), "little"))]
        blocks[0] = (file.tell(), blocks[0][1])
        head_size = 6 if flags & 4 else 4
    else:
        file.seek(place + 8)
        blocks, head_size = [(place + 16, int.from_bytes(file.read(4), "little"))], 8
    for start, size in islice(_growing(blocks), _MOST_BLOCKS):
        file.seek(start)
        block = file.read(min(size, _LARGEST_BLOCK))
        at = 4 if block[:4] == b"OCHK" else 0
        while at + head_size <= len(block):
            kind = block[at] if second else int.from_bytes(block[at : at + 2], "little")
            length = int.from_bytes(block[at + 1 : at + 3] if second else block[at + 2 : at + 4], "little")
            body = block[at + head_size : at + head_size + length]
            at += head_size + length
            if kind == _CONTINUED:
                blocks.append((base + int.from_bytes(body[:8], "little"), int.from_bytes(body[8:16], "little")))
            yield kind, body


def _growing(blocks: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    yield from blocks  # a list may grow while it is gone through


def check_dataset(path: Path, data: Any) -> None:
    """Refuse a dataset that lies in other files, is packed in an unusual way, or becomes more than it announces.

    Raises:
        DataError: If so.
    """
    import h5py

    if not isinstance(data, h5py.Dataset):
        raise DataError(f"{path}: {data.name} is a group; a dataset is needed there")
    _check_type(path, data.name, data.dtype)
    if data.dtype.kind == "O":  # before anything else: to ask where it lies has HDF5 read its fill value from a heap
        _check_heaps(path, data.file)
    if data.external or data.is_virtual:
        raise DataError(f"{path}: {data.name} lies in other files, which are not opened; copy the data into this one")
    _check_filters(path, data)
    if data.dtype.kind == "O":
        _check_texts(path, data)


def check_attributes(path: Path, file: Any, names: Iterable[str]) -> None:
    """Refuse attributes of these names that would take far more memory than the file has.

    Raises:
        DataError: If so.
    """
    size = path.stat().st_size
    for name in names:
        if name in file.attrs:
            attribute = file.attrs.get_id(name)
            _check_type(path, f"attribute {name}", attribute.dtype)
            if attribute.dtype.kind == "O":
                _check_heaps(path, file)
            each = size if attribute.dtype.kind == "O" else attribute.dtype.itemsize  # each text may be the whole file
            check_claim(f"{path}: attribute {name}", math.prod(attribute.shape) * each, size)


def _check_type(path: Path, name: str, dtype: Any) -> None:
    import h5py

    told = h5py.check_string_dtype(dtype) is not None if dtype.kind == "O" else dtype.kind in _KINDS
    if not told:
        raise DataError(f"{path}: {name} holds values of type {str(dtype)[:100]}; numbers or text are read")


def _check_filters(path: Path, data: Any) -> None:
    properties = data.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    unknown = [f for f in filters if f not in _FILTERS]
    if unknown or len(set(filters)) != len(filters):
        known = ", ".join(_FILTERS.values())
        raise DataError(f"{path}: {data.name} is packed by the filters {filters}; {known} are read, each once")
    if _GZIP in filters:
        _check_chunks(path, data)


def _check_chunks(path: Path, data: Any) -> None:
    """Unpack large chunks piece by piece: HDF5 goes on for as long as there is something, whatever was announced."""
    whole = math.prod(data.chunks) * data.dtype.itemsize + 4  # and a checksum
    chunks: list[Any] = []
    data.id.chunk_iter(lambda chunk: chunks.append(chunk) if chunk.size > _ALWAYS_FINE else None)
    for chunk in chunks:
        _, packed = data.id.read_direct_chunk(chunk.chunk_offset)
        stream, made = zlib.decompressobj(), 0
        while packed and made <= whole and not stream.eof:
            try:
                made += len(stream.decompress(packed, _PIECE))
            except zlib.error:
                break  # HDF5 says so itself, or stores it as it is
            packed = stream.unconsumed_tail
        if made > whole:
            raise DataError(f"{path}: a chunk of {data.name} unpacks to more than the {whole} bytes that it announces")


def _check_texts(path: Path, data: Any) -> None:
    """Read texts of any length in steps that memory surely holds: each may be as long as the file, and all the same."""
    size = path.stat().st_size
    if len(data.shape) > 1:
        raise DataError(f"{path}: {data.name} holds texts of shape {data.shape}; one a cloud needed")
    step, length = max(1, (16 << 20) // max(1, size)), 0
    for start in range(0, data.size if data.shape else 0, step):
        length += sum(len(text) for text in data[start : start + step])
        check_claim(f"{path}: {data.name}", length, size)


# ── heaps of texts ────────────────────────────────────────────────────────────────────────────────────────────────────


def _check_heaps(path: Path, file: Any) -> None:
    """Refuse damaged heaps of texts: HDF5 2.0 looks for the end of one for ever if something in it has no size.

    All that the file holds are looked at, which no way that leads to one can evade: data, attributes, fill values and
    shared messages do. It takes a second for some 500 MB; files without texts of any length, such as those that pcgen
    writes, are not searched.

    Raises:
        DataError: If what lies in a heap does not fill it (File Format Specification 3.0, III.E), or heaps overlap.
    """
    if set(file.id.get_create_plist().get_sizes()) != {_WIDTH}:
        raise DataError(f"{path}: its sizes are not of {8 * _WIDTH} bits; write it anew with h5py")
    status = path.stat()
    _walk_heaps(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _walk_heaps(path: Path, size: int, changed: int) -> None:  # noqa: ARG001 -- that it is the same file as before
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ) as content:
        start, end = content.find(_HEAP), 0
        while start >= 0:
            if start < end:
                raise _damaged(path, start)  # each would be walked to the end of all
            end = start + int.from_bytes(content[start + 8 : start + 16], "little")
            _walk_heap(path, content, start, end)
            start = content.find(_HEAP, start + 1)


def _walk_heap(path: Path, content: mmap.mmap, start: int, end: int) -> None:
    at = start + 16
    while at + 16 <= end:
        free = content[at : at + 2] == b"\0\0"  # what is left over, whose size counts its own header
        length = int.from_bytes(content[at + 8 : at + 16], "little")
        step = length if free else 16 + -(-length // 8) * 8
        if not 0 < step <= min(end, len(content)) - at:
            raise _damaged(path, start)
        at += step


def _damaged(path: Path, start: int) -> DataError:
    return DataError(f"{path}: its heap of texts at byte {start} is damaged; get the file anew")
