#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_lock
short_description: Decide a host's NVIDIA driver in exact versions, and lock them for its platform
description:
  - Takes what M(ollama_fleet.stack.host_info) found out about a host and what its inventory asks for, and decides
    which driver it gets.
  - Which exact versions these are is kept in a lock file, one entry for each platform (distribution, architecture,
    source, kernel modules), so that all hosts of a platform run the same driver, also when one of them is installed
    next year. The name of a branch is never enough.
  - Where a version has to be chosen, or may be gone, M(ollama_fleet.stack.package_versions) asks the host's
    repositories.
  - Many hosts may do this at once; the lock file is always whole, and the first host of a platform chooses.
options:
  mode:
    description:
      - V(look) decides with the lock as it is. Nothing is asked and nothing is written.
      - V(apply) adds what is not locked yet. A version that is locked stays, and must still be there if it has to be
        installed.
      - V(upgrade) moves the lock to O(to), or to the newest version of the branch that all packages have.
      - V(rollback) moves it to the version before, if this is still there.
      - V(unlock) lets the version go. V(rollback) leads back to it; V(apply) locks what is on the host by then.
    type: str
    choices: [look, apply, upgrade, rollback, unlock]
    default: apply
  wants:
    description: What the inventory asks for; branch, version, flavor, source, reboot_enabled.
    type: dict
    required: true
  lock_file:
    description: Path of the lock file on the controller.
    type: path
    required: true
  repository_url:
    description: Repository to ask when the host has it not yet. Empty for the host's own.
    type: str
    default: ""
  to:
    description: The exact version to go to in mode V(upgrade).
    type: str
    default: ""
attributes:
  action:
    description: Runs on the controller, and at most one module on the host.
    support: full
  check_mode:
    description: The lock file is not written. RV(lock_file) is then a temporary one with what would be in it.
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
- name: Observe the host
  ollama_fleet.stack.host_info:

- name: Decide in exact versions
  ollama_fleet.stack.nvidia_driver_lock:
    wants: {branch: 580, version: "", flavor: auto, source: auto, reboot_enabled: false}
    lock_file: "{{ inventory_dir }}/driver.lock.yml"
  register: __lock
"""

RETURN = r"""
decision:
  description: >-
    action, reasons, notes, flavor, branch, version, platform, source, repository, packages (exact versions by name),
    extra, services, block_nouveau, initramfs, reboot, stop, refusal.
  returned: success
  type: dict
lock_file:
  description: Where the lock is. In check mode, where it would be changed, a temporary file with what it would be.
  returned: success
  type: str
says:
  description: What was done to the lock, in words; empty where there is nothing to say.
  returned: success
  type: str
"""
