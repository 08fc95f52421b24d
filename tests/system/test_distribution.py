"""How models get to the lab's hosts: what is shown of pulls, what cuts do, the cache, and a fleet on a disk."""

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.distribute import Link
from lab.containers import Containers
from lab.docker import Docker
from lab.lab import Lab
from lab.state import State
from lab.system import privileged
from ollama_fleet import secrets
from ollama_fleet.playbook import environment
from tests.system.asking import ask
from tests.system.conftest import ROOT, Session
from tests.system.inventory import address

MODEL = "smollm2:135m"
SIZE = 98_400_000
PLAYBOOKS = Path(__file__).parent / "playbooks"
API = "http://127.0.0.1:11434"
PULL = ["up", "--tags", "ollama_models"]


def seconds_until(found: Callable[[], Any], limit: float = 120) -> Any:
    deadline = time.monotonic() + limit
    while not (result := found()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert result, "it did not come to that in time"
    return result


def forget(lab: Session, host: str) -> None:
    """Take the model away, with the parts of pulls that were cut."""
    ask(lab, host, f"{API}/api/delete", body={"model": MODEL}, method="DELETE")
    lab.ssh(host, "sudo find /var/lib/ollama/models/blobs -name '*-partial*' -delete")
    assert MODEL not in models(lab, host)


def models(lab: Session, host: str) -> list[str]:
    return [model["name"] for model in json.loads(ask(lab, host, f"{API}/api/tags").text)["models"]]


@pytest.fixture
def uplink(lab: Session) -> Iterator[Link]:
    """The lab's model source with a link of 50 Mbit/s: its model takes 16 s."""
    there = Lab(ROOT).paths
    docker = Docker(State.load(there.state).docker_host or "")
    source = docker.inspect("container", [Containers(docker, there).full_name("models")])[0]
    enter = privileged(["nsenter", "--target", str(source["State"]["Pid"]), "--net"])
    link = Link("the model source", enter, 50)
    link.cap()
    yield link
    link.uncap()


def start(lab: Session, *hosts: str) -> subprocess.Popen[str]:
    """./inv up for the models of these hosts, as a person without a terminal would, in a process group of its own."""
    command = [str(ROOT / "inv"), *PULL, "--limit", ",".join(hosts)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


# ---------------------------------------------------------------- progress


def test_pulls_of_two_hosts_show_bytes_rate_and_time_left_through_one_connection_each(
    lab: Session, uplink: Link
) -> None:
    for host in ("gpu1", "gpu2"):
        forget(lab, host)
    run = start(lab, "gpu1", "gpu2")
    seconds_until(lambda: uplink.sent() > SIZE // 10)
    # Ansible's one, and the one that asks.
    connections = lab.ssh("gpu1", "sudo ss -Htn state established sport = :22 | wc -l")
    output, _ = run.communicate(timeout=300)
    assert run.returncode == 0, output
    assert int(connections) <= 2
    for host in ("gpu1", "gpu2"):
        line = rf"^{host}: models\.lab:5001/library/{MODEL}: [\d.]+ of 98\.\d MB, [\d.]+ .B/s, .* left$"
        assert re.search(line, output, re.MULTILINE), output
        assert MODEL in models(lab, host)
        assert lab.ssh(host, "ls /run/ollama-fleet 2>/dev/null", check=False) == ""


def test_stalled_link_is_named(lab: Session, uplink: Link) -> None:
    forget(lab, "gpu1")
    run = start(lab, "gpu1")
    try:
        seconds_until(lambda: uplink.sent() > SIZE // 10)
        block(lab, "DROP")
        seconds_until(lambda: "stalled for" in line_of(run), limit=90)
    finally:
        unblock(lab, "DROP")
        run.communicate(timeout=300)
    assert lab.inv(*PULL, "--limit", "gpu1").returncode == 0


def line_of(run: subprocess.Popen[str]) -> str:
    assert run.stdout is not None
    return run.stdout.readline()


def block(lab: Session, how: str) -> None:
    """Cut gpu1's containers off from the model source."""
    lab.ssh("gpu1", f"sudo iptables -I DOCKER-USER -p tcp -d {source_address()} -j {how}")


def unblock(lab: Session, how: str) -> None:
    lab.ssh("gpu1", f"sudo iptables -D DOCKER-USER -p tcp -d {source_address()} -j {how}")


def source_address() -> str:
    there = Lab(ROOT).paths
    docker = Docker(State.load(there.state).docker_host or "")
    return Containers(docker, there).all()["models"].address


# ---------------------------------------------------------------- cuts


# Integration tests cut a pull at each of these as well.
@pytest.mark.parametrize("share", [*(pytest.param(share, marks=pytest.mark.long) for share in (0.3, 0.6)), 0.95])
def test_cut_pull_is_named_and_the_next_run_goes_on(lab: Session, uplink: Link, share: float) -> None:
    forget(lab, "gpu1")
    before = uplink.sent()
    run = start(lab, "gpu1")
    reset = "REJECT --reject-with tcp-reset"
    try:
        seconds_until(lambda: uplink.sent() - before > SIZE * share)
        block(lab, reset)
        output, _ = run.communicate(timeout=300)
    finally:
        unblock(lab, reset)
    assert run.returncode == 2, output
    assert f"Model models.lab:5001/library/{MODEL} was not pulled" in output
    assert "remedy:" in output
    assert MODEL not in models(lab, "gpu1")
    again = lab.inv(*PULL, "--limit", "gpu1")
    assert again.returncode == 0, again.stdout
    assert MODEL in models(lab, "gpu1")
    # What the open parts had since their last save comes again.
    assert uplink.sent() - before < SIZE * 1.6


def test_run_after_a_killed_controller_goes_on(lab: Session, uplink: Link) -> None:
    forget(lab, "gpu1")
    before = uplink.sent()
    run = start(lab, "gpu1")
    seconds_until(lambda: uplink.sent() - before > SIZE * 0.3)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    again = lab.inv(*PULL, "--limit", "gpu1")
    assert again.returncode == 0, again.stdout
    assert MODEL in models(lab, "gpu1")
    assert uplink.sent() - before < SIZE * 1.3


def test_registry_that_is_down_is_named_and_nothing_is_lost(lab: Session) -> None:
    forget(lab, "gpu1")
    there, reset = models(lab, "gpu1"), "REJECT --reject-with tcp-reset"
    try:
        block(lab, reset)
        down = lab.inv(*PULL, "--limit", "gpu1", check=False)
    finally:
        unblock(lab, reset)
    assert down.returncode == 2, down.stdout
    assert "connection refused" in down.stdout
    assert "remedy:" in down.stdout
    assert models(lab, "gpu1") == there
    assert lab.inv(*PULL, "--limit", "gpu1").returncode == 0
    assert MODEL in models(lab, "gpu1")


def test_wrong_digest_is_named_and_the_next_run_fetches_what_is_right(lab: Session) -> None:
    forget(lab, "gpu1")
    blobs = Lab(ROOT).paths.models / "v2" / "library" / "smollm2" / "blobs"
    blob = min(blobs.glob("sha256-*"), key=lambda path: path.stat().st_size)
    right = blob.with_name(f".{blob.name}.right")
    shutil.copy2(blob, right)
    damaged = blob.with_name(f".{blob.name}.damaged")
    damaged.write_bytes(bytes([blob.read_bytes()[0] ^ 1]) + blob.read_bytes()[1:])
    try:
        damaged.replace(blob)
        wrong = lab.inv(*PULL, "--limit", "gpu1", check=False)
    finally:
        right.replace(blob)
    assert wrong.returncode == 2, wrong.stdout
    assert "digest mismatch" in wrong.stdout
    assert "remedy:" in wrong.stdout
    assert MODEL not in models(lab, "gpu1")
    assert lab.inv(*PULL, "--limit", "gpu1").returncode == 0
    assert MODEL in models(lab, "gpu1")


# ---------------------------------------------------------------- the cache


def play(lab: Session, playbook: str, *options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    command = ["ansible-playbook", "-i", str(lab.inventory), str(PLAYBOOKS / playbook), *options]
    command += ["-e", json.dumps(variables)]
    return subprocess.run(
        command, cwd=ROOT, env=environment(lab.inventory), check=False, capture_output=True, text=True
    )


def changed(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stdout + done.stderr
    return sum(int(count) for count in re.findall(r"changed=(\d+)", done.stdout))


WANTED = {"models": [{"name": MODEL, "source": f"models.lab:5001/library/{MODEL}", "insecure": True}]}


@pytest.fixture(scope="module")
def cache(lab: Session) -> Iterator[str]:
    """web1 as a cache, which it was not before and is not afterwards; its address with the port."""
    before = lab.ssh("web1", "dpkg-query -W -f '${db:Status-Abbrev}' nginx 2>/dev/null", check=False)
    assert changed(play(lab, "model_cache.yml", "--check", "--diff", **WANTED)) > 0
    assert lab.ssh("web1", "ls -d /var/lib/ollama-model-cache 2>/dev/null", check=False) == ""
    assert changed(play(lab, "model_cache.yml", **WANTED)) > 0
    yield f"{address(lab, 'web1')}:11436"
    assert changed(play(lab, "model_cache.yml", tasks_from="remove", **WANTED)) > 0
    left = [
        "/var/lib/ollama-model-cache",
        "/etc/ollama-fleet/model-cache",
        "/etc/nginx/conf.d/ollama-fleet-model-cache.conf",
    ]
    assert lab.ssh("web1", f"sudo ls -d {' '.join(left)} 2>/dev/null", check=False) == ""
    assert lab.ssh("web1", "dpkg-query -W -f '${db:Status-Abbrev}' nginx 2>/dev/null", check=False)[:2] == before[:2]
    assert lab.inv("up", "--limit", "gpu1,web1").returncode == 0


def layers(lab: Session) -> list[str]:
    path = f"/var/lib/ollama-model-cache/manifests/registry.ollama.ai/library/{MODEL.replace(':', '/')}"
    manifest = json.loads(lab.ssh("web1", f"cat {path}"))
    return [blob["digest"] for blob in manifest["layers"]]


def test_second_run_changes_nothing(lab: Session, cache: str) -> None:
    assert changed(play(lab, "model_cache.yml", "--check", **WANTED)) == 0
    assert changed(play(lab, "model_cache.yml", **WANTED)) == 0


def test_server_pulls_from_the_cache_and_gets_the_short_name(lab: Session, cache: str) -> None:
    done = play(lab, "pull_from_cache.yml", model=MODEL, layers=layers(lab))
    assert done.returncode == 0, done.stdout + done.stderr
    assert MODEL in models(lab, "gpu1")
    assert not [name for name in models(lab, "gpu1") if "11436" in name]
    log = lab.ssh("web1", "sudo cat /var/log/nginx/model_cache.log")
    assert f"{address(lab, 'gpu1')} " in log
    assert '" 206 ' in log


def asked(lab: Session, host: str, url: str, method: str = "GET") -> int:
    """The status of what the cache answers to a host that trusts the fleet's authority."""
    authority = secrets.show(lab.inventory, "vault_fleet_ca_certificate")
    return ask(lab, host, url, method=method, authority=authority).status


def test_cache_answers_listed_hosts_and_nobody_else_and_reads_only(lab: Session, cache: str) -> None:
    manifest = f"https://{cache}/v2/library/{MODEL.replace(':', '/manifests/')}"
    blob = f"https://{cache}/v2/library/x/blobs/{layers(lab)[0]}"
    assert [asked(lab, "gpu1", url, "HEAD") for url in (manifest, blob)] == [200, 200]
    assert [asked(lab, "gpu2", url, "HEAD") for url in (manifest, blob)] == [403, 403]
    assert [asked(lab, "gpu1", blob, method) for method in ("PUT", "POST", "DELETE")] == [405] * 3
    assert asked(lab, "gpu1", f"https://{cache}/manifests/registry.ollama.ai/library/smollm2/135m") == 404
    assert asked(lab, "gpu1", manifest.replace("https", "http")) == 400
    with pytest.raises(urllib.error.URLError) as refused:
        urllib.request.urlopen(manifest, timeout=10, context=ssl.create_default_context())
    assert "certificate" in str(refused.value)


def test_lost_model_is_drift_and_comes_back(lab: Session, cache: str) -> None:
    path = f"/var/lib/ollama-model-cache/manifests/registry.ollama.ai/library/{MODEL.replace(':', '/')}"
    lab.ssh("web1", f"sudo rm {path}")
    command = ["ansible", "web1", "-i", str(lab.inventory), "-m", "ollama_fleet.stack.host_info"]
    seen = subprocess.run(
        command, cwd=ROOT, env=environment(lab.inventory), check=True, capture_output=True, text=True
    ).stdout
    assert f"{path} was removed" in seen
    assert changed(play(lab, "model_cache.yml", **WANTED)) > 0
    assert changed(play(lab, "model_cache.yml", **WANTED)) == 0


def test_full_disk_is_named_before_a_byte_moves(lab: Session, cache: str) -> None:
    reserve = {**WANTED, "model_cache_disk_reserve": "900T"}
    lab.ssh("web1", "sudo rm -r /var/lib/ollama-model-cache/manifests /var/lib/ollama-model-cache/blobs")
    done = play(lab, "model_cache.yml", **reserve)
    assert done.returncode == 2
    assert "more on the disk of /var/lib/ollama-model-cache" in done.stdout
    assert changed(play(lab, "model_cache.yml", **WANTED)) > 0


# ---------------------------------------------------------------- a fleet on a disk

HOST = "airgap1"


@pytest.fixture(scope="module")
def disk(lab: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What gpu1 has, on a disk."""
    folder = tmp_path_factory.mktemp("bundle") / "disk"
    done = save(lab, folder)
    assert done.returncode == 0, done.stdout
    return folder


def save(lab: Session, folder: Path) -> subprocess.CompletedProcess[str]:
    """Save with an inventory that names the model source by its address: this machine does not know the lab's names."""
    inventory = folder.parent / "inventory"
    shutil.copytree(lab.inventory, inventory, dirs_exist_ok=True)
    models = inventory / "group_vars" / "gpu_servers" / "ollama_models.yml"
    models.write_text(models.read_text().replace("models.lab:", f"{source_address()}:"))
    return lab.inv("bundle.save", str(folder), "--limit", "gpu1", "--inventory", str(inventory), check=False)


@pytest.fixture(scope="module")
def closed(lab: Session, disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The inventory of a bare host that has no way out and no package source."""
    host = Lab(ROOT).add_host(HOST)
    image = next(json.loads(path.read_text())["name"] for path in (disk / "images").glob("*.json"))
    folder = tmp_path_factory.mktemp("closed")
    hosts = {HOST: dict(Lab(ROOT).host_variables(host))}
    listed = [{"name": MODEL}]
    variables = {"ollama_image": image, "ollama_models_list": listed, "ansible_python_interpreter": "/usr/bin/python3"}
    inventory = {"gpu_servers": {"hosts": hosts, "vars": variables}, "model_caches": {"hosts": {HOST: None}}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
    lab.ssh(HOST, "sudo sh -c 'rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*; ip route del default'")
    yield folder
    Lab(ROOT).remove_host(HOST)


def test_second_save_carries_nothing_again(lab: Session, disk: Path) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in disk.rglob("*") if path.is_file() and path.name != "bundle.json"
    }
    assert save(lab, disk).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_damaged_disk_is_refused_by_name_and_nothing_is_loaded(lab: Session, disk: Path, closed: Path) -> None:
    package = next((disk / "packages").glob("*.tar"))
    content = package.read_bytes()
    package.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    done = lab.inv("bundle.load", str(disk), "--inventory", str(closed), check=False)
    package.write_bytes(content)
    assert done.returncode == 1
    assert f"packages/{package.name} has other bytes than were saved" in done.stdout
    assert lab.ssh(HOST, "ls -d /var/lib/ollama-fleet-bundle 2>/dev/null", check=False) == ""


def test_host_without_a_way_out_gets_docker_image_and_model_from_the_disk(
    lab: Session, disk: Path, closed: Path
) -> None:
    done = lab.inv("bundle.load", str(disk), "--inventory", str(closed), check=False)
    assert done.returncode == 0, done.stdout
    image = json.loads(next((disk / "images").glob("*.json")).read_text())
    assert image["name"].rpartition(":")[2] in lab.ssh(HOST, "sudo docker image ls")
    blobs = lab.ssh(HOST, "ls /var/lib/ollama-model-cache/blobs").split()
    assert sorted(blobs) == sorted(path.name for path in (disk / "models" / "blobs").iterdir())
    again = lab.inv("bundle.load", str(disk), "--inventory", str(closed), check=False)
    assert again.returncode == 0, again.stdout
    assert "TASK [bundle_load_image | Load the image]" in done.stdout
    assert "TASK [bundle_load_image | Load the image]" not in again.stdout


def test_full_disk_while_an_image_is_loaded_is_named_and_leaves_nothing_behind(
    lab: Session, disk: Path, closed: Path
) -> None:
    image = json.loads(next((disk / "images").glob("*.json")).read_text())
    lab.ssh(HOST, f"sudo docker image rm {image['id']}")
    # Docker unpacks there what it loads.
    lab.ssh(HOST, "sudo mount -t tmpfs -o size=1m tmpfs /var/lib/docker/tmp")
    done = lab.inv("bundle.load", str(disk), "--inventory", str(closed), check=False)
    lab.ssh(HOST, "sudo umount /var/lib/docker/tmp")
    assert done.returncode == 2, done.stdout
    assert f"image {image['name']} was not loaded" in done.stdout
    assert "no space left on device" in done.stdout
    assert not lab.ssh(HOST, "sudo find /var/lib/ollama-fleet-bundle -name '*.tar'")
    again = lab.inv("bundle.load", str(disk), "--inventory", str(closed), check=False)
    assert again.returncode == 0, again.stdout
    assert image["name"].rpartition(":")[2] in lab.ssh(HOST, "sudo docker image ls")
