"""The statistics of a row."""

import math

import pytest

from ollama_fleet.bench.fleet import parse_machine
from ollama_fleet.bench.result import Spread


def test_spread() -> None:
    spread = Spread.of([10.0, 12.0, 11.0, 40.0, 9.0])
    assert spread == Spread(n=5, median=11.0, minimum=9.0, maximum=40.0, mad=1.0)


def test_spread_of_an_even_number() -> None:
    assert Spread.of([1.0, 2.0, 4.0, 5.0]) == Spread(n=4, median=3.0, minimum=1.0, maximum=5.0, mad=1.5)


def test_spread_of_one() -> None:
    assert Spread.of([7.0]) == Spread(n=1, median=7.0, minimum=7.0, maximum=7.0, mad=0.0)


@pytest.mark.parametrize("values", [[], [None], [math.nan, math.inf]])
def test_spread_of_nothing_is_none(values: list[float | None]) -> None:
    assert Spread.of(values) is None


def test_spread_leaves_out_what_is_missing() -> None:
    assert Spread.of([None, 2.0, None, 4.0]) == Spread(n=2, median=3.0, minimum=2.0, maximum=4.0, mad=1.0)


def test_machine() -> None:
    machine = parse_machine(
        "os=Debian GNU/Linux 13 (trixie)\nkernel=Linux 6.12.48\ncpu=AMD EPYC\ncpus=16\n"
        "gpu=NVIDIA H100 80GB HBM3, 580.159.04\ngpu=NVIDIA L4, 580.159.04\n"
    )
    assert (machine.os, machine.kernel, machine.cpu, machine.cpus) == (
        "Debian GNU/Linux 13 (trixie)",
        "Linux 6.12.48",
        "AMD EPYC",
        16,
    )
    assert machine.gpus == ("NVIDIA H100 80GB HBM3, 580.159.04", "NVIDIA L4, 580.159.04")


@pytest.mark.parametrize("text", ["", "os=\nkernel=\ncpu=\ncpus=\n", "Last login: today\ncpus=many\n"])
def test_machine_that_says_little(text: str) -> None:
    machine = parse_machine(text)
    assert (machine.os, machine.cpus, machine.gpus) == (None, None, ())
