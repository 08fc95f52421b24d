# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Which ports of a host are open to others, which of them should be, and who opened the rest. TCP only."""

from __future__ import annotations

import ipaddress

# Tried from outside although nothing was seen to listen: what must not answer on any host of a fleet.
NEVER = {11434: "Ollama's API", 2375: "Docker's API"}
BYPASS = "published by Docker, which a firewall of ufw does not keep back"


def is_loopback(address):
    """Whether only the host itself reaches this address. Docker writes no address for all of them."""
    if not address:
        return False
    ip = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback


def listening(ports, containers):
    """Return {port: {addresses, holder, container}} of all that listens on a host, loopback or not.

    ports:      host_info's: [{address, port, process}]
    containers: host_info's: [{name, state, ports: [{address, port}]}]. Docker can hand a port on without any process
                that listens (userland-proxy off), so both have to be looked at.
    """
    found = {}

    def entry(port):
        return found.setdefault(port, {"addresses": [], "holder": None, "container": None})

    for item in ports:
        one = entry(item["port"])
        one["addresses"].append(item["address"])
        one["holder"] = one["holder"] or item["process"]
    for container in containers:
        if container["state"] != "running":
            continue
        for published in container["ports"]:
            one = entry(published["port"])
            one["addresses"].append(published["address"] or "0.0.0.0")  # noqa: S104 - what Docker means by it
            one["container"] = container["name"]
    for one in found.values():
        one["addresses"] = sorted(set(one["addresses"]))
    return found


def to_try(ports, containers):
    """Return the ports to knock at from outside: all that listen, those on loopback too, and those that never may."""
    return sorted({*listening(ports, containers), *NEVER})


def findings(ports, containers, allowed, answers):
    """Return what is open and should not be, each {port, reached_from, words}, in the order of ports.

    allowed: {port: what it is}
    answers: {where it was knocked from: [ports that answered]}
    """
    seen = listening(ports, containers)
    allowed = {int(port) for port in allowed}
    reached = {}
    for where, open_ports in sorted(answers.items()):
        for port in open_ports:
            reached.setdefault(int(port), []).append(where)
    result = []
    for port in sorted({*seen, *reached} - allowed):
        one = seen.get(port, {"addresses": [], "holder": None, "container": None})
        beyond = [address for address in one["addresses"] if not is_loopback(address)]
        places = reached.get(port, [])
        if beyond or places:
            result.append({"port": port, "reached_from": places, "words": words(port, one, beyond, places)})
    return result


def words(port, one, beyond, places):
    """Return a finding as a clause: what it is, who opened it, where it listens and who got an answer."""
    name = f"port {port}" + (f" ({NEVER[port]})" if port in NEVER else "")
    if one["container"]:
        who = f"container {one['container']}, {BYPASS}"
    elif one["holder"]:
        who = f"process {one['holder']}"
    elif one["addresses"]:
        who = "a process that could not be seen"
    else:
        who = "nothing that could be seen: a rule of the firewall may hand it on"
    where = f"on {', '.join(beyond)}" if beyond else "on loopback alone" if one["addresses"] else "nowhere"
    got = f"answers {' and '.join(places)}" if places else "answered nobody who knocked"
    return f"{name}: {who}, listens {where}, {got}"
