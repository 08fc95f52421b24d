"""What a lab could leave behind on this machine: processes, network interfaces, mounts, firewall rules, files."""

import subprocess
from pathlib import Path


def of_this_machine(root: Path) -> dict[str, set[str]]:
    """Return what is there now, by kind; two of them are compared to see what was left behind."""
    return {
        "processes": set(_processes(root)),
        "interfaces": {path.name for path in Path("/sys/class/net").iterdir()},
        "mounts": {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()},
        "firewall rules": set(_firewall_rules()),
        "files": set(_files(root)),
    }


def left_behind(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return what is there after and was not before; kinds without any are left out."""
    return {kind: new for kind, things in after.items() if (new := things - before[kind])}


def _processes(root: Path) -> list[str]:
    """Programs of a container engine, and whatever names the project's folder as the lab's own (.lab)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has ended since
        program = Path(words[0]).name
        if program in {"dockerd", "containerd", "docker-proxy"} or program.startswith("containerd-shim"):
            found.append(f"{folder.name} {program}")
        elif any(str(root / ".lab") in word for word in words):
            found.append(f"{folder.name} {' '.join(words)}")
    return found


def _firewall_rules() -> list[str]:
    """Rules and chains as iptables lists them; a machine without iptables has none."""
    rules = []
    for table in ("filter", "nat"):
        try:
            result = subprocess.run(["iptables", "-t", table, "-S"], check=False, capture_output=True, text=True)
        except FileNotFoundError:
            return []
        rules += [f"{table} {line}" for line in result.stdout.splitlines() if not line.startswith("-P")]
    return rules


def _files(root: Path) -> list[str]:
    places = [root / ".lab", root / "inventory" / "lab", *Path("/run").glob("ollama-fleet-lab-*")]
    return [str(place) for place in places if place.exists()]
