"""Checkpoints, safetensors and extractors: files to start from, and readers of damage that random bytes do not reach.

Checksums and hashes refuse almost every damaged byte. So beside the files themselves there are inputs that are only a
part of one (the pickle of a checkpoint), or only the seed of changes to what it says; the reader here makes the whole
file of it, checksums and hashes right, and has that read.
"""

import functools
import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

MiB = 1 << 20
BASE = 192 * MiB  # 64 MiB that any record may ask for, twice: the module, and what its making takes for a while
PICKLE_WORDS = (
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n", b"R", b"b",
    b"ctorch\nFloatTensor\n", b"c__builtin__\nbytearray\n", b"cposix\nsystem\n", b"(", b"u", b"s", b"}", b"]", b"a",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", b"J\xff\xff\xff\x7f", b"j\xff\xff\xff\xff", b"K\x00", b"\x85R",
    b"X\xff\xff\xff\x7f", b"h\x00", b"q\x00", b"K\x01K\x01\x86", b"M\xff\xff", b"r\xff\xff\xff\xff", b".",
    b"tQ", b"G\x7f\xf8\x00\x00\x00\x00\x00\x00",
)  # fmt: skip
JSON_WORDS = (
    b'"F32"', b'"BF16"', b'"I64"', b'"BOOL"', b"[0,0]", b"[1000000000000]", b"pcgen.models.GAN", b"os.system", b"null",
    b'\\"', b"{}", b"[]", b"pcgen.nets.MLPDecoder", b'"data_offsets"',
)  # fmt: skip
HOSTILE = (
    0, 1, -1, 2, 17, 10**6, 10**12, 2**63, 2**200, -(2**70), 0.5, float("nan"), float("inf"), 1e300,
    "", "x", "/etc/passwd", "os.system", "pcgen.models.VAE", "pcgen.cli.main.main", "\x1b[31m\n", "é" * 5000,
    None, True, False, [], {}, [[]], [8] * 3, [10**9] * 4, [4] * 3000, (1, 2), b"\x00", {"class_path": 3}, {3: 4},
    {"class_path": "pcgen.models.LatentGAN", "init_args": {"autoencoder": "/"}},
    {"class_path": "pcgen.nets.MLPDecoder", "init_args": {}},
)  # fmt: skip


@functools.cache
def _models() -> tuple[Any, ...]:
    import torch

    from pcgen.models import GAN, VAE
    from pcgen.nets import FoldingDecoder, MLPDecoder, PointNetEncoder

    torch.manual_seed(0)
    vae = VAE(PointNetEncoder((4, 8)), MLPDecoder(2, 6, (4,)))
    folding = VAE(PointNetEncoder((4,)), FoldingDecoder(2, 6, 4, 1, (4,), 1))
    return vae, folding, GAN(MLPDecoder(2, 6, (4,)), PointNetEncoder((4, 8)))


def _content(model: Any) -> dict[str, Any]:
    import torch

    groups = [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0]}]
    optimizer = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}}, "param_groups": groups}
    return {
        "epoch": 0,
        "global_step": 3,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": model.state_dict(),
        "optimizer_states": [optimizer],
        "pcgen": model.card(),
    }


def _bytes(content: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def load(path: Path) -> None:
    """Load a model, draw from it if it is one that draws, and look for it as in a folder of checkpoints."""
    import pcgen
    from pcgen.checkpoint import newest_whole

    newest_whole(path.parent)
    pcgen.load(path)


def checkpoint(folder: Path) -> None:
    """Write checkpoints."""
    for k, model in enumerate(_models()):
        (folder / f"{k}.ckpt").write_bytes(_bytes(_content(model)))
    (folder / "bad_plain.ckpt").write_bytes(_bytes({"a": 1}))


def pickles(folder: Path) -> None:
    """Write the pickles of checkpoints."""
    for k, model in enumerate(_models()):
        with zipfile.ZipFile(io.BytesIO(_bytes(_content(model)))) as archive:
            (folder / f"{k}.ckpt").write_bytes(archive.read("archive/data.pkl"))


def load_pickle(path: Path) -> None:
    """Put a pickle into a checkpoint whose checksums are right, and load that; of which, its length says."""
    data = path.read_bytes()
    model = min(_models(), key=lambda m: abs(len(_inside(m)["archive/data.pkl"]) - len(data)))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
        for name, content in (_inside(model) | {"archive/data.pkl": data}).items():
            out.writestr(name, content)
    load(path)


@functools.cache
def _inside(model: Any) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(_bytes(_content(model)))) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def words(folder: Path) -> None:
    """Write seeds of changes; those of one digit change nothing."""
    for k in range(3):
        (folder / f"{k}.ckpt").write_text(str(k))
        (folder / f"{k}.pt").write_text(str(k))
        (folder / f"{k}.safetensors").write_text(str(k))


def load_changed(path: Path) -> None:
    """Write a file of the kind that its name says, with a few changes to what it says, and load it."""
    from pcgen.metrics.extractors import extractor

    kind, data = path.suffix, path.read_bytes()
    if kind == ".pt":
        path.write_bytes(_bytes(_changed(_extractor, data)))
        extractor(path)
        return
    content = _changed(lambda k: _content(_models()[k]), data)
    if kind == ".safetensors":
        _write_safetensors(path, content)
    else:
        path.write_bytes(_bytes(content))
    load(path)


def _write_safetensors(path: Path, content: Any) -> None:
    from torch import Tensor

    from pcgen.safetensors import write_safetensors

    weights, card = (content.get(name) if isinstance(content, dict) else None for name in ("state_dict", "pcgen"))
    weights = weights if isinstance(weights, dict) else {}
    kept = {str(k): v for k, v in weights.items() if isinstance(v, Tensor) and not v.is_sparse and v.numel() < MiB}
    path.unlink()
    try:
        write_safetensors(path, kept, {"pcgen": card})
    except (TypeError, ValueError, OverflowError):  # not what JSON or the format can hold: then there is no such file
        write_safetensors(path, kept, {"pcgen": None})


def _extractor(k: int) -> dict[str, Any]:
    from torch import nn

    from pcgen.nets import CNNEncoder, PointNetEncoder
    from pcgen.recipe import describe

    network = CNNEncoder((1, 8, 8), (4,), (8,)) if k else PointNetEncoder((4, 8))
    parts = nn.ModuleList([network, nn.Linear(8, 3)])
    shown = {"kind": "images"} if k else {"kind": "clouds", "radius": 1.0, "up_axis": 1}
    return {
        "pcgen_extractor": 1,
        "recipe": {"network": describe(network), "classes": 3},
        "card": {"name": "mine", "input": shown},
        "weights": dict(parts.state_dict()),
    }


def _changed(make: Callable[[int], dict[str, Any]], data: bytes) -> Any:
    """Give content that says something else at a few places, its hash right where it has one."""
    import torch

    content: Any = make(data[0] % 3 if data else 0)
    rng = random.Random(data)
    torch.manual_seed(len(data))
    for _ in range(0 if data in (b"0", b"1", b"2") else rng.choice((1, 1, 1, 2, 4))):
        _change(content, rng)
    if "pcgen_extractor" in content:
        content["identity"] = _identity(content)
    return content


def _identity(content: dict[str, Any]) -> str:
    from pcgen.metrics.extractors import fingerprint

    try:
        return fingerprint(content["recipe"], content["weights"])
    except Exception:  # noqa: BLE001 -- of what is no extractor any more, there is no right one
        return ""


def _change(content: dict[str, Any], rng: random.Random) -> None:
    """Change one place: the deeper the content, the deeper the place."""
    parts = [key for key in ("state_dict", "weights", *2 * ("pcgen", "recipe"), "card") if key in content]
    inner: Any = content[rng.choice(parts)] if parts and rng.random() < 0.9 else content
    while isinstance(inner, dict | list) and inner:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = rng.choice(keys)
        if not isinstance(inner[key], dict | list) or not inner[key] or rng.random() < 0.25:
            _put(inner, key, rng)
            return
        inner = inner[key]


def _put(inner: Any, key: Any, rng: random.Random) -> None:
    what = rng.randrange(6)
    if what == 0:
        del inner[key]
    elif what == 1 and isinstance(inner, dict):
        inner[rng.choice(HOSTILE[14:19])] = inner.pop(key)
    elif what == 2:
        inner[key] = [inner[key], inner[key]]
        for _ in range(rng.choice((1, 30, 200))):
            inner[key] = [inner[key]]
    else:
        inner[key] = rng.choice(HOSTILE) if rng.random() < 0.6 else _tensor(rng)


def _tensor(rng: random.Random) -> Any:
    import torch

    size = tuple(rng.choice((0, 1, 2, 4, 8, 1 << 16, 1 << 20)) for _ in range(rng.randrange(4)))
    kind = rng.choice((torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64))
    return torch.ones((), dtype=kind).expand(size) if rng.random() < 0.7 else torch.eye(3).to_sparse()


def safetensors(folder: Path) -> None:
    """Write models as safetensors."""
    from safetensors.torch import save_file

    from pcgen.safetensors import write_safetensors

    for k, model in enumerate(_models()):
        write_safetensors(folder / f"{k}.safetensors", model.state_dict(), {"pcgen": model.card(), "epoch": 1})
    save_file({"w": _models()[0].state_dict()["mean.weight"]}, folder / "bad_other.safetensors")


def extractors(folder: Path) -> None:
    """Write extractors."""
    for k in range(2):
        (folder / f"{k}.pt").write_bytes(_bytes(_changed(_extractor, str(k).encode())))


def load_extractor(path: Path) -> None:
    """Load an extractor."""
    from pcgen.metrics.extractors import extractor

    extractor(path)


def tensors(folder: Path) -> None:
    """Write clouds as torch saves them, and what is no tensor."""
    import torch

    x = torch.arange(5 * 7 * 3).reshape(5, 7, 3) / 10
    for name, content in {"float": x, "double": x.double(), "half": x.half().transpose(0, 1), "bad": {"x": x}}.items():
        (folder / f"{name}.pt").write_bytes(_bytes(content))


def load_tensor(path: Path) -> None:
    """Read a saved tensor as `pcgen evaluate` does."""
    from pcgen.cli.sets import read_any

    read_any(path, 0)
