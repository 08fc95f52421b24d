"""The sample inventory is the manual: whole, true and without a problem, with every suggestion in it taken or not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_fleet.inventory_check import check
from ollama_fleet.playbook import environment
from ollama_fleet.secrets import init

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "inventory" / "sample"
STACK = {"stack": "{{ fleet_stack }}"}
PLAY = {
    "hosts": "gpu_servers:web_servers",
    "gather_facts": False,
    "vars_files": [str(ROOT / "playbooks" / "vars" / "stack.yml")],
    "tasks": [{"name": "Validate the inventory", "ollama_fleet.stack.validate": STACK, "run_once": True}],
}
SUGGESTION = re.compile(r"^ *# (?=- |[a-z][a-z0-9_]*: |[a-z][a-z0-9_]*:$|  \S*: |  +[a-z]+: )")


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a person does first."""
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    folder = tmp_path / "production"
    shutil.copytree(SAMPLE, folder)
    init(folder)
    return folder


def problems_of(folder: Path) -> list[dict[str, Any]]:
    playbook, report = folder.parent / "validate.yml", folder.parent / "problems.json"
    playbook.write_text(yaml.safe_dump([PLAY]))
    env = environment(folder) | {"OLLAMA_FLEET_PROBLEMS": str(report), "ANSIBLE_NOCOLOR": "1"}
    command = ["ansible-playbook", "--inventory", str(folder), str(playbook)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    found: list[dict[str, Any]] = json.loads(report.read_text())["problems"]
    assert (done.returncode == 0) == (not found), done.stdout + done.stderr
    assert "[WARNING]" not in done.stderr, done.stderr
    return found


def options_of_all_roles() -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        found |= yaml.safe_load(path.read_text())["argument_specs"]["main"].get("options") or {}
    return found


def uncommented(text: str) -> str:
    """The text with every suggestion in it taken; of two for the same variable, the last."""
    return "\n".join(SUGGESTION.sub(lambda found: found[0].replace("# ", "", 1), line) for line in text.splitlines())


def test_a_copy_with_its_secrets_has_no_problem(copied: Path) -> None:
    assert problems_of(copied) == []
    assert [host.name for host in check(copied)] == ["gpu1", "gpu2", "web1"]


def test_every_suggestion_can_be_taken(copied: Path) -> None:
    for path in copied.glob("group_vars/*/*.yml"):
        if path.name not in {"vault.yml", "connection.yml"}:
            path.write_text(uncommented(path.read_text()) + "\n")
    taken = {
        name
        for path in copied.glob("group_vars/*/*.yml")
        if path.name != "vault.yml"
        for name in yaml.safe_load(path.read_text())
    }
    assert set(options_of_all_roles()) <= taken
    assert problems_of(copied) == []


def test_every_variable_of_every_role_is_in_it_once_with_its_reason() -> None:
    named: list[str] = []
    for path in SAMPLE.glob("group_vars/*/*.yml"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            found = re.match(r"(?:# )?([a-z][a-z0-9_]*):(?: |$)", line)
            # Beside Ansible's own there are some that belong to playbooks and to no role.
            if found and not found[1].startswith(("ansible_", "fleet_")):
                named.append(found[1])
                before = lines[number - 1]
                assert before.startswith("# ") or re.match(r"[a-z_]+:", before), f"{found[1]} has no reason"
    assert sorted(named) == sorted(options_of_all_roles())


def test_what_is_commented_out_is_the_default() -> None:
    options = options_of_all_roles()
    for path in SAMPLE.glob("group_vars/*/*.yml"):
        if path.name == "connection.yml":
            continue
        active = yaml.safe_load(path.read_text()) or {}
        for name, value in yaml.safe_load(uncommented(path.read_text())).items():
            if name not in active and "{{" not in str(value):
                assert value == options[name].get("default"), f"{path.name}: {name}"


def test_variables_are_in_the_file_of_their_role() -> None:
    for path in SAMPLE.glob("group_vars/*/*.yml"):
        if path.name != "connection.yml":
            assert (ROOT / "roles" / path.stem).is_dir()
            for name in yaml.safe_load(uncommented(path.read_text())):
                assert name.startswith(f"{path.stem}_"), f"{path.name}: {name}"


def test_it_holds_no_secret_and_no_real_address() -> None:
    assert not (SAMPLE / ".vault_password").exists()
    addresses = set()
    for path in (Path(folder) / name for folder, _, names in os.walk(SAMPLE) for name in names):
        text = path.read_text()
        assert "BEGIN" not in text
        assert "$ANSIBLE_VAULT" not in text
        addresses |= set(re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text))
    assert {address for address in addresses if not address.startswith("192.0.2.")} == {"0.0.0.0", "127.0.0.1"}  # noqa: S104
