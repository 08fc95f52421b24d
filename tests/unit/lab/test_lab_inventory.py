"""What the lab writes is an inventory as Ansible reads it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lab import inventory
from lab.hosts import Host
from lab.inventory import Images
from lab.paths import Paths

IMAGES = Images(
    open_webui=f"registry.lab:5000/ollama-fleet/open-webui@sha256:{'a' * 64}",
    stand_in=f"registry.lab:5000/ollama-fleet/llamacpp-stand-in@sha256:{'b' * 64}",
)
FLEET = [
    Host("gpu1", "10.213.0.11", "gpu_servers"),
    Host("gpu2", "10.213.0.12", "gpu_servers"),
    Host("web1", "10.213.0.101", "web_servers"),
]


def as_ansible_reads_it(folder: Path) -> dict:
    program = Path(sys.executable).with_name("ansible-inventory")
    done = subprocess.run([program, "-i", folder, "--list"], capture_output=True, text=True, check=True)
    assert "WARNING" not in done.stderr
    return json.loads(done.stdout)


def test_ansible_finds_hosts_groups_and_variables(tmp_path) -> None:
    paths = Paths(tmp_path)
    inventory.write(paths.inventory, inventory.render(paths, FLEET, IMAGES))
    found = as_ansible_reads_it(paths.inventory)
    assert found["gpu_servers"]["hosts"] == ["gpu1", "gpu2"]
    assert found["web_servers"]["hosts"] == ["web1"]
    variables = found["_meta"]["hostvars"]
    assert variables["gpu1"]["ansible_host"] == "10.213.0.11"
    assert variables["gpu1"]["ansible_user"] == "ops"
    assert variables["gpu1"]["ollama_image"] == IMAGES.stand_in
    assert variables["gpu2"]["ollama_gateway_allowed_sources"] == ["10.213.0.101"]
    assert [backend["url"] for backend in variables["web1"]["open_webui_backends"]] == [
        "https://10.213.0.11:11435",
        "https://10.213.0.12:11435",
    ]
    assert "ollama_image" not in variables["web1"]


def test_host_keys_are_checked_against_the_labs_own_file(tmp_path) -> None:
    paths = Paths(tmp_path / "with a space")
    arguments = inventory.ssh_variables(paths)["ansible_ssh_common_args"]
    shown = subprocess.run(
        ["sh", "-c", f"ssh -G {arguments} gpu1"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "stricthostkeychecking true" in shown
    assert f'userknownhostsfile "{paths.known_hosts}"' in shown or f"userknownhostsfile {paths.known_hosts}" in shown


@pytest.mark.parametrize("role", ["ollama", "ollama_models", "ollama_gateway", "open_webui", "docker"])
def test_every_variable_is_one_that_a_role_has(tmp_path, role: str) -> None:
    root = Path(__file__).parents[3]
    options = yaml.safe_load((root / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    files = inventory.render(Paths(tmp_path), FLEET, IMAGES)
    (text,) = [text for path, text in files.items() if path.endswith(f"/{role}.yml")]
    assert set(yaml.safe_load(text)) <= set(options["options"])


def test_models_come_from_the_lab_with_the_stand_in_and_from_their_hub_with_the_real_engine(tmp_path) -> None:
    paths = Paths(tmp_path)
    path = "group_vars/gpu_servers/ollama_models.yml"
    with_stand_in = yaml.safe_load(inventory.render(paths, FLEET, IMAGES)[path])["ollama_models_list"]
    assert with_stand_in[0] == {
        "name": "smollm2:135m",
        "source": "models.lab:5001/library/smollm2:135m",
        "insecure": True,
    }
    with_real = inventory.render(paths, FLEET, Images(IMAGES.open_webui, stand_in=None))
    assert yaml.safe_load(with_real[path])["ollama_models_list"][0] == {"name": "smollm2:135m"}
    assert "group_vars/gpu_servers/ollama.yml" not in with_real


def test_a_second_writing_changes_nothing_and_the_vault_stays(tmp_path) -> None:
    paths = Paths(tmp_path)
    files = inventory.render(paths, FLEET, IMAGES)
    assert inventory.write(paths.inventory, files)
    vault = paths.inventory / "group_vars/all/vault.yml"
    vault.write_text("$ANSIBLE_VAULT;1.1;AES256\n")
    before = {path: path.stat().st_mtime_ns for path in paths.inventory.rglob("*.yml")}
    assert not inventory.write(paths.inventory, files)
    assert {path: path.stat().st_mtime_ns for path in paths.inventory.rglob("*.yml")} == before


def test_what_the_lab_needs_no_more_goes_and_the_vault_stays(tmp_path) -> None:
    paths = Paths(tmp_path)
    inventory.write(paths.inventory, inventory.render(paths, FLEET, IMAGES))
    vault = paths.inventory / "group_vars/all/vault.yml"
    vault.write_text("$ANSIBLE_VAULT;1.1;AES256\n")
    real = inventory.render(paths, FLEET, Images(IMAGES.open_webui, stand_in=None))
    assert inventory.write(paths.inventory, real)
    assert not (paths.inventory / "group_vars/gpu_servers/ollama.yml").exists()
    assert vault.exists()
