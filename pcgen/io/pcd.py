"""PCD: the header, which Open3D believes whatever it says. The rest is read by Open3D."""

from pathlib import Path

from pcgen.errors import DataError
from pcgen.io.files import check_claim

_LARGEST_HEADER = 1 << 16
_LONGEST_LINE = 1000  # Open3D cuts longer ones and takes the rest for another line
_POINT_BYTES = 24  # in Open3D's memory, three doubles
_SIZES = {1, 2, 4, 8}
_KEYS = {
    b"VERSION", b"FIELDS", b"COLUMNS", b"SIZE", b"TYPE", b"COUNT", b"WIDTH", b"HEIGHT", b"VIEWPOINT", b"POINTS",
}  # fmt: skip


def check_pcd(path: Path) -> None:
    """Hold a PCD header against the file's size, since Open3D reserves whatever it announces.

    Raises:
        DataError: If it is not PCD, or the file is too short for what the header announces.
    """
    fields, begin = _header(path)
    try:
        num_points = int(fields.get(b"POINTS", fields.get(b"WIDTH", []))[0])
        sizes = [int(s) for s in fields[b"SIZE"]]
        counts = [int(c) for c in fields.get(b"COUNT", [b"1"] * len(sizes))]
        storage = fields[b"DATA"][0]
    except (KeyError, ValueError, IndexError) as error:
        raise DataError(f"{path}: not a PCD file, or its header cannot be understood") from error
    names = fields.get(b"FIELDS", [])
    if not {b"x", b"y", b"z"} <= set(names):
        raise DataError(f"{path}: its PCD header has no fields x, y and z")
    if not len(names) == len(sizes) == len(counts) or not set(sizes) <= _SIZES or min(counts) < 1:
        raise DataError(f"{path}: {len(names)} fields of sizes {sizes} and counts {counts} in its PCD header")
    there = path.stat().st_size - begin
    binary = num_points * sum(s * c for s, c in zip(sizes, counts, strict=True))
    least = {b"binary": binary, b"ascii": 2 * num_points * sum(counts)}.get(storage, binary / 256)
    if num_points < 1 or least > there + 1:
        raise DataError(f"{path}: cut short or wrong: its header announces {num_points} points, {there} bytes follow")
    check_claim(str(path), max(binary, _POINT_BYTES * num_points), there)


def _header(path: Path) -> tuple[dict[bytes, list[bytes]], int]:
    """Read the words of each line by its key, and where the data begin."""
    with path.open("rb") as file:
        head = file.read(_LARGEST_HEADER)
    fields: dict[bytes, list[bytes]] = {}
    begin = 0
    for line in head.splitlines(keepends=True):
        begin += len(line)
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        if words[0] == b"DATA" and line.endswith(b"\n"):
            return fields | {b"DATA": words[1:]}, begin
        if words[0] not in _KEYS or words[0] in fields or len(line) > _LONGEST_LINE:
            break
        fields[words[0]] = words[1:]
    raise DataError(
        f"{path}: not a PCD file, or its header cannot be understood: it has no DATA line where one belongs"
    )
