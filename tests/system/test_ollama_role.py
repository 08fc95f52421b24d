"""The role ollama on lab hosts: proved to answer from where it should, closed to others, and changed with a way back.

The lab's engine computes on the CPU and says so. Where a host seems to have a GPU, card and nvidia-smi are fixtures.
"""

import base64
import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.lab import Lab
from tests.cuda_support.gpu import Gpu
from tests.system.conftest import ROOT, Session
from tests.system.inventory import address, variable

DOUBLE = ROOT / "tests" / "serving_support" / "gpu_ollama.py"
CARD = "GPU-d20a2be8-d895-daad-04d9-6194ee50bba9"
SMI = """#!/bin/sh
case "$1" in
  --query-gpu=uuid*) echo '{card}, NVIDIA H100 80GB HBM3, 2619, Disabled' ;;
  --query-compute-apps=*) echo '{pid}, llama-server, {card}, 900' ;;
  *) echo 'GPU 0: fixture' ;;
esac
"""


def proof(lab: Session, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code of ./inv prove, and what it said of each host."""
    done = lab.inv("prove", "--json", *arguments, check=False)
    told = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert told["schema"] == "ollama-fleet/proof/1"
    return done.returncode, {host["host"]: host for host in told["hosts"]}


# ---------------------------------------------------------------- the proof


def test_hosts_without_a_gpu_are_proved_to_answer_from_their_cpus(lab: Session) -> None:
    code, hosts = proof(lab)
    assert code == 0, hosts
    for name, neighbour in (("gpu1", "gpu2"), ("gpu2", "web1")):
        said = hosts[name]["proof"]
        assert said["words"].startswith(f"{said['model']['name']} answered from the CPU, as it should"), said
        assert said["signals"]["rate"]["tokens_per_second"] > 0
        assert hosts[name]["closed"] == {"port": 11434, "asked": ["the controller", neighbour], "open_to": []}


def test_a_run_that_changes_a_host_proves_it(lab: Session) -> None:
    variables = lab.inventory / "host_vars" / "gpu1" / "proof.yml"
    variables.parent.mkdir(parents=True, exist_ok=True)
    variables.write_text("ollama_proof_floor: 1000000\n")
    try:
        refused = lab.inv("up", "--limit", "gpu1", check=False)
        # It is not forgotten by the next run.
        waiting = lab.inv("plan", "--limit", "gpu1", check=False)
    finally:
        variables.unlink()
    assert refused.returncode == 2, refused.stdout[-4000:]
    assert "Ollama is not proved to answer from the CPU" in refused.stdout
    assert "below the floor of 1000000.0 (as ollama_proof_floor says)" in refused.stdout
    assert waiting.returncode == 2, waiting.stdout
    mended = lab.inv("up", "--limit", "gpu1", check=False)
    assert mended.returncode == 0, mended.stdout[-4000:]
    assert "answered from the CPU, as it should" in mended.stdout
    assert lab.inv("plan", "--limit", "gpu1", check=False).returncode == 0


@dataclass(frozen=True)
class Alone:
    """A host of its own with Docker, Ollama and the lab's models, and its inventory."""

    name: str
    inventory: Path
    lab: Session

    def ssh(self, command: str) -> str:
        return self.lab.ssh(self.name, command)

    def up(self, *arguments: str, **variables: Any) -> tuple[int, str]:
        """Apply Docker, Ollama and the models with these variables more; the exit code and what it said."""
        folder = self.inventory / "host_vars"
        folder.mkdir(exist_ok=True)
        (folder / f"{self.name}.yml").write_text(yaml.safe_dump(variables))
        tags = "docker,ollama,ollama_models"
        done = self.lab.inv("up", "--tags", tags, "--inventory", str(self.inventory), *arguments, check=False)
        return done.returncode, done.stdout

    def nvidia_smi(self, pid: int) -> None:
        """Have nvidia-smi say that this process computes on the card."""
        text = shlex.quote(SMI.format(card=CARD, pid=pid))
        self.ssh(f"printf %s {text} | sudo tee /usr/local/bin/nvidia-smi >/dev/null")

    def server(self) -> int:
        """The process of Ollama's container."""
        return int(self.ssh("sudo docker inspect --format '{{.State.Pid}}' ollama"))

    def container(self) -> str:
        """Which container it is: another one after it was made anew."""
        return self.ssh("sudo docker inspect --format '{{.Id}}' ollama").strip()


@pytest.fixture(scope="module")
def alone(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    name = "alone1"
    folder = tmp_path_factory.mktemp("alone")
    host = Lab(ROOT).add_host(name)
    shutil.copytree(lab.inventory, folder, dirs_exist_ok=True)
    variables = {
        "ansible_host": host.address,
        # The vault has no certificate for this name; nothing is served to others from here.
        "ollama_gateway_certificate": "{{ vault_fleet_certificates.gpu1.certificate }}",
        "ollama_gateway_certificate_key": "{{ vault_fleet_certificates.gpu1.key }}",
    }
    groups = {"gpu_servers": {"hosts": {name: variables}}, "web_servers": {"hosts": {}}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(groups))
    machine = Alone(name, folder, lab)
    code, said = machine.up()
    assert code == 0, said[-6000:]
    yield machine
    Lab(ROOT).remove_host(name)


# ---------------------------------------------------------------- changes, and the way back

PASSWORD = "hunter2-of-the-proxy"
PROXY = {"ollama_https_proxy": f"http://u:{PASSWORD}@127.0.0.1:9"}
# The lab's engine is a Python program, which ends at once with this.
BREAKS = {"ollama_environment": {"PYTHONHOME": "/nowhere"}}
PROJECT = "/opt/ollama-fleet/ollama"
ANSWERS = 'python3 -c "import urllib.request as u; print(u.urlopen(\\"http://127.0.0.1:11434/api/version\\").status)"'


def left_on(alone: Alone) -> str:
    """The project's files with mode, owner and content, the image that runs, and whether the API answers."""
    files = f"sudo sh -c 'cd {PROJECT} && ls -lA --time-style=+ && sha256sum *'"
    runs = "sudo docker inspect --format '{{.Config.Image}} {{.State.Status}}' ollama"
    # Compose hands the settings over in no order.
    settings = "sudo docker inspect --format '{{range .Config.Env}}{{println .}}{{end}}' ollama | sort"
    return alone.ssh(f"{files}; {runs}; {settings}; {ANSWERS}")


def test_a_changed_setting_makes_the_container_anew_once(alone: Alone) -> None:
    before = alone.container()
    code, said = alone.up("--diff", ollama_context_length=4096, **PROXY)
    assert code == 0, said[-4000:]
    changed = alone.container()
    assert changed != before
    assert '+      OLLAMA_CONTEXT_LENGTH: "4096"' in said
    assert PASSWORD not in said
    # The role runs again because of a variable that changes nothing on the host.
    assert alone.up(ollama_context_length=4096, ollama_start_timeout=119, **PROXY)[0] == 0
    assert alone.container() == changed


def test_check_mode_shows_no_secret_and_changes_nothing(alone: Alone) -> None:
    before = left_on(alone)
    code, said = alone.up("--check", "--diff", ollama_context_length=2048, ollama_https_proxy="http://proxy:3128")
    assert code == 0, said[-4000:]
    assert '+      OLLAMA_CONTEXT_LENGTH: "2048"' in said
    assert PASSWORD not in said
    assert left_on(alone) == before


def test_a_start_that_fails_puts_all_of_it_back_and_says_why(alone: Alone) -> None:
    before = left_on(alone)
    code, said = alone.up("-v", "--diff", ollama_context_length=2048, **BREAKS, **PROXY)
    assert code == 2, said[-4000:]
    assert "Project ollama did not start" in said
    assert "the old settings are back, and it runs with them" in said
    # The last lines of its log.
    assert "encodings" in said
    assert PASSWORD not in said
    assert left_on(alone) == before


def test_an_image_that_cannot_be_had_stops_nothing(alone: Alone) -> None:
    before, container = left_on(alone), alone.container()
    code, said = alone.up(ollama_image="registry.lab:5000/nowhere:1", **PROXY)
    assert code == 2, said[-4000:]
    assert "Image registry.lab:5000/nowhere:1 was not pulled" in said
    assert left_on(alone) == before
    assert alone.container() == container


def test_a_full_disk_while_an_image_comes_stops_nothing_and_is_named(alone: Alone) -> None:
    before, container = left_on(alone), alone.container()
    alone.ssh("sudo mount -t tmpfs -o size=1m tmpfs /var/lib/docker/tmp")
    try:
        code, said = alone.up(ollama_image=str(variable(alone.lab, "web1", "open_webui_image")), **PROXY)
    finally:
        alone.ssh("sudo umount /var/lib/docker/tmp")
    assert code == 2, said[-4000:]
    assert "no space left on device" in said
    assert "make room on the disk of Docker's folder" in said
    assert left_on(alone) == before
    assert alone.container() == container


def test_a_mirror_takes_the_place_of_the_registry(alone: Alone) -> None:
    image = str(variable(alone.lab, "gpu1", "ollama_image"))
    registry, _slash, rest = image.partition("/")
    code, said = alone.up(ollama_image=f"docker.io/{rest}", ollama_image_prefix=registry)
    assert code == 0, said[-4000:]
    assert alone.ssh("sudo docker inspect --format '{{.Config.Image}}' ollama").strip() == image


def test_the_server_sees_the_authority_that_it_is_given_and_loses_it_again(alone: Alone) -> None:
    look = "import os; path = os.environ.get('SSL_CERT_FILE'); print(path and open(path).read())"
    inside = f'sudo docker exec ollama python3 -c "{look}"'
    code, said = alone.up(ollama_ca_certificate="{{ vault_fleet_ca_certificate }}")
    assert code == 0, said[-4000:]
    assert "BEGIN CERTIFICATE" in alone.ssh(inside)
    code, said = alone.up()
    assert code == 0, said[-4000:]
    assert alone.ssh(inside).strip() == "None"
    assert "ca.pem" not in left_on(alone)


# ---------------------------------------------------------------- a host that seems to have a GPU


def test_a_gpu_host_that_answers_from_its_cpu_fails_by_name_with_all_three_signals(alone: Alone) -> None:
    # The card comes to a host whose container was made without one, and the engine answers from the CPU all the same.
    Gpu(alone.ssh).appear()
    alone.nvidia_smi(pid=1)
    code, hosts = proof(alone.lab, "--inventory", str(alone.inventory))
    said = hosts[alone.name]["proof"]
    assert (code, said["expected"], said["proved"]) == (2, "gpu", False)
    assert said["signals"]["memory"]["agrees"] is False
    assert said["signals"]["process"]["agrees"] is False
    assert "others do: NVIDIA H100 80GB HBM3" in said["signals"]["process"]["seen"]
    assert "the container was made without a GPU" in said["words"]


def test_a_process_of_the_container_is_found_by_its_cgroup(alone: Alone) -> None:
    alone.nvidia_smi(pid=alone.server())
    code, hosts = proof(alone.lab, "--inventory", str(alone.inventory))
    said = hosts[alone.name]["proof"]
    # One signal that agrees makes no proof.
    assert (code, said["signals"]["process"]["agrees"], said["proved"]) == (2, True, False)
    assert "container ollama computes on NVIDIA H100 80GB HBM3" in said["words"]


@pytest.mark.parametrize(("rate", "proved"), [(250, True), (20, False)])
def test_a_gpu_host_is_proved_when_all_three_agree(alone: Alone, rate: int, proved: bool) -> None:
    # In place of the engine a double that says it has the model on the GPU. Docker, cgroups and ports are real.
    image = alone.ssh("sudo docker inspect --format '{{.Image}}' ollama").strip()
    program = base64.b64encode(DOUBLE.read_bytes()).decode()
    options = "--name ollama --publish 127.0.0.1:11434:11434 --volume /opt/double.py:/double.py:ro --entrypoint python3"
    alone.ssh(f"echo {program} | base64 -d | sudo tee /opt/double.py >/dev/null; sudo docker rm --force ollama")
    alone.ssh(f"sudo docker run --detach {options} {image} /double.py 11434 {rate}")
    alone.ssh(f"timeout 30 sh -c 'until {ANSWERS}; do sleep 0.2; done' 2>/dev/null")
    alone.nvidia_smi(pid=alone.server())
    code, hosts = proof(alone.lab, "--inventory", str(alone.inventory))
    said = hosts[alone.name]["proof"]
    assert (code, said["proved"]) == ((0, True) if proved else (2, False)), said
    assert [signal["agrees"] for signal in said["signals"].values()] == [True, True, proved]
    if not proved:
        assert "the GPU is used and slow" in said["words"]


# ---------------------------------------------------------------- closed


def test_what_docker_publishes_passes_by_the_firewall_and_is_found_from_outside(lab: Session) -> None:
    # As ufw refuses a port: in INPUT. What Docker publishes is translated before that, and never gets there.
    rule = "INPUT -p tcp --dport 11434 -j REJECT"
    image = lab.ssh("gpu1", "sudo docker inspect --format '{{.Image}}' ollama").strip()
    here = address(lab, "gpu1")
    program = "-m http.server 11434"
    published = f"--publish {here}:11434:11434 --entrypoint python3 {image} {program}"
    lab.ssh("gpu1", f"sudo iptables -I {rule} && sudo docker run --detach --name opened {published}")
    try:
        code, hosts = proof(lab, "--limit", "gpu1,gpu2")
    finally:
        lab.ssh("gpu1", f"sudo docker rm --force opened; sudo iptables -D {rule}")
    assert code == 2
    assert hosts["gpu1"]["closed"]["open_to"] == ["the controller", "gpu2"]
    assert hosts["gpu2"]["closed"]["open_to"] == []
    assert proof(lab, "--limit", "gpu1")[0] == 0
