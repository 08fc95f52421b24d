"""Secure Boot and the key that DKMS signs with."""

import base64

import pytest

from tests.unit.plugins.host_trees import HostTree

OWN, OTHER = b"\x30\x82\x03\x01own certificate", b"\x30\x82\x03\x01somebody else's"
HEAD = bytes(44)
LIST = "sys/firmware/efi/mok-variables/MokListRT"
VARIABLE = "sys/firmware/efi/efivars/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23"
DKMS, UBUNTU = "var/lib/dkms/mok.pub", "var/lib/shim-signed/mok/MOK.der"


def debian(tree: HostTree) -> HostTree:
    return tree.system("debian", "13", "6.12.0-1-amd64")


@pytest.mark.parametrize("place", [LIST, VARIABLE])
@pytest.mark.parametrize(("listed", "expected"), [(OWN, True), (OTHER, False)])
def test_key_is_enrolled_when_the_firmwares_list_has_it(
    tree: HostTree, place: str, listed: bytes, expected: bool
) -> None:
    debian(tree).write(place, HEAD + OTHER + HEAD + listed).write(DKMS, OWN)
    assert tree.observe().mok_enrolled is expected


def test_machine_without_uefi_cannot_say(tree: HostTree) -> None:
    assert debian(tree).write(DKMS, OWN).observe().mok_enrolled is None


def test_host_without_a_key_has_none_enrolled(tree: HostTree) -> None:
    assert debian(tree).write(LIST, HEAD + OTHER).observe().mok_enrolled is False


def test_ubuntu_signs_with_its_own_key(tree: HostTree) -> None:
    tree.system("ubuntu", "24.04", "6.8.0-45-generic", "debian")
    tree.write(LIST, HEAD + OTHER).write(DKMS, OTHER).write(UBUNTU, OWN)
    assert tree.observe().mok_enrolled is False
    tree.write(LIST, HEAD + OWN)
    assert tree.observe().mok_enrolled is True


def test_key_that_dkms_is_told_to_use_counts(tree: HostTree) -> None:
    debian(tree).write("etc/dkms/framework.conf", "# x\nmok_certificate=/var/lib/keys/fleet.der\n")
    tree.write(LIST, HEAD + OWN).write("var/lib/keys/fleet.der", OWN).write(DKMS, OTHER)
    assert tree.observe().mok_enrolled is True


def test_key_as_text_is_the_same_key(tree: HostTree) -> None:
    text = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(OWN) + b"-----END CERTIFICATE-----\n"
    debian(tree).write(LIST, HEAD + OWN).write(DKMS, text)
    assert tree.observe().mok_enrolled is True
