"""What a host needs for a server without a container, what the plan says of it, and how its environment is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.ollama_fleet.stack.plugins.action import plan
from ansible_collections.ollama_fleet.stack.plugins.filter.native_ollama import environment_file, native_ollama
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import decisions
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import native_ollama as native

ROLE = Path(__file__).resolve().parents[3] / "roles" / "ollama"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text()) | {
    "ollama_mode": "native",
    "ollama_release_checksum": "sha256:" + "c" * 64,
}
CONTAINER = {"name": "ollama", "project_dir": "/opt/ollama-fleet/ollama"}
KEPT = {"ollama": {"keep": {"ports": [11434], "native": {"folder": "/opt/ollama", "user": True}}}}


def host(**others: Any) -> dict[str, Any]:
    """A plain server, as far as it is looked at here."""
    plain = {
        "systemd": True,
        "wsl": False,
        "os": {"architecture": "x86_64"},
        "docker": {"containers": []},
        "records": {},
    }
    return plain | others


def values(**others: Any) -> dict[str, Any]:
    return {name: (DEFAULTS | others)[name] for name in native.VARIABLES}


def step(told: dict[str, Any], **variables: Any) -> dict[str, Any]:
    """The plan's step of the role where its inputs changed."""
    decided = decisions.of_role("ollama", told, lambda _role, names: {n: values(**variables)[n] for n in names}, None)
    result: dict[str, Any] = plan.step_of("ollama", ["ollama_mode changed"], decided)
    return result


GITHUB = "https://github.com/ollama/ollama/releases/download"


@pytest.mark.parametrize(
    ("variables", "architecture", "expected"),
    [
        ({}, "x86_64", f"{GITHUB}/v0.32.15/ollama-linux-amd64.tar.zst"),
        ({}, "aarch64", f"{GITHUB}/v0.32.15/ollama-linux-arm64.tar.zst"),
        ({"ollama_release_version": "0.13.3"}, "x86_64", f"{GITHUB}/v0.13.3/ollama-linux-amd64.tgz"),
        ({"ollama_release_version": "0.14.0-rc1"}, "x86_64", f"{GITHUB}/v0.14.0-rc1/ollama-linux-amd64.tar.zst"),
        ({"ollama_release_url": "http://mirror/o/"}, "x86_64", "http://mirror/o/v0.32.15/ollama-linux-amd64.tar.zst"),
        ({"ollama_release_url": "http://mirror/o.tgz"}, "x86_64", "http://mirror/o.tgz"),
        ({"ollama_release_url": "file:///mnt/o.tar.zst"}, "x86_64", "file:///mnt/o.tar.zst"),
        ({"ollama_release_file": "files/o.tgz", "ollama_release_url": "http://x"}, "x86_64", "files/o.tgz"),
    ],
)
def test_archive_is_that_of_version_and_architecture(
    variables: dict[str, Any], architecture: str, expected: str
) -> None:
    assert native.source(values(**variables), architecture) == expected


PROBLEMS = [
    ({"systemd": False}, {}, "process 1 is not systemd", "set ollama_mode to docker"),
    ({"systemd": False, "wsl": True}, {}, "process 1 is not systemd", "systemd=true under [boot] in /etc/wsl.conf"),
    ({"os": {"architecture": "ppc64le"}}, {}, "no archive for ppc64le", "out of the inventory"),
    ({}, {"ollama_release_checksum": ""}, "ollama_release_checksum is ''", "ollama-linux-amd64.tar.zst"),
    ({}, {"ollama_release_checksum": "md5:0"}, "ollama_release_checksum is 'md5:0'", "sha256:"),
    ({}, {"ollama_release_version": "latest"}, "'latest', which is no version", "0.32.15"),
    ({}, {"ollama_release_version": "1.0/../.."}, "which is no version", "0.32.15"),
]


@pytest.mark.parametrize(("facts", "variables", "rule", "remedy"), PROBLEMS)
def test_what_cannot_work_is_refused_by_plan_and_role_in_the_same_words(
    facts: dict[str, Any], variables: dict[str, Any], rule: str, remedy: str
) -> None:
    refusal = step(host(**facts), **variables)["refusal"]
    assert rule in refusal["rule"]
    assert remedy in refusal["remedy"]
    (sentence,) = native_ollama(host(**facts), values(**variables))["problems"]
    assert sentence == f"{refusal['rule']}. Remedy: {refusal['remedy']}."


def test_a_good_host_has_no_problem() -> None:
    assert native_ollama(host(), values()) == {
        "problems": [],
        "source": f"{GITHUB}/v0.32.15/ollama-linux-amd64.tar.zst",
        "container": None,
        "kept": {},
    }


def test_plan_says_what_runs_and_where_it_comes_from() -> None:
    told = step(host(), ollama_release_url="http://me:hunter2@mirror/o")
    assert told["needed"]
    assert told["refusal"] is None
    assert [(note["topic"], note["choice"]) for note in told["notes"]] == [
        ("server", "Ollama 0.32.15, run by systemd"),
        ("archive", "http://***@mirror/o/v0.32.15/ollama-linux-amd64.tar.zst"),
    ]
    assert "cccccccccccc," in told["notes"][1]["reason"]


def test_plan_says_what_becomes_of_the_container() -> None:
    others = [{"name": "web", "project_dir": "/opt/ollama-fleet/open-webui"}, {"name": "ollama", "project_dir": None}]
    assert len(step(host(docker={"containers": others}))["notes"]) == 2
    note = step(host(docker={"containers": [*others, CONTAINER]}))["notes"][2]
    assert (note["topic"], note["choice"]) == ("container", "ollama")
    assert "models stay where they are" in note["reason"]


def test_plan_says_what_becomes_of_the_service() -> None:
    (note,) = step(host(records=KEPT), ollama_mode="docker", ollama_release_checksum="")["notes"]
    assert (note["topic"], note["choice"]) == ("service", "ollama.service")


def test_plan_of_a_container_is_as_it_was() -> None:
    assert native.decide(host(), values(ollama_mode="docker")) is None


def test_host_as_described_needs_nothing() -> None:
    assert not plan.step_of("ollama", [], native.decide(host(), values()))["needed"]


def as_systemd_reads(lines: list[str]) -> dict[str, str]:
    """What systemd makes of lines of a double-quoted EnvironmentFile (its src/basic/env-file.c, as far as needed)."""
    found = {}
    for line in lines:
        name, _, rest = line.partition('="')
        value, position = "", 0
        while rest[position] != '"':
            if rest[position] == "\\":
                position += 1
                value += rest[position] if rest[position] in '"\\`$' else "\\" + rest[position]
            else:
                value += rest[position]
            position += 1
        assert position == len(rest) - 1
        found[name] = value
    return found


def test_environment_is_read_back_as_it_was() -> None:
    odd = {"A": 'p"w\\o$r{d}#`; é ', "B": 5, "C": "", "D": "\\n", "E": "http://u:p%40w@proxy:3128/"}
    lines = environment_file(odd)
    assert lines == sorted(lines)
    assert as_systemd_reads(lines) == {name: str(value) for name, value in odd.items()}
