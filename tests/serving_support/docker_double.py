"""A test double of the docker command, as far as compose_project calls it: images, one project, and starts that fail.

A Compose file is written as JSON here, which is YAML too. What a container does follows from its image: `broken:1` ends
at once and says why, `gone:1` is in no registry.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

LABEL = "com.docker.compose."


class DockerDouble:
    """Stands in for an AnsibleModule as well: its run_command is all that the project uses."""

    def __init__(self, folder: Path, **params: Any) -> None:
        usual = {
            "project_src": str(folder),
            "project_name": "web",
            "ready_url": None,
            "files": [{}],
            "wait_timeout": 5,
            "log_lines": 20,
        }
        self.params = usual | params
        self.folder = folder
        self.images = {"good:1": "sha256:1"}
        self.registry = {"good:2": "sha256:2", "broken:1": "sha256:b"}
        self.containers: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.log = "cannot start"
        self.cut_at = ""

    def run_command(self, command: list[str], data: str | None = None) -> tuple[int, str, str]:
        words = [word for word in command[1:] if not word.startswith(("/", "sha256:")) or word == command[-1]]
        verb = next(word for word in words if word != "compose" and not word.startswith("-") and word != "web")
        if verb == "-":
            verb = "config"
        self.calls.append(verb)
        if verb == self.cut_at:
            raise KeyboardInterrupt
        answer: tuple[int, str, str] = getattr(self, f"do_{verb}")(command, data)
        return answer

    def do_version(self, command: list[str], _data: str | None) -> tuple[int, str, str]:
        return 0, "2.26.1" if "compose" in command else "26.1.5", ""

    def do_config(self, command: list[str], data: str | None) -> tuple[int, str, str]:
        if "--hash" in command:
            return (
                0,
                "".join(f"{name} {digest(body)}\n" for name, body in json.loads(data or "")["services"].items()),
                "",
            )
        try:
            resolved = json.loads((self.folder / "compose.yaml").read_text())
        except ValueError:
            return 15, "", "yaml: did not find expected node content"
        for body in resolved["services"].values():
            names = body.pop("env_file", [])
            body["environment"] = [(self.folder / name).read_text() for name in names]
        return 0, json.dumps(resolved), ""

    def do_ps(self, _command: list[str], _data: str | None) -> tuple[int, str, str]:
        return 0, "\n".join(one["Id"] for one in self.containers), ""

    def do_inspect(self, _command: list[str], _data: str | None) -> tuple[int, str, str]:
        return 0, json.dumps(self.containers), ""

    def do_image(self, command: list[str], _data: str | None) -> tuple[int, str, str]:
        found = self.images.get(command[-1])
        return (0, found, "") if found else (1, "", "No such image")

    def do_pull(self, command: list[str], _data: str | None) -> tuple[int, str, str]:
        image = command[-1]
        if image not in self.registry:
            return 1, "", f"manifest for {image} not found"
        self.images[image] = self.registry[image]
        return 0, "", ""

    def do_up(self, command: list[str], _data: str | None) -> tuple[int, str, str]:
        _code, text, _err = self.do_config([], None)
        there = {one["Config"]["Labels"][f"{LABEL}service"]: one for one in self.containers}
        made = []
        for name, body in json.loads(text)["services"].items():
            old = there.get(name)
            same = old and old["Config"]["Labels"][f"{LABEL}config-hash"] == digest(body)
            made.append(old if old and same else container(name, body, self.images[body["image"]], len(self.calls)))
            broken = body["image"] == "broken:1"
            made[-1]["State"]["Status"] = (
                "created" if "--no-start" in command else "restarting" if broken else "running"
            )
            made[-1]["RestartCount"] = int(broken)
        self.containers = made
        return 0, "", ""

    def do_logs(self, _command: list[str], _data: str | None) -> tuple[int, str, str]:
        return 0, "", f"starting\n{self.log}\n"

    def do_down(self, _command: list[str], _data: str | None) -> tuple[int, str, str]:
        self.containers = []
        return 0, "", ""


def digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def container(name: str, body: dict[str, Any], image_id: str, number: int) -> dict[str, Any]:
    labels = {f"{LABEL}service": name, f"{LABEL}config-hash": digest(body), f"{LABEL}project": "web"}
    return {
        "Id": f"{name}-{number}",
        "Name": f"/web-{name}-1",
        "Image": image_id,
        "RestartCount": 0,
        "Config": {"Image": body["image"], "Labels": labels},
        "State": {"Status": "running", "ExitCode": 1},
    }
