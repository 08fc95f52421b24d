"""The unit and the environment of a server without a container as the role makes them, and what systemd says of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).resolve().parents[2] / "roles" / "ollama"
PLAIN = {"gpus": [], "wsl": False, "wsl_gpu": False, "driver": {"loaded": None}}
H100 = {"gpus": [{"device_id": "2330"}], "wsl": False, "wsl_gpu": False, "driver": {"loaded": "580.159.04"}}
WSL = {"gpus": [], "wsl": True, "wsl_gpu": True, "driver": {"loaded": None}}
ANALYZE = shutil.which("systemd-analyze")


def templar(host: dict[str, Any], **variables: Any) -> Templar:
    """What fills in the role's templates for a host with these variables in its inventory."""
    loader = DataLoader()
    known: dict[str, Any] = {}
    for name in ("defaults", "vars"):
        known |= loader.load_from_file(str(ROLE / name / "main.yml"), trusted_as_template=True)
    known |= {"ansible_managed": "Ansible managed", "ansible_facts": {"ollama_fleet": host}, **variables}
    return Templar(loader=loader, variables=known)


def unit(host: dict[str, Any], **variables: Any) -> str:
    text = (ROLE / "templates" / "ollama.service.j2").read_text()
    return str(templar(host, **variables).template(trust_as_template(text)))


def environment(host: dict[str, Any], **variables: Any) -> dict[str, str]:
    """The variables that the server gets; how they are written is in tests/unit/plugins/test_native_ollama.py."""
    told = templar(host, **variables).template(trust_as_template("{{ __ollama_native_environment }}"))
    return {name: str(value) for name, value in told.items()}


CASES = {
    "plain": (PLAIN, {}),
    "gpu": (H100, {}),
    "wsl": (WSL, {}),
    "in a home": (PLAIN, {"ollama_data_dir": "/home/big disk/100%"}),
}


@pytest.mark.skipif(not ANALYZE, reason="no systemd here")
@pytest.mark.parametrize("case", CASES)
def test_systemd_takes_the_unit_and_calls_it_tight(tmp_path: Path, case: str) -> None:
    host, variables = CASES[case]
    text = unit(host, **variables)
    # It looks for the programs.
    file = tmp_path / "ollama.service"
    file.write_text(re.sub(r"/opt/ollama/current/bin/ollama|/usr/bin/nvidia-modprobe", "/bin/true", text))
    checked = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", str(file)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    judged = subprocess.run(
        [str(ANALYZE), "security", "--offline=true", "--no-pager", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    exposure = re.search(r"exposure level for ollama.service: ([\d.]+)", judged.stdout)
    assert exposure, judged.stderr
    assert float(exposure[1]) < 3


def test_devices_are_made_ready_where_there_are_some_and_another_driver_makes_another_unit() -> None:
    assert "ExecStartPre=-+/usr/bin/nvidia-modprobe -c 0 -u" in unit(H100)
    assert "# Driver: 580.159.04." in unit(H100)
    assert unit(H100) != unit({**H100, "driver": {"loaded": "580.173.02"}})
    for host, variables in [(PLAIN, {}), (WSL, {}), (H100, {"ollama_use_gpu": False})]:
        assert "nvidia-modprobe" not in unit(host, **variables)


# Each hides the GPU, now or after the next boot; the template says how.
@pytest.mark.parametrize("name", ["PrivateDevices", "DeviceAllow", "DevicePolicy", "ProtectClock", "ProcSubset"])
def test_nothing_in_the_unit_keeps_the_gpu_from_the_server(name: str) -> None:
    assert not re.search(rf"^{name}=", unit(H100), re.MULTILINE)


def test_only_the_models_can_be_written_and_a_home_can_be_read_where_they_are_in_one() -> None:
    assert 'ReadWritePaths="/var/lib/ollama"' in unit(PLAIN)
    assert "ProtectHome=yes" in unit(PLAIN)
    assert 'ReadWritePaths="/home/m/100%%"' in unit(PLAIN, ollama_data_dir="/home/m/100%")
    assert "ProtectHome=read-only" in unit(PLAIN, ollama_data_dir="/home/m")


def test_settings_are_those_of_the_container() -> None:
    compose = (ROLE / "templates" / "compose.yaml.j2").read_text()
    assert "__ollama_settings | dictsort" in compose
    settings = templar(H100).template(trust_as_template("{{ __ollama_settings }}"))
    told = environment(H100)
    assert {name: told[name] for name in settings} == {name: str(value) for name, value in settings.items()}
    own = {"OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_VULKAN", "HOME", "CUDA_CACHE_PATH"}
    assert set(told) - set(settings) == own


def test_server_listens_here_alone_and_keeps_models_and_key_where_the_container_does() -> None:
    told = environment(PLAIN, ollama_port=11500, ollama_data_dir="/data/o")
    assert told["OLLAMA_HOST"] == "127.0.0.1:11500"
    assert told["OLLAMA_MODELS"] == "/data/o/models"
    assert told["HOME"] == "/opt/ollama/home"


@pytest.mark.parametrize(
    ("host", "variables", "expected"),
    [
        (H100, {}, None),
        (H100, {"ollama_gpu_device_ids": ["GPU-1", "GPU-2"]}, "GPU-1,GPU-2"),
        (H100, {"ollama_use_gpu": False}, "-1"),
        (PLAIN, {"ollama_use_gpu": False, "ollama_gpu_device_ids": ["GPU-1"]}, "-1"),
    ],
)
def test_gpus_are_those_that_a_container_would_get(
    host: dict[str, Any], variables: dict[str, Any], expected: str | None
) -> None:
    told = environment(host, **variables)
    assert told.get("CUDA_VISIBLE_DEVICES") == expected
    assert told["OLLAMA_VULKAN"] == "0"


def test_libraries_of_windows_are_found_on_wsl_alone() -> None:
    assert environment(WSL)["LD_LIBRARY_PATH"] == "/usr/lib/wsl/lib"
    assert "LD_LIBRARY_PATH" not in environment(H100)


def test_inventory_has_the_last_word_but_not_on_where_it_listens() -> None:
    wishes = {"OLLAMA_VULKAN": 1, "LD_LIBRARY_PATH": "/opt/x", "HOME": "/root"}
    told = environment(WSL, ollama_environment=wishes)
    assert (told["OLLAMA_VULKAN"], told["LD_LIBRARY_PATH"]) == ("1", "/opt/x")
    assert told["HOME"] == "/opt/ollama/home"


def test_download_gets_what_it_needs_of_the_settings_and_no_more() -> None:
    wishes = {"OLLAMA_DEBUG": "1", "HTTPS_PROXY": "http://p", "no_proxy": "a", "SSL_CERT_FILE": "/c", "MY_PROXY": 1}
    told = templar(PLAIN, ollama_environment=wishes).template(trust_as_template("{{ __ollama_native_download }}"))
    assert told == {"HTTPS_PROXY": "http://p", "no_proxy": "a", "SSL_CERT_FILE": "/c"}
