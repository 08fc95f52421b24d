#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_fit
short_description: Say whether a host's models fit, before anything is pulled
description:
  - Asks the host with M(ollama_fleet.stack.model_needs) what its models are made of, and compares what they need with
    what M(ollama_fleet.stack.host_info) found there; GPUs, RAM, disk. docs/models.md has the formulas.
  - Files of the controller are read on the controller.
  - What could not be read is told and not refused.
options:
  models:
    description: The models as the filter C(ollama_fleet.stack.wanted_models) returns them.
    type: list
    elements: dict
    required: true
  server:
    description: What the need depends on; the variable C(ollama_models_server) of the role C(ollama_models).
    type: dict
    required: true
  fit:
    description:
      - V(gpu) wants each model wholly on the GPUs where the host has some for it, else in RAM.
      - V(memory) lets layers lie in RAM.
      - V(disk) looks at the disk alone.
    type: str
    choices: [gpu, memory, disk]
    default: gpu
  models_dir:
    description: The server's model store, as the host sees it.
    type: path
    required: true
  disk_reserve:
    description: Bytes that must stay free on its disk.
    type: int
    default: 0
  memory_reserve:
    description: Bytes of RAM that are not for models.
    type: int
    default: 0
  ca_file:
    description: File on the host with the certificate of the CA that signs the registries'.
    type: path
  lock_file:
    description:
      - Path of the models' lock file on the controller. With it, a model whose registry has other layers than the lock
        is refused.
    type: path
  refuse:
    description: Fail when something does not fit, or is not what is locked.
    type: bool
    default: true
  folder:
    description: Folder on the controller that gets the verdicts as C(HOST.json), for the program that asked for them.
    type: path
attributes:
  action:
    description: Runs on the controller, and one module on the host.
    support: full
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
  platform:
    description: Linux.
    platforms: linux
    support: full
author:
  - The ollama-fleet authors
"""

EXAMPLES = r"""
- name: Observe the host
  ollama_fleet.stack.host_info:

- name: Refuse what does not fit
  ollama_fleet.stack.model_fit:
    models: "{{ [{'name': 'llama3.2:3b'}] | ollama_fleet.stack.wanted_models }}"
    server: "{{ ollama_models_server }}"
    models_dir: /var/lib/ollama/models
"""

RETURN = r"""
fit:
  description: >-
    fits; models (name, verdict, fits, why, need, layers_on_gpu, size, quantisation, notes, would_fit, instead);
    together (asked, can, fits, why) of those that are loaded at once; disk (free, to_pull); usable (gpus, ram), all in
    bytes. docs/models.md describes each.
  returned: when the host could be asked
  type: dict
restore:
  description: Names of models that the host has otherwise than locked, and the registry as locked.
  returned: when the host could be asked
  type: list
  elements: str
reason:
  description: What does not fit, and why.
  returned: on refusal
  type: str
remedy:
  description: What would fit.
  returned: on refusal
  type: str
"""
