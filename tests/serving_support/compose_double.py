#!/usr/bin/env python3
"""A double of the docker command with one Compose project, its state in the file that DOCKER_DOUBLE names.

What a container does is decided by its image's name: one that holds "bad" goes down and is started again and again.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml

STATE = Path(os.environ["DOCKER_DOUBLE"])
PROJECT = "com.docker.compose."


def load() -> dict[str, Any]:
    known: dict[str, Any] = {"images": [], "container": None, "asked": []}
    return known | (json.loads(STATE.read_text()) if STATE.exists() else {})


def resolved(arguments: list[str]) -> dict[str, Any]:
    """The project as `compose config` resolves it: the env files' text in place of their names."""
    file = arguments[arguments.index("--file") + 1]
    text = sys.stdin.read() if file == "-" else Path(file).read_text()
    config: dict[str, Any] = yaml.safe_load(text)
    for service in config["services"].values():
        names = service.pop("env_file", [])
        if names:
            service["environment"] = {name: (Path(file).parent / name).read_text() for name in names}
    return config


def settings_hash(service: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(service, sort_keys=True).encode()).hexdigest()


def compose(arguments: list[str], state: dict[str, Any]) -> str:
    if "version" in arguments:
        return "2.26.1"
    ((name, service),) = resolved(arguments)["services"].items()
    if "--hash" in arguments:
        return f"{name} {settings_hash(service)}"
    if "config" in arguments:
        return json.dumps(resolved(arguments))
    assert "up" in arguments
    assert service["image"] in state["images"]
    state["container"] = {
        "Id": "c0ffee",
        "Name": "/open-webui",
        "Image": f"sha256:{service['image']}",
        "Config": {
            "Image": service["image"],
            "Labels": {PROJECT + "service": name, PROJECT + "config-hash": settings_hash(service)},
        },
        "State": {"Status": "restarting" if "bad" in service["image"] else "running", "ExitCode": 1},
        "RestartCount": 0,
    }
    return ""


def answer(arguments: list[str], state: dict[str, Any]) -> str:
    if arguments[0] == "compose":
        return compose(arguments, state)
    if arguments[0] == "ps":
        return "c0ffee" if state["container"] else ""
    if arguments[0] == "inspect":
        return json.dumps([state["container"]])
    if arguments[:2] == ["image", "inspect"]:
        if arguments[-1] not in state["images"]:
            raise SystemExit(1)
        return f"sha256:{arguments[-1]}"
    if arguments[0] == "pull":
        state["images"].append(arguments[-1])
    elif arguments[0] == "stop":
        state["container"]["State"]["Status"] = "exited"
    elif arguments[0] == "logs":
        return "ValueError: this version is bad"
    return ""


def main() -> None:
    state = load()
    state["asked"].append(sys.argv[1:])
    sys.stdout.write(answer(sys.argv[1:], state) + "\n")
    STATE.write_text(json.dumps(state))


if __name__ == "__main__":
    main()
