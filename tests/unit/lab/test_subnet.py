"""The lab's network keeps clear of every route of this machine."""

from ipaddress import IPv4Network

import pytest

from lab import subnet
from ollama_fleet.errors import FleetError

TABLE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
br-1\t0000D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tun0\t0000D80A\t00000000\t0001\t0\t0\t0\t0000FEFF\t0\t0\t0
"""


def test_routes_are_read_from_the_kernels_table(tmp_path) -> None:
    table = tmp_path / "route"
    table.write_text(TABLE)
    assert subnet.routes(table) == [IPv4Network("10.213.0.0/24"), IPv4Network("10.216.0.0/15")]


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], "10.213.0.0/24"),
        (["10.213.0.0/24"], "10.213.1.0/24"),
        (["10.213.0.0/23", "192.168.1.0/24"], "10.213.2.0/24"),
        (["10.213.0.77/32"], "10.213.1.0/24"),
        (["10.0.0.0/8"], "172.29.0.0/24"),
        (["10.0.0.0/8", "172.16.0.0/12"], "192.168.0.0/24"),
    ],
)
def test_the_first_free_network_is_chosen(taken: list[str], expected: str) -> None:
    assert str(subnet.choose(map(IPv4Network, taken))) == expected


def test_no_free_network_is_an_error() -> None:
    with pytest.raises(FleetError, match="VPN"):
        subnet.choose([IPv4Network("0.0.0.0/1"), IPv4Network("128.0.0.0/1")])


def test_hosts_never_share_an_address() -> None:
    gpu = {subnet.address("10.213.0.0/24", subnet.FIRST_GPU + number) for number in range(subnet.MAX_GPU_HOSTS)}
    others = {
        subnet.address("10.213.0.0/24", number) for number in (1, subnet.REGISTRY, subnet.MODELS, subnet.FIRST_WEB)
    }
    assert not gpu & others
    assert len(gpu) == subnet.MAX_GPU_HOSTS


def test_extra_hosts_take_free_addresses_until_none_is_left() -> None:
    used: list[str] = []
    while len(used) < subnet.LAST_EXTRA - subnet.FIRST_EXTRA + 1:
        used.append(subnet.free_extra("10.213.0.0/24", used))
    assert len(set(used)) == len(used)
    with pytest.raises(FleetError, match="full"):
        subnet.free_extra("10.213.0.0/24", used)
