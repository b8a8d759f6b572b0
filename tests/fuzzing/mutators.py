"""Damage done to files: by bits, by blocks, by numbers and by words. The same seed does the same damage."""

import contextlib
import gzip
import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence

Mutator = Callable[[bytearray, random.Random], bytearray]

NUMBERS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
           2**40, 10**12, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -1, -2, -(2**31), -(2**63))  # fmt: skip
TOKENS = (
    *(str(n).encode() for n in NUMBERS), b"nan", b"-inf", b"1e400", b"1e-400", b"1e38", b"-0", b"0x10", b"1_000",
    b"+5", b"9" * 30, b"9" * 5000, b"", b"-", b".", b"1.5.2", "٣".encode(), b"\x00", b"\x1b[31m",
    b"\xff\xfe", b"%s%n", b"../..",
)  # fmt: skip
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[^\s]+")
_LARGEST = 1 << 16  # bytes of a packed inside that is damaged: bombs stay as they are
_NOT_PACKED = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
_LARGEST_INPUT = 1 << 20  # bytes
_HEAD = 400  # where most formats say what is to come


def _place(data: bytearray, rng: random.Random) -> int:
    """Choose a byte, as often in the head as anywhere."""
    return rng.randrange(min(len(data), _HEAD) if rng.random() < 0.5 else len(data)) if data else 0


def _block(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = _place(data, rng)
    return start, min(len(data), start + int(2 ** rng.uniform(0, 9)))


def flip_bit(data: bytearray, rng: random.Random) -> bytearray:
    if data:
        data[_place(data, rng)] ^= 1 << rng.randrange(8)
    return data


def set_byte(data: bytearray, rng: random.Random) -> bytearray:
    if data:
        data[_place(data, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 10, 32, rng.randrange(256)))
    return data


def set_number(data: bytearray, rng: random.Random) -> bytearray:
    width, order = rng.choice((2, 4, 8)), rng.choice("<>")
    number = rng.choice(NUMBERS) & (2 ** (8 * width) - 1)
    place = _place(data, rng)
    packed = struct.pack(f"{order}{ {2: 'H', 4: 'I', 8: 'Q'}[width] }", number)
    data[place : place + width] = packed[: len(data) - place]
    return data


def truncate(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data) + 1)]


def delete(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _block(data, rng)
    del data[start:end]
    return data


def repeat(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _block(data, rng)
    data[end:end] = data[start:end] * rng.choice((1, 1, 2, 10, 100))
    return data


def insert(data: bytearray, rng: random.Random) -> bytearray:
    place = _place(data, rng)
    data[place:place] = rng.randbytes(rng.choice((1, 4, 16, 200)))
    return data


def move(data: bytearray, rng: random.Random) -> bytearray:
    start, end = _block(data, rng)
    taken = data[start:end]
    del data[start:end]
    place = _place(data, rng)
    data[place:place] = taken
    return data


def change_number(data: bytearray, rng: random.Random) -> bytearray:
    """Replace a number that is written in digits."""
    return _change(data, rng, _NUMBER)


def change_word(data: bytearray, rng: random.Random) -> bytearray:
    return _change(data, rng, _WORD)


def _change(data: bytearray, rng: random.Random, what: "re.Pattern[bytes]") -> bytearray:
    found = what.search(data, _place(data, rng)) or what.search(data)
    if found:
        other = _WORD.search(data, _place(data, rng))
        words = (rng.choice(TOKENS), rng.choice(TOKENS), bytes(other[0]) if other else b"0")
        data[found.start() : found.end()] = rng.choice(words)
    return data


def change_lines(data: bytearray, rng: random.Random) -> bytearray:
    lines = bytes(data).split(b"\n")
    i, j = (
        min(int(rng.expovariate(0.2)) if rng.random() < 0.5 else rng.randrange(len(lines)), len(lines) - 1)
        for _ in "ij"
    )
    match rng.randrange(6):
        case 0:
            lines[i], lines[j] = lines[j], lines[i]
        case 1:
            del lines[i]
        case 2:
            lines[j:j] = [lines[i]] * rng.choice((1, 2, 50))
        case 3:
            lines[i] = b" ".join([lines[i], lines[j]])
        case 4:
            lines[i] = lines[i] * rng.choice((2, 20, 200))
        case 5:
            return bytearray(rng.choice((b"\r\n", b"\r", b"\n\n", b" \n", b"\\\n")).join(lines))
    return bytearray(b"\n".join(lines))


_OF_BYTES: tuple[Mutator, ...] = (flip_bit, set_byte, set_number, set_number, truncate, delete, repeat, insert, move)
_OF_TEXT: tuple[Mutator, ...] = (change_number, change_number, change_word, change_lines, change_lines)


def splice(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    """Go on with another file from some place."""
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def mutate(seeds: Sequence[bytes], words: Sequence[bytes], rng: random.Random) -> bytes:
    """Choose a file and damage it: most often a little, or else in its packed inside.

    Args:
        seeds: Files to choose from.
        words: Words that the format knows, to be put in where they do not belong.
        rng: Decides everything.
    """
    data = rng.choice(seeds)
    inside = None
    if rng.random() < 0.6:
        with contextlib.suppress(*_NOT_PACKED):  # a file of the corpus may be damaged already
            inside = _inside(data, rng)
    if inside is None:
        return _damage(data, seeds, words, rng)
    content, pack = inside
    return pack(_damage(content, [content], words, rng))


def _damage(data: bytes, seeds: Sequence[bytes], words: Sequence[bytes], rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5, 10))):
        kind = rng.random()
        if kind < 0.05:
            damaged = splice(damaged, rng.choice(seeds), rng)
        elif kind < 0.15 and words:
            place = _place(damaged, rng)
            damaged[place:place] = rng.choice(words)
        else:
            damaged = rng.choice(_OF_BYTES if kind < 0.6 else _OF_TEXT)(damaged, rng)
        del damaged[_LARGEST_INPUT:]  # repeats of repeats
    return bytes(damaged)


def _inside(data: bytes, rng: random.Random) -> tuple[bytes, Callable[[bytes], bytes]] | None:
    """Give what a packed file holds, and the way to pack it again with right sums: damage must get past them."""
    if data[:2] == b"\x1f\x8b":
        content = gzip.GzipFile(fileobj=io.BytesIO(data)).read(_LARGEST)
        return None if len(content) == _LARGEST else (content, lambda c: gzip.compress(c, mtime=0))
    if data[:2] != b"PK":
        return None
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(info.file_size for info in archive.infolist()) > _LARGEST:
            return None
        members = {info: archive.read(info) for info in archive.infolist()}
    chosen = rng.choice(list(members))
    kind = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))

    def pack(content: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", kind) as out:
            for info, whole in members.items():
                out.writestr(zipfile.ZipInfo(info.filename), content if info is chosen else whole, kind)
        return buffer.getvalue()

    return members[chosen], pack
