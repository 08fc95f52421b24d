# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The ways to store a model's weights, by the bits that each takes."""

from __future__ import annotations

# Bits for each weight of a whole file, measured on Llama-3.1-8B by llama.cpp (tools/quantize/README.md). Other models
# differ by some percent, because not every tensor is stored in the same way.
BITS = {
    "F16": 16.0005,
    "Q8_0": 8.5008,
    "Q6_K": 6.5633,
    "Q5_K_M": 5.7036,
    "Q5_K_S": 5.5704,
    "Q4_K_M": 4.8944,
    "Q4_K_S": 4.6672,
    "Q3_K_L": 4.2979,
    "Q3_K_M": 3.9960,
    "Q3_K_S": 3.6429,
    "Q2_K": 3.1593,
}
# Those that model libraries usually offer: what is proposed is one of these.
OFFERED = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
# The numbers of general.file_type (llama.cpp, include/llama.h, llama_ftype).
FILE_TYPES = {
    1: "F16",
    7: "Q8_0",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
}


def name_of(file_type):
    """Return the name of a general.file_type, or None for one that is not in the table."""
    return FILE_TYPES.get(file_type)


def smaller(weights, file_type):
    """Return [(name, bytes of the weights)] of the offered ways that take less, the biggest first.

    weights: bytes now. Nothing where the way that they are stored in is not in the table.
    """
    now = BITS.get(name_of(file_type))
    if now is None:
        return []
    return [(name, int(weights * BITS[name] / now)) for name in OFFERED if BITS[name] < now]
