"""The observation of a real host: it takes less than a second, and opens nothing for writing.

The module's code is run on the host as Ansible would run it, from memory: nothing is put on the host.
"""

import base64
import io
import json
import subprocess
import zipfile
from typing import Any

import pytest

from lab.lab import Lab
from tests.system.conftest import ROOT, Session

PACKAGES = ("ansible_collections", "ollama_fleet", "stack", "plugins", "module_utils")
PROGRAM = """
import base64, json, os, resource, sys, time

writes = []

def watch(event, arguments):
    if event == "open" and arguments[0] != os.devnull:
        path, _mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND):
            writes.append(str(path))
    elif event.startswith(("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.ch", "os.link", "os.symlink",
                           "os.truncate", "os.utime", "shutil.")):
        writes.append(event)

memory = os.memfd_create("modules")
os.write(memory, base64.b64decode({archive!r}))
sys.path.insert(0, f"/proc/self/fd/{{memory}}")
sys.dont_write_bytecode = True
sys.addaudithook(watch)
started = time.monotonic()
from ansible_collections.ollama_fleet.stack.plugins.module_utils import observe
host = observe.Host(disk_paths=["/", "/var/lib/docker", "/var/lib/ollama"])
programs = []
run = host.run
host.run = lambda command, **more: (programs.append(command[0]), run(command, **more))[1]
facts = host.everything()
seconds = time.monotonic() - started
spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
processor = sum(usage.ru_utime + usage.ru_stime for usage in spent)
print(json.dumps(dict(seconds=seconds, processor=processor, writes=writes, programs=programs, facts=facts)))
"""


def archive() -> bytes:
    """The collection's module_utils as a zip, for import from memory."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for depth in range(len(PACKAGES)):
            file.writestr("/".join((*PACKAGES[: depth + 1], "__init__.py")), "")
        for path in sorted((ROOT / "plugins" / "module_utils").glob("*.py")):
            file.write(path, "/".join((*PACKAGES, path.name)))
    return content.getvalue()


def observed(host: str) -> dict[str, Any]:
    """What the host is, and what it took to find out."""
    program = PROGRAM.format(archive=base64.b64encode(archive()).decode())
    command = [*Lab(ROOT).ssh_command(host), "sudo", "-n", "python3", "-"]
    done = subprocess.run(command, input=program, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def runs(lab: Session) -> list[dict[str, Any]]:
    assert lab.inventory.exists()
    return [observed("gpu1") for _ in range(3)]


def test_observation_takes_less_than_a_second(runs: list[dict[str, Any]]) -> None:
    taken = [(round(run["seconds"], 2), round(run["processor"], 2)) for run in runs]
    assert min(seconds for seconds, _ in taken) < 1, taken
    assert min(processor for _, processor in taken) < 0.4, taken


def test_observation_opens_nothing_for_writing(runs: list[dict[str, Any]]) -> None:
    assert [run["writes"] for run in runs] == [[], [], []]


def test_converged_host_is_asked_with_one_program(runs: list[dict[str, Any]]) -> None:
    assert runs[0]["facts"]["records"]
    assert [run["programs"] for run in runs] == [["systemctl"]] * 3


def test_observation_is_what_the_host_itself_says(lab: Session, runs: list[dict[str, Any]]) -> None:
    facts = runs[0]["facts"]
    assert facts["kernel"] == lab.ssh("gpu1", "uname -r").strip()
    assert facts["os"]["id"] == "debian"
    assert (facts["gpus"], facts["driver"]["loaded"]) == ([], None)
    assert facts["docker"]["packages"]["docker.io"]["version"] == (
        lab.ssh("gpu1", "dpkg-query --show --showformat '${Version}' docker.io")
    )
    assert lab.ssh("gpu1", "docker compose version --short").lstrip("v").startswith(facts["docker"]["compose"])
    assert facts["packages"] == {"manager": "apt", "broken": [], "held": lab.ssh("gpu1", "apt-mark showhold").split()}
    assert [item["name"] for item in facts["docker"]["containers"]] == ["ollama"]
    assert facts["ollama"]["reachable"] is True
