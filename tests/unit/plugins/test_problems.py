"""What a failed task says, turned into why and what to do; and the block at the end of a run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.callback.problems import CallbackModule
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.explain import explain

SSH = "Task failed: Failed to connect to the host via ssh: "

KNOWN = [
    (
        SSH + "ssh: connect to host 192.0.2.1 port 22: Connection refused",
        "nothing listens at 192.0.2.1 port 22",
        "sshd",
    ),
    (SSH + "ssh: connect to host gpu1 port 22: Connection timed out", "no answer from gpu1 port 22", "firewall"),
    (SSH + "ssh: connect to host 192.0.2.1 port 22: No route to host", "there is no route to 192.0.2.1", "network"),
    (
        SSH + "ssh: Could not resolve hostname gpu1.lan: Name or service not known",
        "the name gpu1.lan has no address",
        "ansible_host",
    ),
    (SSH + "ops@gpu1: Permission denied (publickey).", "SSH refuses ops@gpu1: wrong user or wrong key", "ansible_user"),
    (
        SSH + 'Load key "/k": invalid format\r\nops@gpu1: Permission denied (publickey).',
        "the private key /k cannot be used: invalid format",
        "ansible_ssh_private_key_file",
    ),
    (
        SSH + "no such identity: /k: No such file or directory\r\nops@gpu1: Permission denied (publickey).",
        "the private key /k is not there",
        "ansible_ssh_private_key_file",
    ),
    (
        SSH + "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\r\nHost key verification failed.",
        "its SSH host key is another one than known_hosts says",
        "ssh-keygen -R",
    ),
    (
        SSH + "No ED25519 host key is known for gpu1 and you have requested strict checking.\r\n"
        "Host key verification failed.",
        "its SSH host key is unknown here",
        "known_hosts",
    ),
    (SSH + "kex_exchange_identification: read: Connection reset by peer", "the SSH connection was cut", "sshd log"),
    ("Missing sudo password", "sudo asks for a password", "NOPASSWD"),
    (
        "Task failed: Premature end of stream waiting for become success.\nsudo: a password is required",
        "sudo asks for a password",
        "ansible_become_password",
    ),
    (
        "Task failed: Timeout (12s) waiting for privilege escalation prompt: sudo: a password is required",
        "sudo asks",
        "",
    ),
    ("ops is not in the sudoers file.", "this user may not use sudo", "sudoers.d"),
    ("/bin/sh: 1: sudo: not found", "there is no sudo on the host", "install sudo"),
    ("/bin/sh: 1: /usr/bin/python3: not found", "there is no Python on the host", "python3"),
    ("[Errno 28] No space left on device: '/var/x'", "a disk of the host is full", "df -h"),
    (
        "Failed to update apt cache after 5 retries: W:Failed to fetch http://deb.example/InRelease 404",
        "apt cannot fetch: Failed to update apt cache",
        "apt-get update",
    ),
    (
        "Request failed: <urlopen error [Errno 111] Connection refused>",
        "the host cannot download what it needs: Connection refused",
        "mirror",
    ),
    ("E:Could not get lock /var/lib/dpkg/lock-frontend. It is held", "another program is using apt", "unattended"),
    ("No package matching 'dockr' is available", "apt knows no package dockr", "apt-cache policy"),
    ("E: Unable to locate package dockr", "apt knows no package dockr", "apt-cache policy"),
]


@pytest.mark.parametrize(("msg", "why", "remedy"), KNOWN)
def test_what_is_known_gets_its_cause_and_its_remedy(msg: str, why: str, remedy: str) -> None:
    found = explain({"msg": msg}, "gpu1")
    assert found[0].startswith(why)
    assert not found[0].endswith((" ", ":"))
    assert remedy in found[1]


def test_a_message_that_names_a_remedy_is_passed_on() -> None:
    msg = "Port 11434 is taken by nginx. Remedy: stop it, or set ollama_port"
    assert explain({"msg": msg}) == ("Port 11434 is taken by nginx", "stop it, or set ollama_port")


def test_the_parts_of_our_own_modules_errors_are_used() -> None:
    result = {"msg": "x", "reason": "the server says: no", "remedy": "correct the name"}
    assert explain(result) == ("the server says: no", "correct the name")
    assert explain({**result, "what": "Model a was not pulled"})[0] == "Model a was not pulled: the server says: no"


def test_a_roles_own_words_are_a_cause_and_what_to_do() -> None:
    msg = "gpu1: has 1.5 GiB of memory, and 4 are asked for. Add memory, or lower gpu_preflight_memory_gib."
    assert explain({"msg": msg}, "gpu1", own_words=True) == (
        "has 1.5 GiB of memory, and 4 are asked for",
        "Add memory, or lower gpu_preflight_memory_gib",
    )
    assert explain({"msg": "it is broken"}, "gpu1", own_words=True) == ("it is broken", "")


def test_several_failed_items_keep_their_remedies() -> None:
    items = [{"failed": True, "msg": f"{name} is gone. Remedy: get {name}"} for name in ("a", "b")]
    assert explain({"msg": "One or more items failed", "results": items}) == ("a is gone; b is gone", "get a; get b")


def test_a_list_of_problems_stays_a_list() -> None:
    msg = "2 problems.\n  a: x. Remedy: y\n  b: x. Remedy: z"
    assert explain({"msg": "Task failed: Action failed: " + msg}) == (msg, "")


def test_an_unknown_failure_is_shortened_and_says_how_to_see_more() -> None:
    why, remedy = explain({"msg": "\n".join(f"line {number}" for number in range(50))}, "gpu1")
    assert why == "line 0; line 1; line 2"
    assert "--limit gpu1 -vvv" in remedy
    assert len(explain({"msg": "x" * 5000})[0]) == 400


def test_a_program_that_failed_is_quoted_with_its_last_words() -> None:
    result = {"msg": "non-zero return code", "rc": 3, "stderr": "warming up\nit broke\n", "stdout": ""}
    assert explain(result)[0] == "it broke (exit code 3)"
    assert explain({"msg": "non-zero return code", "rc": 3})[0] == "non-zero return code (exit code 3)"
    assert explain({})[0] == "it gave no reason"


def test_a_traceback_is_its_last_line() -> None:
    trace = "Traceback (most recent call last):\n  File x\nValueError: no"
    result = {"msg": "MODULE FAILURE: No start of json char found", "module_stderr": trace, "rc": 1}
    assert explain(result)[0] == "ValueError: no (exit code 1)"


def test_a_loop_tells_of_its_failed_items_only() -> None:
    items = [{"failed": True, "msg": "a broke"}, {"msg": "fine"}, {"failed": True, "msg": "b broke"}]
    assert explain({"msg": "One or more items failed", "results": items})[0] == "a broke; b broke"


def test_what_no_log_hides_stays_hidden() -> None:
    why, _remedy = explain({"censored": "the output has been hidden", "msg": "hunter2", "stderr": "hunter2"})
    assert "hunter2" not in why


def test_credentials_in_addresses_are_not_shown() -> None:
    assert "hunter2" not in explain({"msg": "cannot open https://me:hunter2@registry/x"})[0]


class Shown:
    """Stands in for Ansible's display."""

    def __init__(self) -> None:
        self.text = ""

    def banner(self, text: str) -> None:
        self.text += text + "\n"

    def display(self, text: str, **_: Any) -> None:
        self.text += text + "\n"


class Run:
    """One run of Ansible as a callback sees it."""

    def __init__(self, path: Path | None = None) -> None:
        self.callback = CallbackModule()
        self.shown = self.callback._display = Shown()
        self.callback._plugin_options = {"path": str(path) if path else None}

    def play(self, hosts: Any, matched: bool = True) -> None:
        self.callback.v2_playbook_on_play_start(SimpleNamespace(hosts=hosts))
        if matched:
            self.callback.v2_playbook_on_task_start(None, False)
        else:
            self.callback.v2_playbook_on_no_hosts_matched()

    def result(self, host: str, task: str = "Do it", role: str = "", action: str = "x", **result: Any) -> Any:
        of_role = SimpleNamespace(get_name=lambda: f"ollama_fleet.stack.{role}") if role else None
        the_task = SimpleNamespace(_role=of_role, get_name=lambda: task, resolved_action=action)
        return SimpleNamespace(host=SimpleNamespace(get_name=lambda: host), task=the_task, result=result)

    def end(self, failures: tuple[str, ...] = (), dark: tuple[str, ...] = ()) -> str:
        stats = SimpleNamespace(failures=dict.fromkeys(failures, 1), dark=dict.fromkeys(dark, 1))
        self.callback.v2_playbook_on_stats(stats)
        return self.shown.text


def test_a_run_without_failures_prints_nothing_and_writes_an_empty_list(tmp_path: Path) -> None:
    run = Run(tmp_path / "problems.json")
    run.play("all")
    assert run.end() == ""
    assert json.loads((tmp_path / "problems.json").read_text()) == {"schema": "ollama-fleet/problems/1", "problems": []}


def test_each_failed_host_gets_one_entry_with_task_role_and_remedy(tmp_path: Path) -> None:
    run = Run(tmp_path / "problems.json")
    run.play("all")
    name = "ollama_fleet.stack.ollama : install | Pull the image"
    run.callback.v2_runner_on_failed(run.result("gpu1", name, "ollama", msg="No space left on device"))
    run.callback.v2_runner_on_unreachable(run.result("gpu2", msg=SSH + "ops@gpu2: Permission denied (publickey)."))
    text = run.end(failures=("gpu1",), dark=("gpu2",))
    assert (
        "gpu1: failed: a disk of the host is full\n  task:   install | Pull the image (role ollama)\n  remedy: " in text
    )
    assert "gpu2: could not be reached: SSH refuses ops@gpu2" in text
    problems = json.loads((tmp_path / "problems.json").read_text())["problems"]
    assert [problem["host"] for problem in problems] == ["gpu1", "gpu2"]
    assert problems[0]["task"] == "install | Pull the image"
    assert set(problems[0]) == {"host", "task", "role", "what", "why", "remedy"}
    assert [path.name for path in tmp_path.iterdir()] == ["problems.json"]


def test_hosts_with_the_same_problem_share_an_entry() -> None:
    run = Run()
    for host in ("a", "b"):
        run.callback.v2_runner_on_failed(run.result(host, msg="No space left on device"))
    assert run.end(failures=("a", "b")).count("disk") == 1
    assert "a, b: failed: a disk" in run.shown.text


def test_ignored_and_rescued_failures_are_none() -> None:
    run = Run()
    run.callback.v2_runner_on_failed(run.result("a", msg="ignored"), True)
    run.callback.v2_runner_on_failed(run.result("b", msg="rescued"))
    assert run.end() == ""


def test_the_last_failure_of_a_host_counts() -> None:
    run = Run()
    run.callback.v2_runner_on_failed(run.result("a", msg="rescued"))
    run.callback.v2_runner_on_failed(run.result("a", msg="final"))
    text = run.end(failures=("a",))
    assert "final" in text
    assert "rescued" not in text


def test_a_wrong_inventory_is_no_fault_of_the_first_host() -> None:
    run = Run()
    run.callback.v2_runner_on_failed(
        run.result("a", action="ollama_fleet.stack.validate", msg="1 problem.\n  Remedy: x")
    )
    assert "inventory: failed: 1 problem." in run.end(failures=("a",))


def test_a_run_that_no_host_took_part_in_is_a_problem() -> None:
    run = Run()
    run.play("gpu_servers:web_servers", matched=False)
    run.play(["gpu_servers"], matched=False)
    text = run.end()
    assert "nothing was done: no host is in gpu_servers:web_servers or gpu_servers" in text
    assert "remedy: put hosts into these groups" in text


def test_one_play_without_hosts_is_fine() -> None:
    run = Run()
    run.play("gpu_servers")
    run.play("web_servers", matched=False)
    assert run.end() == ""
