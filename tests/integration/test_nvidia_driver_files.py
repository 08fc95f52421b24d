"""Which files the driver's role writes on hosts of the recorded fleet, and what is in them. No host is touched."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.foundation import ROOT, Playground

FLEET = ROOT / "tests" / "data" / "fleet"
ROLE = ROOT / "roles" / "nvidia_driver"
PREFERENCES = "/etc/apt/preferences.d/ollama-fleet-nvidia-driver"
SOURCE = "/etc/apt/sources.list.d/ollama-fleet-nvidia-driver.sources"
YUM = "/etc/yum.repos.d/ollama-fleet-nvidia-driver.repo"
MODULES = "/etc/modules-load.d/ollama-fleet-nvidia-driver.conf"
NVIDIA = "https://developer.download.nvidia.com/compute/cuda/repos"
HOSTS: dict[str, dict[str, Any]] = {
    "b200-1": {},
    "debian-desk": {"nvidia_driver_source": "cuda", "differs": {"secure_boot": False}},
    "rocky-l40s": {"nvidia_driver_source": "cuda"},
    "mirrored": {
        "nvidia_driver_repository_url": "http://mirror",
        "nvidia_driver_repository_key_url": "http://mirror/k.gpg",
    },
    "pinned": {
        "nvidia_driver_repository_key_url": "http://mirror/k.gpg",
        "nvidia_driver_repository_key_fingerprint": "AB" * 20,
    },
}
RECORDED = {"mirrored": "b200-1", "pinned": "b200-1"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """{host: {path: content}} of the files that have a template, and an empty text for the key."""
    folder = Path(tmp_path_factory.mktemp("files"))
    out = f"{folder}/{{{{ inventory_hostname }}}}"
    told = f"{{{{ lookup('ansible.builtin.file', '{FLEET}/' ~ recorded ~ '.json') | from_json | combine(differs) }}}}"
    decision = "{{ __nvidia_driver_observed | ollama_fleet.stack.nvidia_driver_plan(__nvidia_driver_wants, {}) }}"
    decided = {"__nvidia_driver_look": {"decision": decision}, "__nvidia_driver_lock": {}}
    tasks = [
        {"name": "Tell", "ansible.builtin.set_fact": {"ollama_fleet": told, "cacheable": True}},
        {"name": "Read variables", "ansible.builtin.include_vars": {"file": f"{ROLE}/vars/main.yml"}},
        {
            "name": "Write what has a template",
            "ansible.builtin.template": {
                "src": f"{ROLE}/templates{{{{ item }}}}.j2",
                "dest": out + "{{ item | replace('/', '!') }}",
            },
            "loop": "{{ __nvidia_driver_files | difference([__nvidia_driver_file.key]) }}",
            "vars": decided,
        },
        {
            "name": "Note the key",
            "ansible.builtin.copy": {
                "content": "{{ {'file': __nvidia_driver_file.key, 'url': key_url} | to_json }}",
                "dest": out + "!key",
            },
            "when": "__nvidia_driver_file.key in __nvidia_driver_files",
            "vars": {**decided, "key_url": "{{ __nvidia_driver_repository_key_url }}"},
        },
    ]
    defaults = {
        "differs": {},
        "nvidia_driver_branch": 580,
        "nvidia_driver_version": "",
        "nvidia_driver_flavor": "auto",
        "nvidia_driver_source": "auto",
        "nvidia_driver_reboot_enabled": False,
        "nvidia_driver_repository_url": NVIDIA,
        "nvidia_driver_repository_key_url": "",
        "nvidia_driver_repository_key_fingerprint": "",
    }
    hosts = {name: {**defaults, **own, "recorded": RECORDED.get(name, name)} for name, own in HOSTS.items()}
    result = Playground(folder).run_on(hosts, tasks)
    assert result.returncode == 0, result.stdout + result.stderr
    found: dict[str, dict[str, str]] = {name: {} for name in hosts}
    for path in folder.glob("*!*"):
        name, _, rest = path.name.partition("!")
        found[name][f"/{rest.replace('!', '/')}" if rest != "key" else rest] = path.read_text()
    return found


def key_of(files: dict[str, str]) -> dict[str, str]:
    return dict(json.loads(files["key"]))


def test_board_with_a_subnet_manager_gets_the_module_that_it_needs(written: dict[str, dict[str, str]]) -> None:
    assert written["b200-1"][MODULES].splitlines()[-1] == "ib_umad"
    assert [name for name, files in written.items() if MODULES in files and RECORDED.get(name, name) != "b200-1"] == []


def test_repository_of_nvidia_is_trusted_by_file_and_fingerprint(written: dict[str, dict[str, str]]) -> None:
    debian, rocky = written["debian-desk"], written["rocky-l40s"]
    key = key_of(debian)
    assert key["url"] == f"{NVIDIA}/debian13/x86_64/8793F200.pub"
    assert f"Signed-By: {key['file']} 02182E60104FCDC26EAE1B8597A5D4CB8793F200\n" in debian[SOURCE]
    assert f"gpgkey=file://{key_of(rocky)['file']}\n" in rocky[YUM]
    assert key_of(rocky)["file"].startswith("/etc/pki/rpm-gpg/")
    assert PREFERENCES in debian
    assert PREFERENCES not in rocky


def test_key_of_a_mirror_is_held_to_a_fingerprint_where_one_is_named(written: dict[str, dict[str, str]]) -> None:
    for name, fingerprint in (("mirrored", ""), ("pinned", " " + "AB" * 20)):
        key = key_of(written[name])
        assert key["url"] == "http://mirror/k.gpg"
        assert f"Signed-By: {key['file']}{fingerprint}\n" in written[name][SOURCE]
