# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Say which roles a host needs, and why
description:
  - Observes the host with M(ollama_fleet.stack.host_info) and compares what it finds with what the inventory asks for.
  - A role is needed when it was never applied, when its last run did not reach its end, when a variable in its
    namespace or one of its own files changed since, or when something that it manages is no longer as the role left it.
  - A variable belongs to the role with the longest name that starts it, so C(ollama_models_list) belongs to
    C(ollama_models) and not to C(ollama). C(ollama_fleet_) belongs to no role.
  - Roles that a run's tags name are needed as well, as a person asked for them.
  - For C(nvidia_driver) and C(nvidia_container_toolkit) the decision about this host is part of the plan, with its
    notes and refusals. Such a role is also needed when its decision waits for something, whatever its record says.
  - The exact driver version comes from the lock file. Where nothing is locked and a driver is to be installed, the
    host is asked for the versions that its repositories have; a host that needs no change is asked nothing more.
  - Nothing changes.
options:
  roles:
    description: The roles that the host shall have, in order.
    type: list
    elements: str
    required: true
  full:
    description: Need every role, whatever the records say.
    type: bool
    default: false
  state_dir:
    description: Folder of the records on the host.
    type: path
    default: /var/lib/ollama-fleet
  folder:
    description: Folder on the controller that gets the plan as C(HOST.json), for the program that asked for it.
    type: path
attributes:
  action:
    description: Runs on the controller, and one module on the host; a second where an exact version has to be found.
    support: full
  check_mode:
    description: Plans in check mode as well.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  platform:
    description: Linux.
    platforms: linux
    support: full
author:
  - The ollama-fleet authors
"""

EXAMPLES = r"""
- name: Plan what the host needs
  ollama_fleet.stack.plan:
    roles: [docker, ollama]
  register: __plan
"""

RETURN = r"""
steps:
  description: For each role, in order, what the plan says of it.
  returned: always
  type: list
  elements: dict
  contains:
    role:
      description: The role's name.
      type: str
    needed:
      description: Whether it would run.
      type: bool
    reason:
      description: Why, in words.
      type: str
    notes:
      description: What would be decided, as topic, choice and reason. Of the roles that decide.
      type: list
      elements: dict
    refusal:
      description: Why it cannot be done, as rule, cards and remedy; null otherwise.
      type: dict
  sample:
    - {role: docker, needed: true, reason: /etc/docker/daemon.json was changed by hand, notes: [], refusal: null}
host:
  description: The host in words, as system, architecture, kernel and cards.
  returned: always
  type: dict
  sample: {system: Ubuntu 24.04.1 LTS, architecture: x86_64, kernel: 6.8.0-45-generic, cards: 2 x Hopper 10de:2335}
needed:
  description: The roles that are needed, in order.
  returned: always
  type: list
  elements: str
ansible_facts:
  description: As M(ollama_fleet.stack.host_info) returns it.
  returned: always
  type: dict
"""
