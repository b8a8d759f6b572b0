"""What a file of `torch.save` claims to hold, found out before torch reads it: without torch, its code or its memory.

torch's own `weights_only` reader runs no code of the file, but it believes what the file says: it takes a flipped bit
of a weight for a weight (it skips the archive's checksums), gives a tensor of 10^12 elements that a file stores once,
and unpacks compressed entries. Here the archive is held against its checksums, and its pickle is read with stand-ins
for tensors, each of which must lie within the bytes that are stored.
"""

import collections
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterable
from io import BytesIO
from os import PathLike
from typing import IO, Any, ClassVar, NamedTuple

from pcgen.errors import CheckpointError

SPARE_CLAIM = 16 << 20  # bytes of tensors, however few are stored
LARGEST_DIRECTORY = 16 << 20  # bytes: about 200 000 tensors
LARGEST_PICKLE = 64 << 20  # bytes
MOST_READS = 1_500_000  # about two an opcode: some 15 000 tensors, and a second
ITEM_SIZES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1,
    "Bool": 1, "ComplexFloat": 8, "ComplexDouble": 16,
}  # fmt: skip


class TornArchiveError(CheckpointError):
    """The file is not whole: cut off, or its bytes are not those that were written."""


class ForeignPickleError(CheckpointError):
    """The file holds pickled objects of a kind that only running code can make."""


class Claim(NamedTuple):
    """A tensor that a file says it holds."""

    shape: tuple[int, ...]
    kind: str  # of ITEM_SIZES

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return math.prod(self.shape) * ITEM_SIZES[self.kind]


class _Storage(NamedTuple):
    kind: str
    elements: int


def survey(file: str | PathLike[str] | IO[bytes], *, checksums: bool = True) -> Any:
    """Give the content of a file of `torch.save` with a `Claim` in the place of each tensor.

    Time is that of reading the file once, and with `checksums=False` of its pickle alone, whatever it claims.

    Args:
        file: Its path, or its bytes as a file.
        checksums: Compare every byte with the checksums.

    Raises:
        TornArchiveError: If it is no whole archive.
        ForeignPickleError: If it holds pickled objects other than tensors and plain values.
        CheckpointError: If it claims more than it stores.
    """
    try:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive:
            entries = _entries(archive)
            if checksums and (bad := archive.testzip()) is not None:
                raise TornArchiveError(f"the checksum of its part {bad} is wrong")
            return _Reader(_pickle(archive, entries), entries).load()
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise ForeignPickleError(str(error)) from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError, struct.error, RuntimeError, OSError) as error:
        raise TornArchiveError(str(error) or type(error).__name__) from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, AssertionError) as error:
        raise TornArchiveError(f"its pickle is damaged: {error}") from error


def _check_directory(file: str | PathLike[str] | IO[bytes]) -> None:
    """Refuse a huge table of contents before zipfile reads it."""
    if isinstance(file, str | PathLike):
        with open(file, "rb") as stream:  # noqa: PTH123 -- either a path or a stream comes here
            return _check_directory(stream)
    size = file.seek(0, 2)
    file.seek(max(0, size - (22 + 20 + 56)))
    tail = file.read()
    if len(tail) < 22 or tail[-22:-18] != b"PK\5\6":
        raise TornArchiveError("it does not end as an archive does")
    claimed = struct.unpack("<L", tail[-10:-6])[0]
    if tail[:4] == b"PK\6\6" and len(tail) == 98:
        claimed = max(claimed if claimed < 0xFFFFFFFF else 0, struct.unpack("<Q", tail[40:48])[0])
    if claimed > LARGEST_DIRECTORY:
        raise CheckpointError(f"its table of contents claims {claimed} bytes; {LARGEST_DIRECTORY} are read")
    file.seek(0)
    return None


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Give the archive's parts by name: stored as they are, each once, together no more than the file has."""
    entries = {info.filename: info for info in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise CheckpointError("it holds two parts of one name: damaged, or made to harm")
    for info in entries.values():
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise CheckpointError(f"its part {info.filename} is compressed or encrypted, which torch.save never does")
    archive.fp.seek(0, 2)  # type: ignore[union-attr]  # an open archive has a file
    stored = archive.fp.tell()  # type: ignore[union-attr]  # as above
    if sum(info.file_size for info in entries.values()) > stored:
        raise CheckpointError(f"its parts claim more than the {stored} bytes that are stored: damaged, or made to harm")
    return entries


def _pickle(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> "_Bounded":
    names = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(names) != 1:
        raise TornArchiveError("it is an archive of another kind")
    if entries[names[0]].file_size > LARGEST_PICKLE:
        raise CheckpointError(f"its pickle has {entries[names[0]].file_size} bytes; {LARGEST_PICKLE} are read")
    return _Bounded(archive.read(names[0]), names[0].removesuffix("data.pkl"))


class _Bounded(BytesIO):
    """A pickle that counts how often it is read."""

    def __init__(self, content: bytes, folder: str) -> None:
        super().__init__(content)
        self.folder, self.reads = folder, 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > MOST_READS:
            raise CheckpointError(f"its pickle has more than {MOST_READS} steps; save large lists as tensors")
        return super().read(size)


class _Ordered(collections.OrderedDict[Any, Any]):
    """The one class of which a state dict is: made empty, then filled, with nothing but torch's note of versions."""

    def __init__(self, *given: Any) -> None:
        if given:
            raise pickle.UnpicklingError("Unsupported global: an OrderedDict is made empty")
        super().__init__()


def _encode(text: str, encoding: str) -> bytes:
    """Give bytes, which protocol 2 writes as text."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"Unsupported global: bytes in {encoding}")
    return text.encode("latin1")


def _set(elements: Iterable[Any] = ()) -> set[Any]:
    return {_key(v) for v in elements}


def _key(value: Any) -> Any:
    """Refuse what could take for ever to hash, as tuples of tuples of tuples can."""
    if not isinstance(value, str | bytes | int | float | None):
        raise pickle.UnpicklingError(f"Unsupported class: a {type(value).__name__} as a key")
    return value


def _size(numbers: Iterable[int] = ()) -> tuple[int, ...]:
    return tuple(numbers)


def _device(kind: str, index: int | None = None) -> str:
    return kind if index is None else f"{kind}:{index}"


def _parameter(data: Claim, requires_grad: bool, hooks: Any) -> Claim:  # noqa: ARG001 -- torch's signature
    if hooks or not isinstance(data, Claim):
        raise pickle.UnpicklingError("Unsupported class: a parameter with hooks")
    return data


_MADE: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _Ordered,
    "_codecs.encode": _encode,
    "__builtin__.set": _set,
    "builtins.set": _set,
    "torch.Size": _size,
    "torch.device": _device,
    "torch._utils._rebuild_parameter": _parameter,
}
_PLAIN_OPCODES = (
    pickle.APPEND, pickle.APPENDS, pickle.BINFLOAT, pickle.BINGET, pickle.BININT, pickle.BININT1, pickle.BININT2,
    pickle.BINPERSID, pickle.BINPUT, pickle.BINUNICODE, pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.EMPTY_SET,
    pickle.EMPTY_TUPLE, pickle.GLOBAL, pickle.LONG1, pickle.LONG_BINGET, pickle.LONG_BINPUT, pickle.MARK,
    pickle.NEWFALSE, pickle.NEWTRUE, pickle.NONE, pickle.PROTO, pickle.SHORT_BINSTRING, pickle.STOP, pickle.TUPLE,
    pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
)  # fmt: skip


class _Reader(pickle._Unpickler):  # noqa: SLF001 -- the one in Python: the one in C believes any length
    """Reads a pickle with stand-ins: nothing that it names is imported, and nothing is called but what is above."""

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, content: _Bounded, entries: dict[str, zipfile.ZipInfo]) -> None:
        super().__init__(content, encoding="latin1")
        self._folder, self._entries, self._stored = content.folder, entries, sum(i.file_size for i in entries.values())
        self._claimed = 0

    def find_class(self, module: str, name: str) -> Any:
        """Give the stand-in of a name."""
        path = f"{module}.{name}"
        if path in _MADE:
            return _MADE[path]
        if path == "torch._utils._rebuild_tensor_v2":
            return self._tensor
        if module == "torch" and name.removesuffix("Storage") in ITEM_SIZES:
            return name.removesuffix("Storage")
        if module == "torch" and name.startswith(("float", "bfloat", "int", "uint", "bool", "complex")):
            return path  # a type of numbers
        raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {path}")

    def persistent_load(self, pid: Any) -> _Storage:
        """Hold a storage against its part of the archive."""
        _, kind, key, _, elements = pid
        entry = self._entries.get(f"{self._folder}data/{key}")
        if entry is None or type(elements) is not int or elements * ITEM_SIZES[kind] != entry.file_size:
            raise CheckpointError(f"it claims {elements} numbers ({kind}) of its part {key}, which are not there")
        return _Storage(kind, elements)

    def _tensor(self, storage: Any, offset: int, shape: Any, stride: Any, *rest: Any) -> Claim:
        """Hold a tensor against its storage."""
        numbers = (offset, *shape, *stride)
        if not isinstance(storage, _Storage) or len(shape) != len(stride) or any(rest[1:]):
            raise pickle.UnpicklingError("Unsupported class: a tensor with hooks or of an unknown form")
        if any(type(n) is not int or not 0 <= n < 1 << 62 for n in numbers):
            raise CheckpointError(f"it claims a tensor of shape {tuple(shape)} and stride {tuple(stride)}")
        end = offset + 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        if math.prod(shape) and end > storage.elements:
            raise CheckpointError(f"it claims a tensor of shape {tuple(shape)}, of which {storage.elements} are stored")
        claim = Claim(tuple(shape), storage.kind)
        self._claimed += claim.size
        if self._claimed > SPARE_CLAIM + 2 * self._stored:  # a number that is stored once may stand for many
            raise CheckpointError(f"it claims tensors of more than {self._claimed} bytes and stores {self._stored}")
        return claim

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        if function not in _MADE.values() and function != self._tensor:
            raise pickle.UnpicklingError(f"Unsupported global: {function!r} is called")
        self.stack[-1] = function(*arguments)

    def _build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Ordered) or not isinstance(state, dict) or set(state) - {"_metadata"}:
            raise pickle.UnpicklingError("Unsupported class: an object with a state of its own")

    def _set_items(self) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._put(key, value)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put(key, value)

    def _put(self, key: Any, value: Any) -> None:
        if type(self.stack[-1]) not in (dict, _Ordered):
            raise pickle.UnpicklingError("Unsupported class: items of what is no dictionary")
        self.stack[-1][_key(key)] = value

    dispatch: ClassVar[dict[int, Any]] = {  # torch's opcodes alone
        **{code[0]: pickle._Unpickler.dispatch[code[0]] for code in _PLAIN_OPCODES},  # noqa: SLF001 -- as above
        pickle.REDUCE[0]: _reduce,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
    }
