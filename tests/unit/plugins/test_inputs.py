from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.ollama_fleet.stack.plugins.action.plan import asked_for, reasons
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import inputs

ROLES = ["docker", "ollama", "ollama_models", "ollama_gateway"]
RECORD = {"complete": True, "inputs": {"docker_users": "h1"}, "role_digest": "d1", "drift": []}


@pytest.mark.parametrize(
    ("variable", "role"),
    [
        ("ollama_context_length", "ollama"),
        ("ollama_models_list", "ollama_models"),
        ("ollama_models", None),
        ("ollama_gateway_port", "ollama_gateway"),
        ("ollama_fleet_full", None),
        ("docker_users", "docker"),
        ("dockerfile", None),
        ("__docker_packages", None),
        ("ansible_host", None),
    ],
)
def test_variable_belongs_to_the_role_with_the_longest_name(variable: str, role: str | None) -> None:
    # "ollama_models" itself starts with "ollama_": nobody's namespace is that narrow.
    expected = "ollama" if variable == "ollama_models" else role
    assert inputs.owner(variable, ROLES) == expected


@pytest.mark.parametrize(
    ("record", "now", "digest", "expected"),
    [
        (None, {}, "d1", ["never applied"]),
        ({**RECORD, "complete": False}, {}, "d1", ["its last run did not reach its end"]),
        (RECORD, {"docker_users": "h1"}, "d1", []),
        (RECORD, {"docker_users": "h2"}, "d1", ["docker_users changed"]),
        (RECORD, {"docker_users": "h1", "docker_source": "x"}, "d1", ["docker_source changed"]),
        (RECORD, {}, "d1", ["docker_users changed"]),
        (RECORD, {"docker_users": "h1"}, "d2", ["the role's own files changed"]),
        (
            {**RECORD, "drift": ["service docker is not running"]},
            {"docker_users": "h2"},
            "d2",
            ["docker_users changed", "the role's own files changed", "service docker is not running"],
        ),
    ],
)
def test_reasons_are_sentences(record: Any, now: dict[str, str], digest: str, expected: list[str]) -> None:
    assert reasons(record, now, digest) == expected


@pytest.mark.parametrize(
    ("tags", "role", "expected"),
    [
        ([], "docker", False),
        (["docker"], "docker", True),
        (["docker_verify"], "docker", True),
        (["verify"], "ollama", True),
        (["ollama_models"], "ollama", False),
        (["ollama_models_verify"], "ollama", False),
        (["ollama_models"], "ollama_models", True),
        (["ollama"], "docker", False),
    ],
)
def test_tags_ask_for_the_roles_that_they_name(tags: list[str], role: str, expected: bool) -> None:
    assert asked_for(role, tags, ROLES) is expected


def test_digest_of_a_role_follows_its_files_and_not_its_readme(tmp_path: Path) -> None:
    tasks = tmp_path / "roles/x/tasks/main.yml"
    tasks.parent.mkdir(parents=True)
    tasks.write_text("a")
    before = inputs.digest_of_files("x", tmp_path)
    (tmp_path / "roles/x/README.md").write_text("words")
    assert inputs.digest_of_files("x", tmp_path) == before
    tasks.rename(tasks.with_name("other.yml"))
    renamed = inputs.digest_of_files("x", tmp_path)
    tasks.with_name("other.yml").write_text("b")
    assert len({before, renamed, inputs.digest_of_files("x", tmp_path)}) == 3


def test_equal_values_of_two_variables_have_different_digests() -> None:
    assert inputs.digest_of_value("a_token", "secret") != inputs.digest_of_value("b_token", "secret")
    assert inputs.digest_of_value("a", {"x": 1, "y": 2}) == inputs.digest_of_value("a", {"y": 2, "x": 1})
    assert inputs.digest_of_value("a", 1) != inputs.digest_of_value("a", "1")


def computed(tmp_path: Path, defaults: str, variables: dict[str, Any]) -> dict[str, str]:
    path = tmp_path / "roles/docker/defaults/main.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(defaults)
    loader = DataLoader()
    return inputs.Inputs(Templar(loader=loader), loader, {"inventory_hostname": "gpu1", **variables}, tmp_path).of(
        "docker"
    )


def test_defaults_count_and_templates_count_by_their_value(tmp_path: Path) -> None:
    defaults = "docker_users: []\ndocker_source: '{{ fleet_source }}'\n"
    before = computed(tmp_path, defaults, {"fleet_source": "docker"})
    assert set(before) == {"docker_users", "docker_source"}
    # The role sees its own defaults among the host's variables; the plan does not. Both must agree.
    inside = {"fleet_source": "docker", "docker_users": [], "docker_source": trust_as_template("{{ fleet_source }}")}
    assert computed(tmp_path, defaults, inside) == before
    after = computed(tmp_path, defaults, {"fleet_source": "distribution"})
    assert [name for name in before if before[name] != after[name]] == ["docker_source"]


def test_variable_without_a_value_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionFail, match=r"gpu1: variable docker_source of role docker has no value: .*missing"):
        computed(tmp_path, "docker_source: '{{ missing }}'\n", {})
