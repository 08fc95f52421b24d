"""The vault with the real ansible-vault: encrypted at rest, kept when nothing is missing."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from ollama_fleet import rotation
from ollama_fleet.errors import FleetError
from ollama_fleet.playbook import environment
from ollama_fleet.secrets import init, show, sole_writer, vault_path

HOSTS = {"gpu1": "192.0.2.1"}


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    folder = tmp_path / "fleet"
    folder.mkdir()
    (folder / "hosts.yml").write_text("all: {children: {gpu_servers: {hosts: {gpu1: {ansible_host: 192.0.2.1}}}}}\n")
    return folder


def test_the_vault_is_encrypted_and_both_files_are_the_owners_alone(inventory: Path) -> None:
    result = init(inventory)
    assert "vault_fleet_certificates.gpu1" in result.created
    vault, password = vault_path(inventory), inventory / ".vault_password"
    assert vault.read_bytes().startswith(b"$ANSIBLE_VAULT;")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (vault, password)] == [0o600, 0o600]
    assert sorted(path.name for path in vault.parent.iterdir()) == ["vault.yml"]


def test_ansible_reads_what_was_made(inventory: Path) -> None:
    init(inventory)
    command = ["ansible-inventory", "--inventory", str(inventory), "--host", "gpu1", "--yaml"]
    done = subprocess.run(command, env=environment(inventory), capture_output=True, text=True, check=True)
    variables = yaml.safe_load(done.stdout)
    assert variables["vault_open_webui_admin_password"] == show(inventory, "vault_open_webui_admin_password")
    assert variables["vault_fleet_certificates"]["gpu1"]["key"].startswith("-----BEGIN PRIVATE KEY-----\n")


def test_a_second_run_leaves_the_file_untouched(inventory: Path) -> None:
    init(inventory, hosts=HOSTS)
    before = vault_path(inventory).stat()
    result = init(inventory, hosts=HOSTS)
    after = vault_path(inventory).stat()
    assert result.created == []
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_what_is_missing_is_added_and_the_rest_stays(inventory: Path) -> None:
    init(inventory, hosts=HOSTS)
    password = show(inventory, "vault_open_webui_admin_password")
    result = init(inventory, hosts={**HOSTS, "gpu2": "192.0.2.2"})
    assert result.created == ["vault_fleet_certificates.gpu2"]
    assert show(inventory, "vault_open_webui_admin_password") == password


def test_a_password_that_does_not_fit_is_refused_and_nothing_is_lost(inventory: Path) -> None:
    init(inventory, hosts=HOSTS)
    before = vault_path(inventory).read_bytes()
    (inventory / ".vault_password").write_text("another\n")
    with pytest.raises(FleetError, match=r"does not fit; nothing was changed\n.*\.vault_password"):
        init(inventory, hosts={**HOSTS, "gpu2": "192.0.2.2"})
    assert vault_path(inventory).read_bytes() == before


def test_a_lost_password_file_is_not_made_anew(inventory: Path) -> None:
    init(inventory, hosts=HOSTS)
    (inventory / ".vault_password").unlink()
    with pytest.raises(FleetError, match="its password is not here"):
        init(inventory, hosts=HOSTS)
    assert not (inventory / ".vault_password").exists()


def test_the_persons_own_password_file_is_used_and_no_other_made(
    inventory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("their password\n")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(theirs))
    init(inventory, hosts=HOSTS)
    assert not (inventory / ".vault_password").exists()
    assert "BEGIN CERTIFICATE" in show(inventory, "vault_fleet_ca_certificate")


def test_a_plain_vault_is_refused(inventory: Path) -> None:
    vault_path(inventory).parent.mkdir(parents=True)
    vault_path(inventory).write_text("vault_x: y\n")
    with pytest.raises(FleetError, match="not encrypted"):
        init(inventory, hosts=HOSTS)
    assert vault_path(inventory).read_text() == "vault_x: y\n"


def test_a_disk_that_refuses_keeps_the_old_vault(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init(inventory, hosts=HOSTS)
    before = vault_path(inventory).read_bytes()

    def refuse(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        init(inventory, hosts={**HOSTS, "gpu2": "192.0.2.2"})
    assert vault_path(inventory).read_bytes() == before
    assert sorted(path.name for path in vault_path(inventory).parent.iterdir()) == ["vault.yml"]


def test_a_part_of_a_variable_can_be_shown_and_a_typo_is_corrected(inventory: Path) -> None:
    init(inventory, hosts=HOSTS)
    assert len(show(inventory, "vault_ollama_gateway_tokens.open_webui")) >= 43
    with pytest.raises(FleetError, match=r"did you mean vault_open_webui_admin_password\?"):
        show(inventory, "vault_open_webui_admin_pasword")


def test_an_inventory_without_a_vault_says_how_to_get_one(inventory: Path) -> None:
    with pytest.raises(FleetError, match=r"\./inv secrets\.init"):
        show(inventory, "vault_open_webui_admin_password")


def test_a_rotation_that_is_cut_is_in_the_vault_encrypted_and_is_completed(inventory: Path) -> None:
    init(inventory, hosts=HOSTS)
    old = show(inventory, "vault_open_webui_secret_key")

    def go(codes: list[int]) -> int:
        return rotation.rotate(
            inventory, rotation.Wish(("secret-key",)), lambda _step: codes.pop(0), lambda _: None, lambda _: True
        )

    assert go([2]) == 2
    new = show(inventory, "vault_open_webui_secret_key")
    assert new != old
    assert show(inventory, "vault_rotation.old.vault_open_webui_secret_key") == old
    written = vault_path(inventory).read_bytes()
    assert written.startswith(b"$ANSIBLE_VAULT;")
    assert sorted(path.name for path in vault_path(inventory).parent.iterdir()) == ["vault.yml"]
    assert go([0]) == 0
    assert show(inventory, "vault_open_webui_secret_key") == new
    with pytest.raises(FleetError, match="none of this name"):
        show(inventory, "vault_rotation.old.vault_open_webui_secret_key")


def test_two_runs_do_not_change_a_vault_at_once(inventory: Path) -> None:
    init(inventory, hosts=HOSTS)
    with sole_writer(inventory), pytest.raises(FleetError, match=r"another .* is at work on it"):
        init(inventory, hosts=HOSTS)
