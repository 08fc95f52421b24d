"""What is wrong with variables, found without a host. The roles here are made up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.argument_specs import (
    Item,
    RoleSpec,
    check,
    is_secret,
    read_roles,
    shown,
)
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.validation import Fleet

MODEL = {
    "name": {"type": "str", "required": True},
    "source": {"type": "str"},
    "insecure": {"type": "bool"},
    "state": {"type": "str", "choices": ["present", "absent"]},
    "alias": {"type": "str"},
}
MODELS = {"type": "list", "elements": "dict", "options": MODEL}
ROLES = {
    "ollama": RoleSpec(
        "ollama",
        {
            "ollama_port": {"type": "int"},
            "ollama_image": {"type": "str"},
            "ollama_use_gpu": {"type": "bool"},
            "ollama_mode": {"type": "str", "choices": ["quick", "quiet"]},
            "ollama_devices": {"type": "list", "elements": "str"},
            "ollama_environment": {"type": "dict"},
            "ollama_data_dir": {"type": "path"},
            "ollama_factor": {"type": "float"},
            "ollama_modes": {"type": "list", "elements": "str", "choices": ["a", "b"]},
            "ollama_api_key": {"type": "str"},
            "ollama_hidden": {"type": "str", "no_log": True},
            "ollama_key_fingerprint": {"type": "str"},
            "ollama_key_checksum": {"type": "str"},
            "ollama_release_checksum": {"type": "str", "default": ""},
        },
        {"ollama_port": 11434, "ollama_use_gpu": True},
    ),
    "ollama_models": RoleSpec(
        "ollama_models",
        {"ollama_models_list": MODELS, "ollama_models_group_list": MODELS, "ollama_models_host_list": MODELS},
    ),
    "ollama_gateway": RoleSpec(
        "ollama_gateway",
        {
            "ollama_gateway_clients": {
                "type": "list",
                "elements": "dict",
                "options": {"name": {"type": "str"}, "token": {"type": "str", "no_log": True}},
            }
        },
    ),
    "open_webui": RoleSpec(
        "open_webui",
        {"open_webui_secret_key": {"type": "str", "required": True}, "open_webui_port": {"type": "int"}},
        {"open_webui_port": 3000},
    ),
}
STACK = {"gpu_servers": ["ollama", "ollama_models", "ollama_gateway"], "web_servers": ["open_webui"]}


def load(folder: Path, text: str, name: str = "vars.yml") -> dict[str, Any]:
    """Variables as Ansible reads them from a file."""
    path = folder / name
    path.write_text(text)
    return dict(DataLoader().load_from_file(str(path), cache="none", trusted_as_template=True) or {})


def fleet(variables: dict[str, dict[str, Any]], folder: Path | None = None, **groups: list[str]) -> Fleet:
    loader = DataLoader()
    return Fleet(
        {host: {"inventory_hostname": host, **own} for host, own in variables.items()},
        groups or {"gpu_servers": list(variables)},
        STACK,
        ROLES,
        Templar(loader, {}),
        folder=folder,
    )


def told(variables: dict[str, Any], *, group: str = "gpu_servers", folder: Path | None = None) -> list[str]:
    """The lines for one host of a group."""
    return [str(problem) for problem in fleet({"h": variables}, folder, **{group: ["h"]}).problems()]


def template(text: str) -> str:
    return trust_as_template(text)


def test_good_variables_are_no_problem() -> None:
    good = {
        "ollama_port": "11435",
        "ollama_image": "docker.io/ollama/ollama:0.32.15",
        "ollama_use_gpu": False,
        "ollama_mode": "quiet",
        "ollama_devices": ["a"],
        "ollama_environment": {"A": "b"},
        "ollama_factor": 1.5,
        "ollama_models_list": [{"name": "smollm2:135m", "source": "models.lab:5001/library/smollm2:135m"}],
        "ansible_host": "192.0.2.1",
        "their_own": "x",
        "__ollama_internal": 1,
    }
    assert told(good) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ollama_prot", "did you mean ollama_port?"),
        ("ollama_models_lst", "did you mean ollama_models_list?"),
        ("ollama_fleet_ful", "did you mean ollama_fleet_full?"),
        ("ollama_zzzzzzzz", "remove it; roles/ollama/README.md lists the role's variables"),
        ("open_webui_prot", "did you mean open_webui_port?"),
    ],
)
def test_an_unknown_variable_in_a_namespace_names_what_was_meant(name: str, meant: str) -> None:
    (line,) = told({name: 1})
    assert line.startswith(f"h: {name} = 1 is no ")
    assert line.endswith(f"Remedy: {meant}")


def test_the_longest_role_name_owns_a_variable() -> None:
    (line,) = told({"ollama_models_zzzzzz": 1})
    assert "is no variable of the role ollama_models." in line


def test_the_tools_own_settings_are_known() -> None:
    assert told({"ollama_fleet_full": "true", "ollama_fleet_plan_folder": "/x"}) == []


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("ollama_port", "many", "is text, wants a whole number. Remedy: write a whole number, for example 11434"),
        ("ollama_port", True, "is true or false, wants a whole number."),
        ("ollama_port", 70000, "is no port. Remedy: write a number from 1 to 65535"),
        ("ollama_port", None, "has no value."),
        ("ollama_factor", "x", "is text, wants a number."),
        ("ollama_use_gpu", "yes", "is text, wants true or false, without quotes."),
        ("ollama_use_gpu", 1, "is a number, wants true or false, without quotes."),
        ("ollama_devices", "a,b", "is text, wants a list."),
        ("ollama_devices", [["a"]], "is a list, wants text."),
        ("ollama_environment", ["A=b"], "is a list, wants a mapping."),
        ("ollama_environment", "A=b", "is text, wants a mapping."),
        ("ollama_image", ["a"], "is a list, wants text."),
        ("ollama_data_dir", {"a": 1}, "is a mapping, wants a path."),
        ("ollama_mode", "quik", "is none of the choices. Remedy: write one of quick, quiet (did you mean quick?)"),
        ("ollama_modes", ["a", "c"], "is none of the choices. Remedy: write one of a, b"),
    ],
)
def test_a_value_that_does_not_fit_says_what_does(name: str, value: Any, why: str) -> None:
    (line,) = told({name: value})
    assert line.startswith(f"h: {name}")
    assert why in line


def test_an_empty_value_is_fine_where_there_is_no_default() -> None:
    assert told({"ollama_mode": None}) == []


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("docker.io/ollama/ollama", "neither tag nor digest"),
        ("ollama/ollama:latest", "floats"),
        ("ollama/ollama:LATEST", "floats"),
        ("registry.lab:5000/ollama", "neither tag nor digest"),
        ("Ollama/Ollama:1", "is no image name"),
        ("ollama/ollama:1 ", "is no image name"),
        ("ollama/ollama@sha256:1234", "is no image name"),
        ("", "is no image name"),
    ],
)
def test_an_image_without_a_version_is_refused(image: str, why: str) -> None:
    (line,) = told({"ollama_image": image})
    assert why in line
    assert "Remedy: " in line


@pytest.mark.parametrize(
    "image",
    [
        "ollama/ollama:0.32.15",
        "registry.lab:5000/a/b@sha256:" + "0" * 64,
        "registry.lab:5000/a/b:1@sha256:" + "0" * 64,
        "a:latest@sha256:" + "0" * 64,
    ],
)
def test_an_image_with_a_version_is_taken(image: str) -> None:
    assert told({"ollama_image": image}) == []


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("ollama_key_fingerprint", "3BF863CC", "is no key's fingerprint"),
        ("ollama_key_fingerprint", "060A 61C5 1B55 8A7F 742B  77AA C52F EB6B 621E 9F35", "without spaces"),
        ("ollama_key_checksum", "0" * 64, "write sha256: and the 64 hexadecimal digits"),
        ("ollama_key_checksum", "sha256:abc", "is no checksum"),
        ("ollama_key_checksum", "", "is no checksum"),
        ("ollama_release_checksum", "sha256:abc", "is no checksum"),
    ],
)
def test_what_cannot_be_a_fingerprint_or_a_checksum_is_found(variable: str, value: str, why: str) -> None:
    (line,) = told({variable: value})
    assert line.startswith(f"h: {variable} = ")
    assert why in line


def test_a_fingerprint_and_a_checksum_are_taken() -> None:
    assert told({"ollama_key_fingerprint": "EB693B3035CD5710E231E123A4B469963BF863CC"}) == []
    assert told({"ollama_key_fingerprint": ""}) == []
    assert told({"ollama_key_checksum": "sha256:" + "a" * 64}) == []
    # Where none is the default.
    assert told({"ollama_release_checksum": ""}) == []


@pytest.mark.parametrize("name", ["no good", "a/b/c/d/e:1", ":tag", "a:", "http://host/x", "-a:1", "a:b:c/d e", "ä:1"])
def test_a_name_that_is_no_model_name_says_which_part(name: str) -> None:
    (line,) = told({"ollama_models_list": [{"name": "fine:1"}, {"name": name}]})
    assert line.startswith("h: ollama_models_list[1].name = ")
    assert "is no model name: its " in line
    assert "Remedy: write [host/][namespace/]model[:tag]" in line


@pytest.mark.parametrize("name", ["llama3.2", "models.lab:5001/library/llama3.2"])
def test_a_model_without_a_tag_is_refused(name: str) -> None:
    (line,) = told({"ollama_models_list": [{"name": name}]})
    assert f"ollama_models_list[0].name = '{name}' names no tag" in line


def test_a_source_that_is_no_model_name_is_found() -> None:
    (line,) = told({"ollama_models_list": [{"name": "a:1", "source": "https://models.lab/a:1"}]})
    assert line.startswith("h: ollama_models_list[0].source = ")


def test_a_model_that_is_listed_twice_is_found_whatever_its_case() -> None:
    (line,) = told({"ollama_models_list": [{"name": "a:1"}, {"name": "A:1", "state": "absent"}]})
    assert "ollama_models_list[1].name = 'A:1' is the same model as ollama_models_list[0].name." in line


def test_models_are_judged_as_the_one_list_that_they_make() -> None:
    alias = {"name": "chat:1", "alias": "a:1"}
    assert told({"ollama_models_list": [{"name": "a:1"}], "ollama_models_host_list": [alias]}) == []
    gone = [{"name": "A:1", "state": "absent"}]
    (line,) = told(
        {"ollama_models_list": [{"name": "a:1"}], "ollama_models_group_list": [alias], "ollama_models_host_list": gone}
    )
    assert line.startswith(
        "h: ollama_models_group_list = 'chat:1' needs a:1, which the host is not to have. Remedy: list"
    )


def test_the_same_trouble_with_models_is_told_once_for_a_fleet() -> None:
    wrong = [{"name": "chat:1", "alias": "a:1"}]
    hosts = {f"h{number}": {"ollama_models_list": wrong} for number in range(3)}
    (line,) = (str(problem) for problem in fleet(hosts).problems())
    assert line.startswith("all hosts: ollama_models_list")


@pytest.mark.parametrize("name", ["ollama_models_list", "ollama_models_group_list", "ollama_models_host_list"])
def test_every_list_of_models_is_judged_alike(name: str) -> None:
    (line,) = told({name: [{"name": "a:1", "alias": "a b:1"}]})
    assert line.startswith(f"h: {name}[0].alias = 'a b:1' is no model name")
    (line,) = told({name: [{"name": "a:1"}, {"name": "a:1"}]})
    assert "is the same model as" in line


def test_parts_of_a_list_are_judged_where_they_are() -> None:
    lines = told({"ollama_models_list": [{"nam": "a:1"}, {"name": "a:1", "insecure": "no", "state": "gone"}, None]})
    assert lines == [
        "h: ollama_models_list[0].nam = 'a:1' is unknown. Remedy: did you mean name?",
        "h: ollama_models_list[0].name is missing. Remedy: add it: text",
        "h: ollama_models_list[1].insecure = 'no' is text, wants true or false, without quotes. "
        "Remedy: write true or false, without quotes",
        "h: ollama_models_list[1].state = 'gone' is none of the choices. Remedy: write one of present, absent",
        "h: ollama_models_list[2] = null is empty, wants a mapping. Remedy: write a mapping",
    ]


def test_what_a_role_cannot_do_without_is_missed_only_where_the_role_is_used() -> None:
    (line,) = told({}, group="web_servers")
    assert line.startswith("h: open_webui_secret_key is missing, and the role open_webui cannot do without.")
    assert told({}, group="gpu_servers") == []


def test_values_for_roles_that_a_host_does_not_get_are_left_alone() -> None:
    assert told({"open_webui_port": "many", "ollama_port": 1}) == []


def test_templates_are_rendered_before_they_are_judged() -> None:
    good = {"ollama_port": template("{{ base + 1 }}"), "base": 11434}
    assert told(good) == []
    (line,) = told({"ollama_port": template("{{ base }}"), "base": "many"})
    assert "ollama_port = '{{ base }}' is text, wants a whole number" in line


def test_templates_may_refer_to_defaults_of_roles() -> None:
    assert told({"ollama_factor": template("{{ ollama_port / 2 }}")}) == []


def test_what_is_known_on_the_host_only_is_left_for_the_host() -> None:
    assert told({"ollama_port": template("{{ other }}"), "other": template("{{ ansible_facts['x'] }}")}) == []


def test_a_template_without_its_variable_names_the_remedy() -> None:
    (line,) = told({"ollama_image": template("{{ vault_image }}")})
    assert "ollama_image = '{{ vault_image }}' cannot be rendered: 'vault_image' is undefined." in line
    assert "Remedy: ./inv secrets.init makes what is missing in the vault" in line
    (line,) = told({"ollama_image": template("{{ other }}")})
    assert "Remedy: define what it refers to, correct the template, or mark braces" in line


def test_a_host_that_the_vault_does_not_know_yet_is_told_to_ask_for_its_secrets() -> None:
    text = template("{{ vault_certificates[inventory_hostname].certificate }}")
    (line,) = told({"ollama_image": text, "vault_certificates": {"other": {"certificate": "hunter2"}}})
    assert "cannot be rendered: " in line
    assert "'h'" in line
    assert "./inv secrets.init" in line
    assert "hunter2" not in line


def test_an_error_that_quotes_a_secret_is_not_passed_on() -> None:
    (line,) = told({"ollama_image": template("{{ vault_x | from_json }}"), "vault_x": "hunter2"})
    assert "cannot be rendered: its template fails." in line
    assert "hunter2" not in line


def test_a_broken_template_is_a_problem_and_no_crash() -> None:
    (line,) = told({"ollama_image": template("{{ a b }}")})
    assert "ollama_image" in line
    assert "cannot be rendered" in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ollama_api_key", ["hunter2"]),
        ("ollama_hidden", ["hunter2"]),
        ("ollama_environment", [{"HF_TOKEN": "hunter2"}]),
        ("ollama_pasword", {"x_password": "hunter2"}),
        ("ollama_zzz_token", "hunter2"),
        ("ollama_image", "https://user:hunter2@registry/x"),
        ("ollama_gateway_clients", [{"name": ["x"], "token": ["hunter2"]}]),
        ("ollama_gateway_clients", {"token": "hunter2"}),
    ],
)
def test_a_secret_is_never_shown(name: str, value: Any) -> None:
    lines = told({name: value})
    assert lines
    assert not any("hunter2" in line for line in lines)
    assert any("<secret>" in line for line in lines)


def test_a_rendered_value_is_never_shown() -> None:
    (line,) = told({"ollama_port": template("{{ vault_x }}"), "vault_x": "hunter2"})
    assert "hunter2" not in line
    lines = told({"ollama_models_list": template("{{ vault_x }}"), "vault_x": [{"name": "hunter two"}]})
    assert lines
    assert "hunter" not in "".join(lines)


def test_long_values_are_cut() -> None:
    assert len(shown("x", "a" * 1000)) == 60


@pytest.mark.parametrize("name", ["a_secret", "b_password", "c_token", "d_key", "token", "HF_TOKEN"])
def test_names_that_say_secret(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["keyboard", "ollama_keep_alive", "tokens_per_second", "ollama_port"])
def test_names_that_do_not(name: str) -> None:
    assert not is_secret(name)


def test_two_hosts_with_one_address_are_found() -> None:
    hosts = {"a": {"ansible_host": "192.0.2.1"}, "b": {"ansible_host": "192.0.2.1", "ansible_port": 22}, "c": {}}
    (problem,) = fleet(hosts).problems()
    assert str(problem) == (
        "a, b: ansible_host = 192.0.2.1 with port 22 is the address of 2 hosts. "
        "Remedy: give each host its own address, or keep one name for the host"
    )


@pytest.mark.parametrize(
    "other",
    [
        {"ansible_host": "192.0.2.1", "ansible_port": 2222},
        {"ansible_host": "192.0.2.1", "ansible_ssh_common_args": "-o ProxyJump=jump2"},
        {"ansible_host": "192.0.2.2"},
    ],
)
def test_another_port_or_another_way_is_another_host(other: dict[str, Any]) -> None:
    assert fleet({"a": {"ansible_host": "192.0.2.1"}, "b": other}).problems() == []


def test_this_machine_counts_once() -> None:
    (problem,) = fleet({"a": {"ansible_connection": "local"}, "b": {"ansible_connection": "local"}}).problems()
    assert str(problem).startswith("a, b: ansible_connection = local makes one machine of 2 hosts.")


def test_the_same_problem_on_many_hosts_is_told_once(tmp_path: Path) -> None:
    shared = load(tmp_path, "ollama_prot: 1\n")
    hosts = {f"g{number}": shared for number in range(6)}
    (problem,) = fleet(hosts, tmp_path, gpu_servers=list(hosts)).problems()
    assert str(problem).startswith("all hosts: ollama_prot = 1 in vars.yml:1 is no variable of the role ollama.")
    (problem,) = fleet(
        {**hosts, "w": {"open_webui_secret_key": "x"}}, gpu_servers=list(hosts), web_servers=["w"]
    ).problems()
    assert str(problem).startswith("group gpu_servers: ollama_prot = 1")
    (problem,) = fleet({**hosts, "x": {}}, others=["x"], all=[*hosts, "x"]).problems()
    assert problem.who == "g0, g1, g2 and 3 more"


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = "ollama_port: many\nollama_prot: 1\nollama_image: x\nollama_models_list:\n  - name: ok:1\n  - name: not ok\n"
    lines = told(load(tmp_path, text), folder=tmp_path)
    assert [line.split(" is ")[0].split(" has ")[0] for line in lines] == [
        "h: ollama_port = 'many' in vars.yml:1",
        "h: ollama_prot = 1 in vars.yml:2",
        "h: ollama_image = 'x' in vars.yml:3",
        "h: ollama_models_list[1].name = 'not ok' in vars.yml:6",
    ]


def test_hosts_in_no_group_of_the_stack_are_named() -> None:
    assert fleet({"a": {}, "b": {}}, gpu_servers=["a"], other=["b"]).outsiders() == ["b"]


def test_a_value_that_differs_by_host_is_judged_for_each() -> None:
    ports = {"a": 1, "b": "many"}
    text = template("{{ ports[inventory_hostname] }}")
    (problem,) = fleet({host: {"ollama_port": text, "ports": ports} for host in ("a", "b")}).problems()
    assert problem.who == "b"


def test_a_template_of_a_host_own_variable_is_judged_for_each() -> None:
    text = template("{{ base | int }}{{ suffix }}")
    hosts = {"a": {"base": 1, "suffix": ""}, "b": {"base": 1, "suffix": "x"}}
    (problem,) = fleet({host: {"ollama_port": text, **own} for host, own in hosts.items()}).problems()
    assert problem.who == "b"


def test_a_hundred_hosts_take_less_than_a_third_of_a_second() -> None:
    certificates = {f"gpu{number}": {"certificate": "c", "key": "k"} for number in range(100)}
    shared = {
        "vault_certificates": certificates,
        "vault_x": "quick",
        "ollama_hidden": template("{{ vault_certificates[inventory_hostname].key }}"),
        "ollama_image": "ollama/ollama:1",
        "ollama_mode": template("{{ vault_x }}"),
        "ollama_environment": {"A": template("{{ vault_x }}"), "B": template("{{ 'x' ~ vault_x }}")},
        "ollama_models_list": [{"name": f"model{number}:1"} for number in range(10)],
    }
    own = {name: {**shared, "ansible_host": f"192.0.2.{number}"} for number, name in enumerate(certificates)}
    many = fleet(own)
    started = time.process_time()
    assert many.problems() == []
    assert time.process_time() - started < 0.3


def test_the_collections_own_roles_can_be_read() -> None:
    roles = read_roles(DataLoader())
    assert "docker_users" in roles["docker"].options
    assert roles["docker"].defaults["docker_users"] == []


def test_defaults_of_the_collections_roles_are_what_their_specs_want() -> None:
    for role in read_roles(DataLoader()).values():
        for name, value in role.defaults.items():
            if "{{" not in str(value):
                found = [*check(Item(name, name, value, role.options[name], value))]
                assert not found, f"{name}: {found[0].why}"
