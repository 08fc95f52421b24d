# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Reads what the first bytes of a GGUF file say: key-value pairs, and the tensors' names, types and shapes.

The beginning of a file is enough: what it does not hold any more is told as missing, and nothing is guessed.
Format: ggml's docs/gguf.md (little-endian, versions 2 and 3). Standard library only: this file travels to the host.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
# Longer arrays (a tokenizer's words) are counted and not kept; what a model says of each of its layers is shorter.
LONGEST_ARRAY = 2048
# Values per block and bytes per block of ggml's tensor types (ggml's type_traits; names as ggml has them).
_BLOCKS = {
    0: (1, 4),  # F32
    1: (1, 2),  # F16
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    9: (32, 36),  # Q8_1
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    15: (256, 292),  # Q8_K
    16: (256, 66),  # IQ2_XXS
    17: (256, 74),  # IQ2_XS
    18: (256, 98),  # IQ3_XXS
    20: (32, 18),  # IQ4_NL
    23: (256, 136),  # IQ4_XS
    24: (1, 1),  # I8
    25: (1, 2),  # I16
    26: (1, 4),  # I32
    27: (1, 8),  # I64
    28: (1, 8),  # F64
    30: (1, 2),  # BF16
    39: (32, 17),  # MXFP4
}


class _CutError(Exception):
    """The bytes end before the value does."""


class Header(NamedTuple):
    """What could be read.

    pairs:    {key: value}. A long array is {"count": number of its items}.
    tensors:  {name: bytes, or None for a type that is not known here}; None where not all of them could be read
    complete: whether all pairs could be read
    """

    pairs: dict[str, Any]
    tensors: dict[str, int | None] | None
    complete: bool


def read(data: bytes) -> Header:
    """The header in the first bytes of a file; FleetError when they are those of something else."""
    reader = _Reader(data)
    try:
        magic, version = reader.unpack("<4sI")
        n_tensors, n_pairs = reader.unpack("<QQ")
    except _CutError:
        raise _bad("it is shorter than a GGUF header") from None
    if magic != b"GGUF" or version not in (2, 3):
        raise _bad("it does not begin as a little-endian GGUF file of version 2 or 3 does")
    pairs: dict[str, Any] = {}
    try:
        for _ in range(n_pairs):
            key = reader.string()
            (kind,) = reader.unpack("<I")
            if kind == _ARRAY:
                item_kind, count = reader.unpack("<IQ")
                if count > LONGEST_ARRAY:
                    # Told before the items are passed over: their number is known even where they are cut.
                    pairs[key] = {"count": count}
                    reader.skip(item_kind, count)
                else:
                    pairs[key] = [reader.value(item_kind) for _ in range(count)]
            else:
                pairs[key] = reader.value(kind)
    except _CutError:
        return Header(pairs, None, complete=False)
    try:
        return Header(pairs, dict(reader.tensor() for _ in range(n_tensors)), complete=True)
    except _CutError:
        return Header(pairs, None, complete=True)


def _bad(why: str) -> FleetError:
    return FleetError("the model's file", why, "use a model whose weights are a GGUF file")


class _Reader:
    """Walks through bytes; every step raises _CutError where they end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise _CutError
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def unpack(self, shape: str) -> tuple[Any, ...]:
        return struct.unpack(shape, self._take(struct.calcsize(shape)))

    def string(self) -> str:
        (length,) = self.unpack("<Q")
        return self._take(length).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind not in _SCALARS:
            # Arrays in arrays are in the format and in no model: a file that has them was made to do harm.
            raise _bad(f"a value in its header has the type {kind}, which no model uses")
        return self.unpack(_SCALARS[kind])[0]

    def skip(self, kind: int, count: int) -> None:
        """Pass over the items of an array."""
        if kind in _SCALARS:
            self._take(struct.calcsize(_SCALARS[kind]) * count)
            return
        for _ in range(count):
            self.value(kind)

    def tensor(self) -> tuple[str, int | None]:
        """A tensor's name and its size in bytes."""
        name = self.string()
        (n_dimensions,) = self.unpack("<I")
        values = math.prod(self.unpack(f"<{n_dimensions}Q"))
        kind, _offset = self.unpack("<IQ")
        if kind not in _BLOCKS:
            return name, None
        per_block, block_bytes = _BLOCKS[kind]
        return name, values // per_block * block_bytes
