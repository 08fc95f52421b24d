import re
from pathlib import Path

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import nvidia_pci, nvidia_pci_ids

from tests.pci_support import table

DATABASE = """\
#	Version: 2026.10.24
0e8d  MediaTek Corp.
	2330  Not a card of NVIDIA
10de  NVIDIA Corporation
	0040  NV40 [GeForce 6800 Ultra]
	1aef  GA102 High Definition Audio Controller
	22a3  GH100 [H100 NVSwitch]
	2302  GH100
	2330  GH100 [H100 SXM5 80GB]
		10de 16c1  a subsystem, which is no card of its own
	2901  GB100 [B200]
	2c18  GB203M / GN22 [GeForce RTX 5090 Max-Q / Mobile]
	3000  GR100 [Reserved Dev ID A]
10df  Emulex Corporation
	2331  Not a card of NVIDIA either
"""


def test_every_line_of_the_table_is_a_card_of_a_known_architecture() -> None:
    lines = nvidia_pci_ids.TABLE.strip().splitlines()
    assert len(lines) > 800
    assert len(nvidia_pci.cards()) == len(lines)
    numbers = [int(line.split()[0], 16) for line in lines]
    assert numbers == sorted(set(numbers))
    for line in lines:
        assert re.fullmatch(r"[0-9a-f]{4} [A-Z]{2}\w+( \S.*\S)?", line), line
        assert nvidia_pci.architecture(int(line.split()[0], 16)) in nvidia_pci.ARCHITECTURES, line


def test_table_names_its_source() -> None:
    assert re.fullmatch(r"20\d\d\.\d\d\.\d\d", nvidia_pci_ids.VERSION)
    assert f"version {nvidia_pci_ids.VERSION}" in (nvidia_pci_ids.__doc__ or "")


def test_table_is_made_of_the_database() -> None:
    made = table.table_of(DATABASE)
    rows = made.split('TABLE = """\n')[1].split('"""')[0].splitlines()
    assert rows == [
        "2302 GH100",
        "2330 GH100 H100 SXM5 80GB",
        "2901 GB100 B200",
        "2c18 GB203M GeForce RTX 5090 Max-Q / Mobile",
    ]


def test_file_is_as_its_maker_writes_it() -> None:
    text = Path(nvidia_pci_ids.__file__).read_text()
    assert text == table.HEADER.format(
        version=nvidia_pci_ids.VERSION,
        year=nvidia_pci_ids.VERSION[:4],
        first=nvidia_pci_ids.FIRST,
        table=nvidia_pci_ids.TABLE.strip(),
    )


@pytest.mark.parametrize(
    ("device_id", "architecture", "model"),
    [
        (0x10C3, "tesla", "GeForce 8400 GS Rev. 3"),
        (0x1080, "fermi", "GeForce GTX 580"),
        (0x102D, "kepler", "Tesla K80"),
        (0x13F2, "maxwell", "Tesla M60"),
        (0x17FD, "maxwell", "Tesla M40"),
        (0x15F8, "pascal", "Tesla P100 PCIe 16GB"),
        (0x15F9, "pascal", "Tesla P100 SXM2 16GB"),
        (0x1BB3, "pascal", "Tesla P4"),
        (0x1B06, "pascal", "GeForce GTX 1080 Ti"),
        (0x1DB4, "volta", "Tesla V100 PCIe 16GB"),
        (0x1DB6, "volta", "Tesla V100 PCIe 32GB"),
        (0x1EB8, "turing", "Tesla T4"),
        (0x2184, "turing", "GeForce GTX 1660"),
        (0x20B2, "ampere", "A100 SXM4 80GB"),
        (0x20B5, "ampere", "A100 PCIe 80GB"),
        (0x2236, "ampere", "A10"),
        (0x2204, "ampere", "GeForce RTX 3090"),
        (0x26B9, "ada", "L40S"),
        (0x27B8, "ada", "L4"),
        (0x2684, "ada", "GeForce RTX 4090"),
        (0x2330, "hopper", "H100 SXM5 80GB"),
        (0x2331, "hopper", "H100 PCIe"),
        (0x2335, "hopper", "H200 SXM 141GB"),
        (0x233B, "hopper", "H200 NVL"),
        (0x2342, "hopper", "GH200 120GB / 480GB"),
        (0x2901, "blackwell", "B200"),
        (0x2941, "blackwell", "HGX GB200"),
        (0x3182, "blackwell", "B300 SXM6 AC"),
        (0x31C2, "blackwell", "GB300"),
        (0x2BB1, "blackwell", "RTX PRO 6000 Blackwell Workstation Edition"),
        (0x2BB5, "blackwell", "RTX PRO 6000 Blackwell Server Edition"),
        (0x2B85, "blackwell", "GeForce RTX 5090"),
        (0x2C02, "blackwell", "GeForce RTX 5080"),
        (0x2F04, "blackwell", "GeForce RTX 5070"),
        (0x2D04, "blackwell", "GeForce RTX 5060 Ti"),
        (0x2E12, "blackwell", "GB10"),
        (0x2302, "hopper", None),
    ],
)
def test_well_known_cards_have_their_architecture_and_name(
    device_id: int, architecture: str, model: str | None
) -> None:
    assert (nvidia_pci.architecture(device_id), nvidia_pci.model(device_id)) == (architecture, model)


@pytest.mark.parametrize("device_id", [0x0020, 0x2332, 0x2B86, 0x3002, 0x7FFF])
def test_id_that_the_table_lacks_is_unknown_whatever_its_neighbours_are(device_id: int) -> None:
    assert (nvidia_pci.architecture(device_id), nvidia_pci.model(device_id)) == ("unknown", None)


def test_nvswitches_are_no_cards() -> None:
    for device_id in nvidia_pci.NVSWITCHES:
        assert nvidia_pci.architecture(device_id) == "unknown"


@pytest.mark.parametrize(
    ("device_id", "bridged", "on_grace"),
    [
        (0x2901, True, False),  # B200
        (0x3182, True, False),  # B300
        (0x2941, False, True),  # GB200
        (0x31C2, False, True),  # GB300
        (0x2330, False, False),  # H100
        (0x2BB5, False, False),  # RTX PRO 6000
        (0x2E12, False, False),  # GB10
    ],
)
def test_ids_tell_what_nvlink_may_need(device_id: int, bridged: bool, on_grace: bool) -> None:
    assert nvidia_pci.switches_behind_bridges(device_id) is bridged
    assert nvidia_pci.on_grace(device_id) is on_grace


def test_order_of_architectures_tells_which_is_older() -> None:
    assert nvidia_pci.older_than("pascal", "turing")
    assert not nvidia_pci.older_than("hopper", "turing")
    assert not nvidia_pci.older_than("unknown", "turing")
