"""The playbook of a rotation with doubles of gateway and interface: what it does, refuses, and never says."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ollama_fleet.authority import Pair, issue, make_authority
from tests.serving_support.leaks import Search
from tests.serving_support.secrets_doubles import GatewayDouble, InterfaceDouble, serving

ROOT = Path(__file__).resolve().parents[2]
OLD = {"password": "old-password-of-24-chars", "key": "o" * 64, "token": "old-token-" + "t" * 33}
NEW = {"password": "new-password-of-24-chars", "key": "k" * 64, "token": "new-token-" + "t" * 33}


@pytest.fixture(scope="module")
def pair() -> Pair:
    return issue(make_authority(), "here", ["127.0.0.1"])


def play(folder: Path, step: str, ports: dict[str, int], pair: Pair) -> subprocess.CompletedProcess[str]:
    """Run the playbook for a host that is this machine, where both roles count as applied and neither is run."""
    variables: dict[str, Any] = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "open_webui_admin_password": NEW["password"],
        "open_webui_secret_key": NEW["key"],
        "open_webui_port": ports["interface"],
        "ollama_gateway_port": ports["gateway"],
        "ollama_gateway_clients": [{"name": "web", "token": NEW["token"]}],
        "ollama_gateway_allowed_sources": ["127.0.0.1"],
        "ollama_gateway_certificate": pair.certificate,
        "ollama_gateway_certificate_key": pair.key,
        "vault_rotation": {
            "step": step,
            "old": {
                "vault_open_webui_admin_password": OLD["password"],
                "vault_open_webui_secret_key": OLD["key"],
                "vault_ollama_gateway_tokens": {"web": OLD["token"]},
            },
        },
    }
    groups = {group: {"hosts": {"here": {}}} for group in ("gpu_servers", "web_servers")}
    (folder / "hosts.yml").write_text(json.dumps({"all": {"vars": variables, "children": groups}}))
    told = {"fleet_secret_roles": [], "__rotation_applied": ["ollama_gateway", "open_webui"]}
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(folder / "remote"),
        "ANSIBLE_NOCOLOR": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = ["ansible-playbook", "-i", str(folder / "hosts.yml"), "playbooks/secrets_rotate.yml", "-vvv", "--diff"]
    command += ["--extra-vars", json.dumps(told)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    secrets = {f"{age} {name}": value for age, all_of in (("old", OLD), ("new", NEW)) for name, value in all_of.items()}
    assert Search(secrets).hits(done.stdout + done.stderr) == []
    return done


def test_the_password_is_changed_and_all_is_proved(tmp_path: Path, pair: Pair) -> None:
    with (
        serving(InterfaceDouble, password=OLD["password"], key=NEW["key"]) as (interface, webui),
        serving(GatewayDouble, (tmp_path, pair), known={NEW["token"], OLD["token"]}) as (gateway, nginx),
    ):
        ports = {"interface": interface, "gateway": gateway}
        done = play(tmp_path, "switch", ports, pair)
        assert done.returncode == 0, done.stdout[-3000:]
        assert webui.password == NEW["password"]
        # The last step: the old token still counts, and that is not accepted any more.
        done = play(tmp_path, "narrow", ports, pair)
        assert done.returncode == 2
        assert "to the old token of web it should answer 401 and answers 200" in done.stdout
        nginx.known = {NEW["token"]}
        done = play(tmp_path, "narrow", ports, pair)
        assert done.returncode == 0, done.stdout[-3000:]
