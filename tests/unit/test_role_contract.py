"""What every role promises: the same variables in specs, defaults and README, names by one rule, a record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.argument_specs import is_secret
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.inputs import owner
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.validation import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
STACK = yaml.safe_load((ROOT / "playbooks" / "vars" / "stack.yml").read_text())
# What `validate` judges. A spec that says more would be believed and not be checked.
JUDGED = {"description", "type", "elements", "choices", "default", "required", "no_log", "options"}


def read(role: str, path: str) -> Any:
    return yaml.safe_load((ROOT / "roles" / role / path).read_text())


def options_of(role: str) -> dict[str, Any]:
    return dict(read(role, "meta/argument_specs.yml")["argument_specs"]["main"].get("options") or {})


def nested(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, spec in options.items():
        yield f"{prefix}{name}", spec
        yield from nested(spec.get("options") or {}, f"{prefix}{name}.")


def tasks_in(block: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in block:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks_in(task.get(part) or [])


def tasks_of(role: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((ROOT / "roles" / role / "tasks").glob("*.yml")):
        for task in tasks_in(yaml.safe_load(path.read_text()) or []):
            yield path, task


def test_the_stack_names_every_role() -> None:
    named = {role for key, roles in STACK.items() if isinstance(roles, list) for role in roles}
    assert named == set(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_the_variables_of_the_specs(role: str) -> None:
    options = options_of(role)
    text = (ROOT / "roles" / role / "defaults" / "main.yml").read_text()
    required = {name for name, spec in options.items() if spec.get("required")}
    assert set(yaml.safe_load(text) or {}) == set(options) - required
    assert {name for name in required if not re.search(rf"^# {name}:", text, re.MULTILINE)} == set()


@pytest.mark.parametrize("role", ROLES)
def test_defaults_need_nothing_that_the_role_has_yet_to_observe(role: str) -> None:
    # Ansible checks the arguments before a role's first task: one that is used alone has not observed its host then.
    assert "ansible_facts" not in (ROOT / "roles" / role / "defaults" / "main.yml").read_text()


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_that_the_specs_document(role: str) -> None:
    defaults = read(role, "defaults/main.yml") or {}
    for name, spec in options_of(role).items():
        if not spec.get("required") and "{{" not in str(defaults[name]):
            assert spec.get("default") == defaults[name], name


@pytest.mark.parametrize("role", ROLES)
def test_specs_say_type_and_meaning_and_nothing_that_is_not_judged(role: str) -> None:
    for name, spec in nested(options_of(role)):
        assert spec.get("description"), f"{name} has no description"
        assert spec.get("type"), f"{name} has no type"
        assert spec["type"] != "list" or spec.get("elements"), f"{name} has no elements"
        assert set(spec) <= JUDGED, f"{name} has {set(spec) - JUDGED}"


@pytest.mark.parametrize("role", ROLES)
def test_secrets_are_marked(role: str) -> None:
    unmarked = [
        name for name, spec in nested(options_of(role)) if is_secret(name.split(".")[-1]) and not spec.get("no_log")
    ]
    assert unmarked == []


@pytest.mark.parametrize("role", ROLES)
def test_variables_are_in_the_roles_own_namespace(role: str) -> None:
    assert {owner(name, ROLES) for name in options_of(role)} <= {role}


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_names_every_variable(role: str) -> None:
    text = (ROOT / "roles" / role / "README.md").read_text()
    assert [name for name in options_of(role) if not re.search(rf"`{name}`", text)] == []


@pytest.mark.parametrize("role", ROLES)
def test_task_names_follow_the_rule(role: str) -> None:
    for path, task in tasks_of(role):
        where = f"{path.relative_to(ROOT)}: {task.get('name', task)}"
        prefix = "" if path.stem == "main" else f"{path.stem} | "
        assert re.fullmatch(rf"{re.escape(prefix)}[A-Z][^{{]*(\{{\{{.*\}}\}}|[^.{{])", task.get("name", "")), where


@pytest.mark.parametrize("role", ROLES)
def test_the_record_is_begun_and_ended_under_the_roles_name(role: str) -> None:
    records = [task["ollama_fleet.stack.record"] for _, task in tasks_of(role) if "ollama_fleet.stack.record" in task]
    assert {record["role"] for record in records} == {role}
    assert [record["state"] for record in records].count("begun") >= 1
    last = read(role, "tasks/main.yml")[-1]
    assert last["ollama_fleet.stack.record"]["state"] == "done"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_names_no_group_and_no_other_role(role: str) -> None:
    for path in (ROOT / "roles" / role).rglob("*"):
        if path.is_file() and path.suffix in {".yml", ".j2"}:
            text = path.read_text()
            assert "gpu_servers" not in text, path
            assert "web_servers" not in text, path
            assert not re.search(r"(include|import)_role", text), path


@pytest.mark.parametrize("role", ROLES)
def test_templates_say_who_manages_the_file(role: str) -> None:
    for path in (ROOT / "roles" / role).rglob("*.j2"):
        if not path.name.endswith(".json.j2"):  # JSON takes no comments
            assert path.read_text().startswith("{{ ansible_managed | comment"), path


def test_every_setting_of_the_tool_is_known_to_validate() -> None:
    found = set()
    for folder in ("playbooks", "roles", "plugins"):
        for path in (ROOT / folder).rglob("*.yml"):
            found |= set(re.findall(r"\bollama_fleet_\w+", path.read_text()))
    assert found <= set(SETTINGS), f"add {found - set(SETTINGS)} to SETTINGS in plugins/plugin_utils/validation.py"
