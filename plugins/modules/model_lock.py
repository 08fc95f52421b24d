#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_lock
short_description: Keep what an environment's models are made of, and say what is not so on a host
description:
  - Compares the layers of a host's models, and those that their registries have now, with the environment's lock file.
  - Many hosts may do this at once; the lock file is always whole, and the first host that has a model locks it.
  - Models that are made on the host (aliases, prompts, files) are not locked.
options:
  models:
    description: The models as the filter C(ollama_fleet.stack.wanted_models) returns them.
    type: list
    elements: dict
    required: true
  models_dir:
    description: The server's model store, as the host sees it.
    type: path
    required: true
  lock_file:
    description: Path of the lock file on the controller.
    type: path
    required: true
  mode:
    description:
      - V(look) compares and changes nothing.
      - V(lock) adds what is not locked yet, as the host has it, else as the registry does. What is locked stays.
      - V(update) locks what the registries have now.
      - V(verify) fails where the host has something else than what is locked, and asks no registry.
    type: str
    choices: [look, lock, update, verify]
    default: look
  names:
    description: In mode V(update), the models to update; all when empty.
    type: list
    elements: str
    default: []
  ca_file:
    description: File on the host with the certificate of the CA that signs the registries'.
    type: path
  folder:
    description: Folder on the controller that gets the findings as C(HOST.json), for the program that asked for them.
    type: path
attributes:
  action:
    description: Runs on the controller, and one module on the host.
    support: full
  check_mode:
    description: The lock file is not written.
    support: full
  diff_mode:
    description: Shows the lock file.
    support: full
  platform:
    description: Linux.
    platforms: linux
    support: full
author:
  - The ollama-fleet authors
"""

EXAMPLES = r"""
- name: Lock what the hosts have
  ollama_fleet.stack.model_lock:
    models: "{{ [{'name': 'llama3.2:3b'}] | ollama_fleet.stack.wanted_models }}"
    models_dir: /var/lib/ollama/models
    lock_file: "{{ inventory_dir }}/ollama_models_lock.yml"
    mode: lock
"""

RETURN = r"""
findings:
  description: >-
    What is not as it is locked; model, kind (unlocked, drift, update, unread) and text of each.
  returned: success
  type: list
  elements: dict
lock_file:
  description: Where the lock is.
  returned: success
  type: str
"""
