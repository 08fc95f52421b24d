#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Knocks at TCP ports of another machine and says which answer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: port_probe
short_description: Say which TCP ports of a machine answer from here
version_added: "0.3.0"
author: The ollama-fleet authors
description:
  - Opens a TCP connection to each port and closes it again. Nothing is sent.
  - Runs on the machine from which the ports are tried, so it is mostly delegated.
options:
  address:
    description: The machine whose ports are tried.
    type: str
    required: true
  ports:
    description: The ports.
    type: list
    elements: int
    required: true
  timeout:
    description: Seconds to wait for an answer of each port. All are tried at the same time.
    type: float
    default: 3
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: none
    description: There is nothing to show.
"""

EXAMPLES = r"""
- name: Knock from the controller
  ollama_fleet.stack.port_probe:
    address: 192.0.2.11
    ports: [22, 11434]
  delegate_to: localhost
"""

RETURN = r"""
open:
  description: The ports that took a connection, in order.
  type: list
  elements: int
  returned: success
  sample: [22]
"""

import socket
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule

AT_ONCE = 64


def answers(address: str, port: int, timeout: float) -> bool:
    """Whether a connection to the port is taken."""
    try:
        with socket.create_connection((address, port), timeout):
            return True
    except OSError:
        return False


def probe(address: str, ports: list[int], timeout: float) -> list[int]:
    """Return the ports that take a connection, in order."""
    ports = sorted(set(ports))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        taken = pool.map(lambda port: answers(address, port, timeout), ports)
        return [port for port, yes in zip(ports, taken, strict=True) if yes]


def main() -> None:
    module = AnsibleModule(
        {
            "address": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "int", "required": True},
            "timeout": {"type": "float", "default": 3},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    try:
        socket.getaddrinfo(parameters["address"], None)
    except OSError as error:
        # Without an address nothing answers, which would read as all being closed.
        module.fail_json(msg=f"{parameters['address']} has no address here: {error}")
    module.exit_json(changed=False, open=probe(parameters["address"], parameters["ports"], parameters["timeout"]))


if __name__ == "__main__":
    main()
