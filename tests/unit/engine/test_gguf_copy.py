"""A copy as llama-quantize makes it. That a file of its own stays what it is, is tested with a real one's digest."""

from pathlib import Path

import pytest

from lab.engine.gguf import BadGgufError, read_header
from lab.engine.gguf_copy import copied
from tests.unit.plugins.gguf_bytes import gguf, string


def with_data(path: Path, pairs: dict[str, object], tensors: list[tuple[str, bytes]], alignment: int = 32) -> Path:
    """A GGUF file whose tensors lie in the order given; each is of one dimension and of 8-bit numbers (type 24)."""
    head, data = gguf(pairs, [(name, [len(content)], 24) for name, content in tensors]), b""
    for name, content in tensors:
        # The writer of headers sets all offsets to 0.
        entry = string(name) + gguf({}, [(name, [len(content)], 24)])[24 + len(string(name)) :]
        head = head.replace(entry, entry[:-8] + len(data).to_bytes(8, "little"))
        data += content + bytes(-len(content) % alignment)
    path.write_bytes(head + bytes(-len(head) % alignment) + data)
    return path


TENSORS = [
    ("blk.10.b", b"k" * 33),
    ("blk.2.z", b"z" * 32),
    ("output.weight", b"o" * 5),
    ("blk.2.a", b"a" * 64),
    ("extra", b"e"),
]


def test_keys_and_tensors_are_in_llama_cpps_order_and_the_data_goes_with_them(tmp_path: Path) -> None:
    pairs = {"general.file_type": 3, "general.architecture": "llama", "split.count": 1, "llama.x": [1, 2], "a": "text"}
    source = with_data(tmp_path / "source", pairs, TENSORS)
    copy = tmp_path / "copy"
    copy.write_bytes(b"".join(copied(source)))
    header = read_header(copy)
    assert list(header.pairs) == [
        "general.architecture",
        "llama.x",
        "a",
        "general.quantization_version",
        "general.file_type",
    ]
    assert header.pairs["general.quantization_version"] == 2
    assert [tensor["name"] for tensor in header.tensors] == ["extra", "output.weight", "blk.2.a", "blk.2.z", "blk.10.b"]
    data = copy.read_bytes()[-7 * 32 :]
    assert data.replace(b"\0", b"") == b"e" + b"o" * 5 + b"a" * 64 + b"z" * 32 + b"k" * 33
    assert [data.index(letter) for letter in (b"e", b"o", b"a", b"z", b"k")] == [0, 32, 64, 128, 160]
    assert b"".join(copied(copy)) == copy.read_bytes()


def test_a_file_of_another_alignment_keeps_it(tmp_path: Path) -> None:
    source = with_data(tmp_path / "source", {"general.alignment": 64}, TENSORS, 64)
    copy = tmp_path / "copy"
    copy.write_bytes(b"".join(copied(source)))
    assert copy.stat().st_size % 64 == 0
    assert b"".join(copied(copy)) == copy.read_bytes()


@pytest.mark.parametrize("left", [3, 40, -200])
def test_half_a_file_is_no_model(tmp_path: Path, left: int) -> None:
    source = with_data(tmp_path / "source", {"general.architecture": "llama"}, TENSORS)
    source.write_bytes(source.read_bytes()[:left])
    with pytest.raises(BadGgufError):
        list(copied(source))
