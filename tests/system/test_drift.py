"""What the plan trusts is checked on the host every time: each managed thing is damaged, and the plan names exactly it.

What there is to damage comes from the records themselves, so that nothing that a role manages is forgotten. Things of
one kind are damaged in different ways, one way after the other, over all hosts at once: one plan, one run that repairs.
"""

import json
import shlex
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.system.conftest import Session

# Two GPU servers have the same roles, so that what would hide other damage on one is done on the other.
SERVING, STOPPED, WEB = "gpu2", "gpu1", "web1"
HOSTS = f"{SERVING},{STOPPED},{WEB}"
READ_RECORDS = "sudo python3 -c \"import glob, json; print(json.dumps([json.load(open(path)) for path in sorted(glob.glob('/var/lib/ollama-fleet/*.json'))]))\""  # noqa: E501
# What the roles for GPUs say beside that of every host of the lab, when they have to run.
DECIDED = {"no NVIDIA GPU on the PCI bus", "no NVIDIA GPU"}
STATUS = "/var/lib/dpkg/status"


@dataclass(frozen=True)
class Damage:
    """One managed thing, how it is damaged, what the plan must say, and what the test itself puts back, if anything."""

    command: str
    sentences: tuple[str, ...]
    undo: str = ""


@dataclass(frozen=True, eq=False)
class Thing:
    """One managed thing of a role, as its record has it. `turn` counts the things of its kind over all hosts."""

    host: str
    role: str
    kind: str
    name: str
    was: Any
    turn: int


def of_file(thing: Thing) -> Damage:
    path, was = thing.name, thing.was
    quoted = shlex.quote(path)
    ways = [
        Damage(f"echo | sudo tee -a {quoted}", (f"{path} was changed by hand",)),
        Damage(f"sudo chmod 0604 {quoted}", (f"the mode of {path} is 0604, was {was['mode']}",)),
        Damage(f"sudo chown daemon {quoted}", (f"the owner of {path} is daemon, was {was['owner']}",)),
        Damage(f"sudo rm {quoted}", (f"{path} was removed",)),
    ]
    # Of this one our own options are put back; what a person adds stays.
    if path == "/etc/docker/daemon.json" and thing.turn % len(ways) == 0:
        return Damage(f"sudo sed -i /registry.lab/d {path}", (f"{path} was changed by hand",))
    # Its new image is put into it below: that is the hand's change.
    if thing.host == SERVING and path.endswith("ollama/compose.yaml"):
        return Damage("true", (f"{path} was changed by hand",))
    # Compose starts nothing without it.
    if thing.host == SERVING and path.endswith("ollama.env"):
        return ways[1]
    return ways[thing.turn % len(ways)]


def of_package(thing: Thing) -> Damage:
    """A true removal where nothing depends on the package; else what dpkg's database says after one or a downgrade."""
    name, was = thing.name, thing.was
    if name == "apparmor" and thing.host == SERVING:
        return Damage("sudo dpkg --remove --force-depends apparmor", (f"package {name} is not installed",))
    ways = (
        ("s/^Version: .*/Version: 0.1-1/", f"package {name} is 0.1-1, was {was}"),
        ("s/^Status: .*/Status: deinstall ok config-files/", f"package {name} is not installed"),
    )
    edit, sentence = ways[thing.turn % len(ways)]
    backwards = {
        "s/^Version: .*/Version: 0.1-1/": f"s/^Version: .*/Version: {was}/",
        "s/^Status: .*/Status: deinstall ok config-files/": "s/^Status: .*/Status: install ok installed/",
    }
    return Damage(in_status(name, edit), (sentence,), in_status(name, backwards[edit]))


def in_status(package: str, edit: str) -> str:
    return f"sudo sed -i {shlex.quote(f'/^Package: {package}$/,/^$/ {edit}')} {STATUS}"


def of_hold(thing: Thing) -> Damage:
    sentence = f"package {thing.name} is no longer held at its version"
    return Damage(f"sudo apt-mark unhold {thing.name}", (sentence,))


def of_service(thing: Thing) -> Damage:
    unit = thing.name
    if unit == "docker" and thing.host == WEB:
        return Damage("sudo systemctl stop docker.socket docker.service", ("service docker is not running",))
    # Stopped, Docker would hide its containers.
    if unit != "docker" and thing.turn % 2 == 0:
        return Damage(f"sudo systemctl stop {unit}", (f"service {unit} is not running",))
    sentence = f"service {unit} is disabled at boot, was {thing.was['enabled']}"
    return Damage(f"sudo systemctl disable --quiet {unit}", (sentence,))


def of_members(thing: Thing) -> Damage:
    sentences = tuple(f"user {user} is not in group {thing.name}" for user in thing.was)
    return Damage(" && ".join(f"sudo gpasswd -d {user} {thing.name}" for user in thing.was), sentences)


OTHER_IMAGE = (
    "sudo docker commit ollama drift:other >/dev/null"
    " && sudo sed -i 's#^    image: .*#    image: drift:other#' /opt/ollama-fleet/ollama/compose.yaml"
    " && sudo docker compose --progress quiet --project-directory /opt/ollama-fleet/ollama up --detach"
    " && sudo docker inspect --format '{{.Image}}' ollama"
)


def of_container(thing: Thing) -> Damage:
    name = thing.name
    if thing.host == SERVING:
        was = thing.was["image_id"].removeprefix("sha256:")[:12]
        return Damage(
            OTHER_IMAGE,
            (
                f"container {name} runs another image: NEW, was {was}",
                f"container {name} was recreated with other settings",
            ),
        )
    if thing.host == WEB:
        return Damage("true", (f"container {name}: Docker does not answer",))
    return Damage(f"sudo docker stop -t 2 {name}", (f"container {name} is exited, not running",))


DELETE = """python3 -c '
import time
from urllib.request import Request, urlopen
for attempt in range(100):
    try:
        urlopen(Request("URL/api/delete", data=b"{\\"model\\": \\"NAME\\"}", method="DELETE"))
        break
    except OSError:
        time.sleep(0.2)
'"""


def of_model(thing: Thing) -> Damage:
    if thing.host == STOPPED:
        return Damage("true", (f"Ollama at {thing.was['base_url']} does not answer",))
    command = DELETE.replace("URL", thing.was["base_url"]).replace("NAME", thing.name)
    return Damage(command, (f"model {thing.name} is not there",))


def of_fact(thing: Thing) -> Damage:
    """The machine cannot be changed, so the record is: the same as if the machine had changed since."""
    other = ["ampere 2330 at 0000:01:00.0"] if isinstance(thing.was, list) else "another"
    path = f"/var/lib/ollama-fleet/{thing.role}.json"
    program = (
        f"import json; r = json.load(open('{path}')); r['manages']['facts']['{thing.name}'] = {other!r};"
        f" json.dump(r, open('{path}', 'w'))"
    )
    now = (", ".join(thing.was) or "none") if isinstance(thing.was, list) else thing.was
    before = other[0] if isinstance(other, list) else other
    return Damage(f'sudo python3 -c "{program}"', (f"{thing.name} changed: {now}, was {before}",))


DAMAGES: Mapping[str, Callable[[Thing], Damage]] = {
    # In this order: a new image before models are deleted from its server, and everything before Docker stops.
    "files": of_file,
    "containers": of_container,
    "models": of_model,
    "facts": of_fact,
    "members": of_members,
    "holds": of_hold,
    "packages": of_package,
    "services": of_service,
}


def things(lab: Session) -> list[Thing]:
    """All that the records of the hosts say is managed."""
    found = []
    turns: dict[str, int] = {}
    for host in HOSTS.split(","):
        for record in json.loads(lab.ssh(host, READ_RECORDS)):
            for kind, items in record["manages"].items():
                for name, was in sorted(items.items()):
                    turns[kind] = turns.get(kind, -1) + 1
                    found.append(Thing(host, record["role"], kind, name, was, turns[kind]))
    order = list(DAMAGES)
    return sorted(found, key=lambda thing: order.index(thing.kind))


def damage(lab: Session, host: str, damages: list[Damage]) -> str:
    """Do all damage to a host; return the id of the image that its container then runs, where that is another one."""
    commands = [item.command for item in damages if item.command != "true"]
    output = lab.ssh(host, " && ".join(commands))
    images = [line for line in output.splitlines() if line.startswith("sha256:")]
    return images[0].removeprefix("sha256:")[:12] if images else ""


def reasons(lab: Session) -> dict[tuple[str, str], set[str]]:
    """What the plan says of each host and role that is needed."""
    plan = lab.inv("plan", "--json", "--limit", HOSTS, check=False)
    assert plan.returncode in {0, 2}, plan.stdout
    return {
        (host["host"], step["role"]): set(step["reason"].split("; ")) - DECIDED
        for host in json.loads(plan.stdout)["hosts"]
        for step in host["steps"]
        if step["needed"]
    }


def test_each_managed_thing_that_is_damaged_is_named_and_one_run_repairs_all(lab: Session) -> None:
    done = {thing: DAMAGES[thing.kind](thing) for thing in things(lab)}
    assert {thing.kind for thing in done} >= {"files", "packages", "services", "containers", "models", "facts"}
    by_host = {host: [item for thing, item in done.items() if thing.host == host] for host in HOSTS.split(",")}
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda item: damage(lab, *item), by_host.items()))
    expected: dict[tuple[str, str], set[str]] = {}
    for thing, item in done.items():
        sentences = {sentence.replace("NEW", "".join(images)) for sentence in item.sentences}
        expected.setdefault((thing.host, thing.role), set()).update(sentences)
    try:
        named = reasons(lab)
    finally:
        for host, items in by_host.items():
            if undo := [item.undo for item in items if item.undo]:
                lab.ssh(host, " && ".join(undo))

    assert named == expected
    before = {(thing.host, thing.role, thing.kind, thing.name): thing.was for thing in done}
    repaired = lab.inv("up", "--limit", HOSTS, check=False)
    assert repaired.returncode == 0, repaired.stdout
    assert reasons(lab) == {}
    after = {(thing.host, thing.role, thing.kind, thing.name): thing.was for thing in things(lab)}
    # As it was, not only written down as it is now.
    assert after == before
    lab.ssh(SERVING, "sudo docker image rm drift:other", check=False)
