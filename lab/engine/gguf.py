"""Reads the header of a GGUF file: key-value pairs and the shapes of the tensors. No tensor data, no dependency."""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
# Names of ggml's tensor types and of llama.cpp's file types; a number that is not here shows as itself.
_TENSOR_TYPES = (
    {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K"}
    | {12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 20: "IQ4_NL", 23: "IQ4_XS", 30: "BF16", 39: "MXFP4"}
)  # fmt: skip
_FILE_TYPES = (
    {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S"}
    | {12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16"}
)  # fmt: skip


class BadGgufError(Exception):
    """The file is no GGUF file of a version that is known here."""


@dataclass(frozen=True)
class Header:
    """pairs: as in the file. tensors: name, type and shape of each, in the file's order."""

    pairs: dict[str, Any]
    tensors: list[dict[str, Any]]

    @property
    def architecture(self) -> str:
        return str(self.pairs["general.architecture"])

    @property
    def parameters(self) -> int:
        return sum(math.prod(tensor["shape"]) for tensor in self.tensors)

    @property
    def parameter_size(self) -> str:
        """As Ollama writes it: 268.10M."""
        for name, unit in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3)):
            if self.parameters >= unit:
                amount = self.parameters / unit
                return f"{amount:.2f}{name}" if name == "M" else f"{amount:.1f}{name}"
        return str(self.parameters)

    @property
    def quantization(self) -> str:
        kind = int(self.pairs.get("general.file_type", 0))
        return _FILE_TYPES.get(kind, f"unknown ({kind})")

    def of_architecture(self, key: str) -> int:
        """A number below the architecture's own prefix, 0 where the file has none."""
        return int(self.pairs.get(f"{self.architecture}.{key}", 0))


def read_header(path: Path) -> Header:
    """Raises BadGgufError, OSError."""
    with path.open("rb") as file:
        try:
            return _read(file)
        except (struct.error, UnicodeDecodeError, KeyError) as error:
            raise BadGgufError(f"{path}: the header ends early or has an unknown type: {error!r}") from error


def begin(file: BinaryIO) -> tuple[int, int]:
    """How many tensors the file has, and how many pairs, which come next. Raises BadGgufError, struct.error."""
    magic, version = unpack(file, "<4sI")
    if magic != b"GGUF" or version not in {2, 3}:
        raise BadGgufError(f"{file.name}: no GGUF file of version 2 or 3")
    n_tensors, n_pairs = unpack(file, "<QQ")
    return n_tensors, n_pairs


def _read(file: BinaryIO) -> Header:
    n_tensors, n_pairs = begin(file)
    pairs = {}
    for _ in range(n_pairs):
        key = read_string(file)
        pairs[key] = read_value(file, unpack(file, "<I")[0])
    return Header(pairs, [_tensor(file) for _ in range(n_tensors)])


def _tensor(file: BinaryIO) -> dict[str, Any]:
    name = read_string(file)
    (n_dimensions,) = unpack(file, "<I")
    shape = list(unpack(file, f"<{n_dimensions}Q"))
    kind, _offset = unpack(file, "<IQ")
    return {"name": name, "type": _TENSOR_TYPES.get(kind, str(kind)), "shape": shape}


def read_value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return read_string(file)
    if kind != _ARRAY:
        (value,) = unpack(file, _SCALARS[kind])
        # A float of 32 bits in the fewest digits that mean it, as every other reader shows it.
        return float(f"{value:.7g}") if kind == 6 else value
    item_kind, count = unpack(file, "<IQ")
    if item_kind in _SCALARS:
        return list(unpack(file, f"<{count}{_SCALARS[item_kind][1]}"))
    return [read_value(file, item_kind) for _ in range(count)]


def read_string(file: BinaryIO) -> str:
    return file.read(unpack(file, "<Q")[0]).decode()


def unpack(file: BinaryIO, shape: str) -> tuple[Any, ...]:
    return struct.unpack(shape, file.read(struct.calcsize(shape)))
