"""What the first bytes of a GGUF file say, whole, cut anywhere, and made to do harm."""

import struct

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.gguf_header import LONGEST_ARRAY, read

from tests.unit.plugins.gguf_bytes import gguf, pair, string

PAIRS = {
    "general.architecture": "llama",
    "general.file_type": 15,
    "llama.rope.freq_base": 500000.0,
    "llama.attention.head_count_kv": [8, 0, 8],
    "tokenizer.ggml.add_bos_token": True,
    "tokenizer.ggml.tokens": ["<s>", "größe"],
}
# 12: Q4_K, 144 bytes for 256 values; 0: F32.
TENSORS = [("token_embd.weight", [512, 100], 12), ("output_norm.weight", [512], 0)]


def test_a_whole_header() -> None:
    header = read(gguf(PAIRS, TENSORS) + b"tensor data")
    assert header.pairs == PAIRS
    assert header.tensors == {"token_embd.weight": 200 * 144, "output_norm.weight": 2048}
    assert header.complete


def test_a_tensor_of_an_unknown_type_has_no_size() -> None:
    assert read(gguf({}, [("x", [64], 99)])).tensors == {"x": None}


def test_cut_anywhere_it_says_what_it_has() -> None:
    data = gguf(PAIRS, TENSORS)
    end_of_pairs = len(gguf(PAIRS))
    for length in range(24, len(data)):
        header = read(data[:length])
        assert header.pairs == dict(list(PAIRS.items())[: len(header.pairs)])
        assert header.complete == (length >= end_of_pairs)
        assert header.tensors is None


def test_the_words_of_a_tokenizer_are_counted_even_where_they_are_cut() -> None:
    words = [f"word{number}" for number in range(LONGEST_ARRAY + 1)]
    data = gguf({"general.architecture": "llama", "tokenizer.ggml.tokens": words, "llama.block_count": 2})
    assert read(data).pairs["tokenizer.ggml.tokens"] == {"count": LONGEST_ARRAY + 1}
    assert read(data).pairs["llama.block_count"] == 2
    cut = read(data[:200])
    assert cut.pairs["tokenizer.ggml.tokens"] == {"count": LONGEST_ARRAY + 1}
    assert not cut.complete


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "shorter"),
        (b"GGUF\3\0\0\0", "shorter"),
        (b"PK\3\4" + bytes(100), "does not begin"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "does not begin"),
        (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "does not begin"),
    ],
)
def test_what_is_no_gguf_file(data: bytes, why: str) -> None:
    with pytest.raises(FleetError, match=why):
        read(data)


def test_arrays_in_arrays_are_refused() -> None:
    nested = string("k") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 9, 1) * 5000
    with pytest.raises(FleetError, match="type 9"):
        read(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + nested)


def test_numbers_that_promise_more_than_there_is_cost_nothing() -> None:
    huge = struct.pack("<4sIQQ", b"GGUF", 3, 2**63, 2**63)
    assert read(huge).pairs == {}
    array = string("k") + struct.pack("<IIQ", 9, 4, 2**62)
    assert read(huge + array).pairs == {"k": {"count": 2**62}}
    assert read(huge + pair("a", 1) + struct.pack("<Q", 2**62)).pairs == {"a": 1}
    shape = string("t") + struct.pack("<I", 2**32 - 1)
    assert read(struct.pack("<4sIQQ", b"GGUF", 3, 1, 0) + shape).tensors is None
