"""Copies a GGUF file as llama.cpp's llama-quantize does with COPY: the same tensors, in its own order.

Ollama 0.32 passes every file through it that a model is made of. A file that llama-quantize wrote stays what it is; any
other becomes another file of the same worth, with another digest.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .gguf import BadGgufError, begin, read_string, read_value, unpack

_QUANTIZATION_VERSION = 2
_UINT32 = 4
_SET_OR_LEFT_OUT = {"general.quantization_version", "split.no", "split.count", "split.tensors.count"}
_PIECE = 1 << 20


@dataclass(frozen=True)
class _Tensor:
    """shape: its entry as it is in the file, between name and offset. offset, size: of its data, padding included."""

    name: str
    shape: bytes
    offset: int
    size: int = 0

    @property
    def place(self) -> tuple[int, str]:
        """In llama.cpp's order: by layer, those of none first, then by name."""
        layer = re.match(r"blk\.(\d+)\.", self.name)
        return (int(layer[1]) if layer else -1, self.name)


def copied(path: Path) -> Iterator[bytes]:
    """The bytes of the copy. Raises BadGgufError, OSError."""
    with path.open("rb") as file:
        try:
            yield from _copied(file)
        except (struct.error, UnicodeDecodeError, KeyError) as error:
            raise BadGgufError(f"{path}: the header ends early or has an unknown type: {error!r}") from error


def _copied(file: BinaryIO) -> Iterator[bytes]:
    n_tensors, n_pairs = begin(file)
    pairs, alignment = _pairs(file, n_pairs)
    tensors = [_tensor(file) for _ in range(n_tensors)]
    data = _padded(file.tell(), alignment)
    file.seek(0, 2)
    tensors = _with_sizes(tensors, file.tell() - data)
    head = struct.pack("<4sIQQ", b"GGUF", 3, n_tensors, len(pairs)) + b"".join(pairs)
    in_order, place = sorted(tensors, key=lambda tensor: tensor.place), 0
    for tensor in in_order:
        name = tensor.name.encode()
        head += struct.pack("<Q", len(name)) + name + tensor.shape + struct.pack("<Q", place)
        place += _padded(tensor.size, alignment)
    yield head + bytes(_padded(len(head), alignment) - len(head))
    for tensor in in_order:
        file.seek(data + tensor.offset)
        left = tensor.size
        while left and (piece := file.read(min(_PIECE, left))):
            left -= len(piece)
            yield piece
        yield bytes(_padded(tensor.size, alignment) - tensor.size)


def _pairs(file: BinaryIO, count: int) -> tuple[list[bytes], int]:
    """The pairs as bytes, the two that llama-quantize sets at the end; and the alignment of the data."""
    pairs, alignment, file_type = [], 32, b""
    for _ in range(count):
        start = file.tell()
        key = read_string(file)
        value = read_value(file, unpack(file, "<I")[0])
        end = file.tell()
        file.seek(start)
        pair = file.read(end - start)
        if key == "general.alignment":
            alignment = value
        if key == "general.file_type":
            file_type = pair
        elif key not in _SET_OR_LEFT_OUT:
            pairs.append(pair)
    name = b"general.quantization_version"
    version = struct.pack("<Q", len(name)) + name + struct.pack("<II", _UINT32, _QUANTIZATION_VERSION)
    return [*pairs, version, *([file_type] if file_type else [])], alignment


def _tensor(file: BinaryIO) -> _Tensor:
    name = read_string(file)
    (n_dimensions,) = unpack(file, "<I")
    shape = struct.pack("<I", n_dimensions) + file.read(8 * n_dimensions + 4)
    return _Tensor(name, shape, unpack(file, "<Q")[0])


def _with_sizes(tensors: list[_Tensor], end: int) -> list[_Tensor]:
    in_file = sorted(tensors, key=lambda tensor: tensor.offset)
    ends = [*(tensor.offset for tensor in in_file[1:]), end]
    if any(stop <= tensor.offset for tensor, stop in zip(in_file, ends, strict=True)):
        raise BadGgufError("tensor data is not within the file bounds, model is corrupted or incomplete")
    return [
        _Tensor(tensor.name, tensor.shape, tensor.offset, stop - tensor.offset)
        for tensor, stop in zip(in_file, ends, strict=True)
    ]


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
