# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: validate
short_description: Find everything that is wrong with the inventory, before any host is touched
description:
  - Looks at the variables of all hosts of the play, on the controller, and connects to none of them. Meant to run once,
    as the first task.
  - Every problem is reported at once, with the host or group, the variable, the file and line where that is known, and
    the remedy.
  - A variable in a role's namespace that no role takes is a problem. The role with the longest name that starts a
    variable is its role.
  - Types, choices and required variables are judged by the roles' argument specs, for the roles that a host gets by its
    groups. Text that only looks like a bool or a list is a problem, since a role would be given it as text.
  - Model names, image names without a version, ports out of range, hosts with the same address and models listed twice
    are problems.
  - A value is shown as it is written, never as rendered. Values of variables with C(no_log) in their spec, or with a
    name that ends in C(_secret), C(_password), C(_token) or C(_key), are not shown.
  - A template that waits for C(ansible_facts) is left for the host to judge.
options:
  stack:
    description: The roles that the hosts of a group get, by group.
    type: dict
    required: true
attributes:
  action:
    description: Runs on the controller alone.
    support: full
  check_mode:
    description: Validates in check mode as well.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  platform:
    description: All.
    platforms: all
    support: full
author:
  - The ollama-fleet authors
"""

EXAMPLES = r"""
- name: Validate the inventory
  ollama_fleet.stack.validate:
    stack:
      gpu_servers: [docker, ollama]
      web_servers: [docker, open_webui]
  run_once: true
"""

RETURN = r"""
hosts:
  description: How many hosts were looked at.
  returned: always
  type: int
msg:
  description: What is wrong, one line for each problem.
  returned: failure
  type: str
  sample: |-
    1 problem in the inventory. No host was touched.
      gpu1: ollama_prot = 11434 in hosts.yml:3 is no variable of the role ollama. Remedy: did you mean ollama_port?
"""
