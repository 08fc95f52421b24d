"""After a whole run that is told to say everything, no secret of the vault is anywhere but where it belongs.

Where they belong: the vault, and files on the hosts that only root can read. Members of a host's group `docker` see
Open WebUI's environment (docs/security.md says so): they are root in all but name, and are not looked at here.
"""

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.lab import Lab
from ollama_fleet import secrets
from tests.serving_support import leaks
from tests.serving_support.leaks import Search, secrets_of
from tests.system.conftest import ROOT, Session

HOSTS = ["gpu1", "gpu2", "web1"]
# Prints each command line that it has not seen yet, until its standard input is closed.
SAMPLER = """
import glob, os, select, sys
seen = set()
while not select.select([sys.stdin], [], [], 0.02)[0]:
    for path in glob.glob('/proc/[0-9]*/cmdline'):
        try:
            with open(path, 'rb') as file:
                line = file.read().replace(b'\\0', b' ')
        except OSError:
            continue
        if line not in seen:
            seen.add(line)
            sys.stdout.buffer.write(line + b'\\n')
            sys.stdout.buffer.flush()
"""


def as_program(text: str, *arguments: str) -> str:
    """A command that runs a Python program as root, with our standard input as its own."""
    code = base64.b64encode(text.encode()).decode()
    return f"sudo python3 -c \"import base64; exec(base64.b64decode('{code}'))\" {' '.join(arguments)}"


@contextmanager
def sampled(command: list[str], into: list[bytes]) -> Iterator[None]:
    """Collect what a sampler prints, for as long as this lasts."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    assert process.stdin
    reader = threading.Thread(target=lambda: into.append(process.stdout.read()))  # type: ignore[union-attr]
    reader.start()
    try:
        yield
    finally:
        process.stdin.close()
        reader.join(timeout=30)
        process.wait(timeout=30)
        process.stdout.close()


@dataclass
class Run:
    """What a whole run said, and which command lines were seen meanwhile, by machine."""

    search: Search
    secrets: dict[str, str]
    output: str = ""
    processes: dict[str, list[bytes]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def run(lab: Session) -> Run:
    known = secrets_of(secrets.read(lab.inventory))
    known["vault password"] = (lab.inventory / ".vault_password").read_text().strip()
    result = Run(Search(known), known, processes={name: [] for name in ["controller", *HOSTS]})
    samplers = [["python3", "-c", SAMPLER]]
    samplers += [[*Lab(ROOT).ssh_command(host), as_program(SAMPLER)] for host in HOSTS]
    with (
        sampled(samplers[0], result.processes["controller"]),
        sampled(samplers[1], result.processes[HOSTS[0]]),
        sampled(samplers[2], result.processes[HOSTS[1]]),
        sampled(samplers[3], result.processes[HOSTS[2]]),
    ):
        done = lab.inv("up", "--full", "--diff", "-v", "-v", "-v", check=False)
    result.output = done.stdout
    assert done.returncode == 0, done.stdout[-4000:]
    return result


def test_there_are_secrets_to_look_for(run: Run) -> None:
    assert {"vault_open_webui_admin_password", "vault_open_webui_secret_key"} <= set(run.secrets)
    assert any(name.startswith("vault_ollama_gateway_tokens.") for name in run.secrets)
    assert any(name.startswith("vault_fleet_ca_key") for name in run.secrets)


def test_the_run_says_none(run: Run) -> None:
    assert "TASK" in run.output
    assert run.search.hits(run.output) == []


@pytest.mark.parametrize("machine", ["controller", *HOSTS])
def test_no_command_line_has_one(run: Run, machine: str) -> None:
    lines = b"".join(run.processes[machine])
    # Ansible's own modules went by, so the sampler saw what there was to see.
    assert b"python" in lines
    assert run.search.hits(lines) == []


@pytest.mark.parametrize("host", HOSTS)
def test_no_file_that_others_can_read_and_no_log_on_a_host_has_one(lab: Session, run: Run, host: str) -> None:
    program = as_program(Path(leaks.__file__).read_text(), "/")
    done = subprocess.run(
        [*Lab(ROOT).ssh_command(host), program],
        input=json.dumps(run.secrets),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {}


@pytest.mark.parametrize("host", HOSTS)
def test_the_journal_and_the_containers_logs_have_none(lab: Session, run: Run, host: str) -> None:
    journal = lab.ssh(host, "sudo journalctl --no-pager --all --output=json")
    assert '"_SYSTEMD_UNIT":' in journal
    assert run.search.hits(journal) == []
    logs = lab.ssh(host, "for id in $(sudo docker ps --all --quiet); do sudo docker logs $id 2>&1; done")
    assert logs
    assert run.search.hits(logs) == []


def test_nothing_that_git_would_take_has_one(run: Run) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    assert run.search.in_files(ROOT / name for name in listed if name) == {}
    history = subprocess.run(["git", "log", "-p", "-n", "50"], cwd=ROOT, check=True, capture_output=True).stdout
    assert run.search.hits(history) == []


def test_the_inventory_reports_and_caches_have_none(lab: Session, run: Run) -> None:
    kept = {lab.inventory / ".vault_password"}
    folders = [lab.inventory, ROOT / "reports", Path.home() / ".ansible"]
    files = [path for folder in folders if folder.exists() for path in leaks.every_file(folder) if path not in kept]
    assert run.search.in_files(files) == {}


def test_the_vault_and_its_password_are_their_owners_alone(lab: Session) -> None:
    paths = [secrets.vault_path(lab.inventory), lab.inventory / ".vault_password"]
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o600, 0o600]
