"""Takes back what a Docker engine leaves in this machine's network settings when it ends."""

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from lab.system import privileged, run

_IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_TABLES = ("filter", "nat", "raw", "mangle")


def ip_forward() -> str:
    """Whether this machine forwards packets: "0" or "1"."""
    return _IP_FORWARD.read_text().strip()


def forward_policy() -> str:
    """What happens to forwarded packets that no rule names: "ACCEPT" or "DROP"."""
    rules = _rules("iptables", "filter")
    return next((rule.split()[2] for rule in rules if rule.startswith("-P FORWARD ")), "ACCEPT")


def other_engines(own_pid: int | None = None) -> list[int]:
    """Process ids of the Docker engines in this network namespace, ours apart: they share chains with ours."""
    result = []
    here = Path("/proc/self/ns/net").readlink()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == own_pid:
            continue
        try:
            if (process / "comm").read_text().strip() == "dockerd" and (process / "ns/net").readlink() == here:
                result.append(int(process.name))
        except OSError:
            # It ended meanwhile, or belongs to somebody whose processes we may not see.
            continue
    return sorted(result)


def remove_rules_of(interface: str) -> None:
    """Remove every rule that names this network interface."""
    _apply(lambda rules: rules_of(interface, rules))


def remove_docker() -> None:
    """Remove Docker's chains and the rules that lead to them. To be called when no engine runs any more."""
    _apply(docker_rules)


def restore(forward: str, policy: str) -> None:
    """Put forwarding back as it was. forward: see `ip_forward`; policy: see `forward_policy`."""
    if policy != forward_policy():
        run(privileged([_path("iptables"), "-P", "FORWARD", policy]))
    if forward != ip_forward():
        run(privileged(["tee", str(_IP_FORWARD)]), stdin=forward.encode())


def rules_of(interface: str, rules: list[str]) -> list[list[str]]:
    """The iptables arguments that take the interface's rules out of RULES (lines of `iptables -S`)."""
    parsed = map(shlex.split, rules)
    return [["-D", *rule[1:]] for rule in parsed if rule[0] == "-A" and interface in rule]


def docker_rules(rules: list[str]) -> list[list[str]]:
    """The iptables arguments that take Docker's part out of RULES (lines of `iptables -S`)."""
    parsed = [shlex.split(rule) for rule in rules]
    jumps, chains = [], []
    for rule in parsed:
        if rule[0] == "-A" and not _docker(rule[1]) and "-j" in rule and _docker(rule[rule.index("-j") + 1]):
            jumps.append(["-D", *rule[1:]])
        elif rule[0] == "-N" and _docker(rule[1]):
            chains.append(rule[1])
    return jumps + [["-F", chain] for chain in chains] + [["-X", chain] for chain in chains]


def _apply(undo: Callable[[list[str]], list[list[str]]]) -> None:
    for program in filter(_path, ("iptables", "ip6tables")):
        for table in _TABLES:
            for arguments in undo(_rules(program, table)):
                run(privileged([_path(program), "-t", table, *arguments]))


def _docker(chain: str) -> bool:
    return chain == "DOCKER" or chain.startswith("DOCKER-")


def _rules(program: str, table: str) -> list[str]:
    path = _path(program)
    return run(privileged([path, "-t", table, "-S"])).splitlines() if path else []


def _path(program: str) -> str:
    # A person's PATH often lacks the folders of the administrator's programs.
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""
