"""The module of Open WebUI's upgrades as Ansible runs it: doubles of Docker and Open WebUI, and a real database."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from tests.serving_support.secrets_doubles import serving
from tests.serving_support.webui_double import WebuiDouble

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "tests" / "serving_support" / "compose_double.py"
EMAIL, PASSWORD = "admin@example.com", "a-password-of-24-letters"


class Run:
    """A host that is this machine, and the module's task on it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        docker = folder / "bin" / "docker"
        docker.write_text(f'#!/bin/sh\nexec {sys.executable} {DOCKER} "$@"\n')
        docker.chmod(0o755)
        (folder / "data").mkdir()
        self.arguments = {
            "project_dir": f"{folder}/open-webui",
            "environment": f'WEBUI_ADMIN_PASSWORD="{PASSWORD}"\n',
            "ca_bundle": "PEM\n",
            "data_dir": f"{folder}/data",
            "backup_dir": f"{folder}/backups",
            "base_url": url,
            "admin_email": EMAIL,
            "admin_password": PASSWORD,
            "wait_timeout": 2,
        }

    def __call__(self, image: str, *options: str) -> tuple[int, str, dict[str, Any]]:
        """Return (exit code, output, the module's result)."""
        services = {"open-webui": {"image": image, "env_file": ["open-webui.env"]}}
        told = {**self.arguments, "compose": yaml.safe_dump({"name": "open-webui", "services": services})}
        keep = {"content": "{{ result | to_json }}", "dest": f"{self.folder}/result.json"}
        tasks = [
            {"name": "Run", "ollama_fleet.stack.open_webui_release": told, "register": "result", "failed_when": False},
            {"name": "Keep", "ansible.builtin.copy": keep, "check_mode": False, "diff": False},
        ]
        (self.folder / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "remote"),
            "ANSIBLE_BECOME": "false",
            "ANSIBLE_NOCOLOR": "1",
            "DOCKER_DOUBLE": str(self.folder / "docker.json"),
            "PATH": f"{self.folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        command = ["ansible-playbook", "-i", "localhost,", "-c", "local", "-vvv", "--diff", *options]
        command += ["-e", f"ansible_python_interpreter={sys.executable}", str(self.folder / "play.yml")]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        result: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        assert PASSWORD not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr, result

    @property
    def runs(self) -> str:
        image: str = json.loads((self.folder / "docker.json").read_text())["container"]["Config"]["Image"]
        return image


def test_a_first_start_an_upgrade_and_a_way_back(tmp_path: Path) -> None:
    with serving(WebuiDouble, email=EMAIL, password=PASSWORD, key="k" * 64) as (port, _kind):
        run = Run(tmp_path, f"http://127.0.0.1:{port}")
        code, output, result = run("webui:1", "--check")
        assert (code, result["changed"]) == (0, True), output
        assert not (tmp_path / "open-webui").exists()

        code, output, result = run("webui:1")
        assert (code, result["changed"], run.runs) == (0, True, "webui:1"), output
        assert run("webui:1")[2]["changed"] is False
        with closing(sqlite3.connect(tmp_path / "data" / "webui.db")) as database:
            database.execute("CREATE TABLE chat (title text)")

        code, output, result = run("webui:2", "--check")
        assert "+    image: webui:2" in output
        assert result["actions"][0].startswith("back up the database (")
        assert not (tmp_path / "backups").exists()

        code, output, result = run("webui:2")
        assert (code, run.runs) == (0, "webui:2"), output
        assert Path(result["backup"], "webui.db").exists()
        assert run("webui:2")[2]["changed"] is False

        code, output, result = run("webui:3-bad")
        assert run.runs == "webui:2", output
        assert result["msg"].startswith("Open WebUI does not work with webui:3-bad: container open-webui is restarting")
        assert (
            "the last that it said: ValueError: this version is bad (webui:2 is back with its database and works"
            in result["msg"]
        )
        assert len(list((tmp_path / "backups").glob("*/failed/webui.db"))) == 1
        assert run("webui:2")[2]["changed"] is False
