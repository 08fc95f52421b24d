"""Chooses a network for the lab that nothing on this machine uses yet."""

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path

from ollama_fleet.errors import FleetError

# Private ranges that few networks use; the first is what the documentation shows.
CANDIDATES = [f"{prefix}.{third}.0/24" for prefix in ("10.213", "172.29", "192.168") for third in range(256)]

REGISTRY = 2
MODELS = 3
FIRST_GPU = 11
FIRST_WEB = 101
FIRST_EXTRA = 121
LAST_EXTRA = 250
MAX_GPU_HOSTS = FIRST_WEB - FIRST_GPU


def choose(routes: Iterable[IPv4Network]) -> IPv4Network:
    """The first candidate that overlaps no route. Raises FleetError when there is none."""
    taken = list(routes)
    for candidate in map(IPv4Network, CANDIDATES):
        if not any(candidate.overlaps(route) for route in taken):
            return candidate
    raise FleetError(
        "no network for the lab",
        "routes of this machine cover all of 10.213.0.0/16, 172.29.0.0/16 and 192.168.0.0/16",
        "end the VPN that covers them while the lab is up, or use another machine",
    )


def routes(table: Path = Path("/proc/net/route")) -> list[IPv4Network]:
    """This machine's IPv4 routes, the default route apart."""
    result = []
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        destination, mask = (ipaddress.IPv4Address(int(fields[i], 16).to_bytes(4, "little")) for i in (1, 7))
        if int(mask):
            result.append(IPv4Network(f"{destination}/{mask}", strict=False))
    return result


def address(subnet: str, number: int) -> str:
    """The address with this number in the network: ("10.213.0.0/24", 11) is 10.213.0.11."""
    return str(IPv4Network(subnet)[number])


def free_extra(subnet: str, used: Iterable[str]) -> str:
    """An address for a host beside the fleet. Raises FleetError when all are used."""
    taken = set(used)
    for candidate in (address(subnet, number) for number in range(FIRST_EXTRA, LAST_EXTRA + 1)):
        if candidate not in taken:
            return candidate
    raise FleetError("no address for another host", f"{subnet} is full", "remove hosts of the lab")
