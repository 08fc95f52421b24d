import struct
from pathlib import Path

import pytest

from lab.engine.gguf import BadGgufError, read_header


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def header(pairs: list[bytes], tensors: list[tuple[str, list[int], int]]) -> bytes:
    parts = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(pairs)), *pairs]
    for name, shape, kind in tensors:
        parts += [string(name), struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, 0)]
    return b"".join(parts)


def test_a_header(tmp_path: Path) -> None:
    pairs = [
        pair("general.architecture", 8, string("llama")),
        pair("general.file_type", 4, struct.pack("<I", 3)),
        pair("llama.context_length", 4, struct.pack("<I", 8192)),
        pair("llama.eps", 6, struct.pack("<f", 1e-5)),
        pair("tokens", 9, struct.pack("<IQ", 8, 2) + string("a") + string("b")),
        pair("scores", 9, struct.pack("<IQ2i", 5, 2, -1, 7)),
    ]
    path = tmp_path / "x.gguf"
    path.write_bytes(header(pairs, [("a.weight", [1000, 1500], 3), ("b.weight", [7], 0)]) + b"data")
    read = read_header(path)
    assert read.pairs["tokens"] == ["a", "b"]
    assert read.pairs["scores"] == [-1, 7]
    assert read.pairs["llama.eps"] == 1e-5
    assert (read.architecture, read.quantization, read.of_architecture("context_length")) == ("llama", "Q4_1", 8192)
    assert read.of_architecture("nothing") == 0
    assert read.tensors[0] == {"name": "a.weight", "type": "Q4_1", "shape": [1000, 1500]}
    assert (read.parameters, read.parameter_size) == (1500007, "1.50M")


@pytest.mark.parametrize("data", [b"", b"GGUF", b"PK\3\4" + bytes(100), header([], [("a", [1], 0)])[:-4]])
def test_what_is_no_gguf_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(BadGgufError, match=r"x\.gguf"):
        read_header(path)
