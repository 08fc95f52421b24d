"""The keys of NVIDIA's repositories that the driver's role knows: one for each release, as documented."""

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import sources

ROOT = Path(__file__).parents[3]
KEYS = yaml.safe_load((ROOT / "roles/nvidia_driver/vars/main.yml").read_text())["__nvidia_driver_keys"]
RELEASES = [
    ("debian", "12", "debian"),
    ("debian", "13", "debian"),
    ("ubuntu", "22.04", "debian"),
    ("ubuntu", "24.04", "debian"),
    ("ubuntu", "26.04", "debian"),
    ("rocky", "9.6", "redhat"),
    ("almalinux", "10.1", "redhat"),
]


@pytest.mark.parametrize(("identity", "release", "family"), RELEASES)
def test_each_release_that_a_driver_is_known_for_has_its_key(identity: str, release: str, family: str) -> None:
    host = {"os": {"id": identity, "version_id": release, "family": family, "architecture": "x86_64"}}
    assert sources.supported(host)
    key = KEYS[" ".join(sources.release_of(host))]
    # A fingerprint ends in the short id that NVIDIA calls the file by.
    assert re.fullmatch(r"[0-9A-F]{40}|", key["fingerprint"])
    assert key["fingerprint"].endswith(key["name"].removesuffix(".pub").upper()) or not key["fingerprint"]


def test_there_is_no_key_for_a_release_without_a_driver() -> None:
    hosts = [{"os": {"id": name, "version_id": release, "family": family}} for name, release, family in RELEASES]
    assert {" ".join(sources.release_of(host)) for host in hosts} == set(KEYS)


def test_documentation_names_the_same_keys() -> None:
    rows = re.findall(
        r"^\| (\w+ [\d.]+) \| `(\w+\.pub)` \| (.*?) \|$", (ROOT / "docs/drivers.md").read_text(), re.MULTILINE
    )
    documented = {
        release.lower(): {"name": name, "fingerprint": said.strip("`") if said.startswith("`") else ""}
        for release, name, said in rows
    }
    assert documented == KEYS
