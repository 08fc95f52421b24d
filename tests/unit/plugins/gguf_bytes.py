"""Writes the beginning of a GGUF file, as ggml's docs/gguf.md has it."""

import struct
from collections.abc import Sequence
from typing import Any

_KINDS = {bool: (7, "<?"), int: (4, "<I"), float: (6, "<f")}


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(item: Any) -> tuple[int, bytes]:
    """The number of a value's type, and its bytes."""
    if isinstance(item, str):
        return 8, string(item)
    if isinstance(item, list):
        parts = [value(one) for one in item]
        return 9, struct.pack("<IQ", parts[0][0], len(parts)) + b"".join(data for _kind, data in parts)
    kind, shape = _KINDS[type(item)]
    return kind, struct.pack(shape, item)


def pair(key: str, item: Any) -> bytes:
    kind, data = value(item)
    return string(key) + struct.pack("<I", kind) + data


def tensor(name: str, shape: Sequence[int], kind: int) -> bytes:
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0)


def gguf(pairs: dict[str, Any], tensors: Sequence[tuple[str, Sequence[int], int]] = ()) -> bytes:
    """The header of a file with these pairs and (name, shape, number of the type) of its tensors."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs))
    return head + b"".join(pair(*item) for item in pairs.items()) + b"".join(tensor(*item) for item in tensors)
