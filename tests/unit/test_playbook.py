from pathlib import Path

import pytest

from ollama_fleet.errors import FleetError
from ollama_fleet.playbook import PlaybookOptions, environment, run_playbook


def test_options_become_the_arguments_of_the_same_name() -> None:
    options = PlaybookOptions("gpu1", "ollama", check=True, diff=True, verbose=2, extra_vars=["a=1"])
    assert options.arguments() == [
        *("--limit", "gpu1", "--tags", "ollama", "--check", "--diff", "-vv"),
        *("--extra-vars", "a=1"),
    ]


def test_no_options_are_no_arguments() -> None:
    assert PlaybookOptions().arguments() == []


def test_an_inventorys_own_vault_password_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    assert "ANSIBLE_VAULT_PASSWORD_FILE" not in environment(tmp_path)
    (tmp_path / ".vault_password").write_text("x")
    assert environment(tmp_path)["ANSIBLE_VAULT_PASSWORD_FILE"] == str(tmp_path / ".vault_password")


def test_a_vault_password_file_that_the_person_chose_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".vault_password").write_text("x")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", "/theirs")
    assert environment(tmp_path)["ANSIBLE_VAULT_PASSWORD_FILE"] == "/theirs"


def test_an_inventory_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="inventory/sample"):
        run_playbook("site", tmp_path / "none")
