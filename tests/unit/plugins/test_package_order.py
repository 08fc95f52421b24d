"""Versions are ordered as dpkg and rpm order them."""

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import package_order as order

# Each list is in ascending order; taken from Debian's policy, rpm's own tests, and NVIDIA's packages.
DEBIAN = [
    ["1.0~beta1~svn1", "1.0~beta1", "1.0", "1.0-1", "1.0-1+b1", "1.0.1", "1.10", "1:0.5"],
    ["550.163.01-2", "550.163.01-4~bpo13+1", "580.126.09-1", "580.159.04-1", "590.48.01-1", "595.71.05-1", "1:1"],
    ["580.159.03-0ubuntu0.24.04.1", "580.159.04-0ubuntu0.22.04.1", "580.159.04-0ubuntu0.24.04.1", "580.159.04-1"],
    ["1.17.8~rc.1-1", "1.17.8-1", "1.18.0-1"],
    ["6.8.0-9.9", "6.8.0-60.63", "6.8.0-60.63+1", "6.8.0-101.1"],
]
RPM = [
    ["1.0~rc1-1", "1.0-1", "1.0^git1-1", "1.0.a-1", "1.0.1-1", "1.0.2-1", "2.0-1"],
    ["580.126.09-1.el9", "580.159.04-1.el9", "590.48.01-1.el9", "3:580.126.09-1.el9", "3:580.159.04-1.el9"],
    ["1.17.8-1", "1.18.0~rc.1-1", "1.18.0-1"],
]


@pytest.mark.parametrize(
    ("compare", "ascending"), [(order.debian, each) for each in DEBIAN] + [(order.rpm, each) for each in RPM]
)
def test_versions_are_sorted_newest_first(compare: object, ascending: list[str]) -> None:
    shuffled = ascending[1::2] + ascending[::2]
    assert order.newest_first(shuffled, compare) == ascending[::-1]


@pytest.mark.parametrize("compare", [order.debian, order.rpm])
def test_versions_that_mean_the_same_are_equal(compare: object) -> None:
    assert compare("0:1.02-1", "1.2-1") == 0  # type: ignore[operator]
