"""What TensorBoard and W&B have written, read as their own dashboards would."""

import json
import struct


def of_tensorboard(folder):
    """The events of a folder; pictures, scalars and tensors, all of them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0, "scalars": 0}).Reload()


def records(file):
    """Records of a W&B run that was offline, oldest first.

    The file is a LevelDB log: 7 bytes of header; blocks of 32 KiB; crc u32, length u16, type u8 before each part.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, record = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (free := 32768 - at % 32768) < 7:
            at += free
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(record)
            record = b""


def values(items):
    """The values of a record by name; `key:_type` is the type of a medium."""
    return {item.key or ":".join(item.nested_key): json.loads(item.value_json) for item in items}
