#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Writes down what a role applied, so that the next run can tell whether it has anything to do."""

from __future__ import annotations

DOCUMENTATION = r"""
module: record
short_description: Record what a role applied and manages
description:
  - Every role calls it twice. With O(state=begun) before its first change, which makes an older record incomplete, and
    with O(state=done) as its last task, after handlers and verification.
  - O(state=done) observes each managed thing and writes C(STATE_DIR/ROLE.json), for root only. It fails when a thing
    that the role says it manages is not there.
  - What the role was given is recorded as one SHA-256 for each variable in its namespace, computed on the controller.
    No value leaves it.
  - M(ollama_fleet.stack.host_info) compares each record with the host, and M(ollama_fleet.stack.plan)
    with the inventory.
options:
  role:
    description: Name of the role.
    type: str
    required: true
  state:
    description: Whether the role begins or has reached its end.
    type: str
    choices: [begun, done]
    required: true
  manages:
    description: What the role put on the host. Omit what there is none of.
    type: dict
    default: {}
    suboptions:
      files:
        description: Paths, checked by content, mode and owner.
        type: list
        elements: path
        default: []
      links:
        description: Paths of symbolic links, checked by where they lead.
        type: list
        elements: path
        default: []
      packages:
        description: Names, checked by version.
        type: list
        elements: str
        default: []
      holds:
        description: Names of packages that must be held at their version (dpkg's hold, dnf's versionlock).
        type: list
        elements: str
        default: []
      members:
        description: Users who must be in a group, by group.
        type: dict
        default: {}
      services:
        description: Units of systemd, checked by whether they run and start at boot.
        type: list
        elements: str
        default: []
      containers:
        description: Names, checked by state, health, image and Compose settings.
        type: list
        elements: str
        default: []
      models:
        description: Models, checked by digest.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name with tag, as Ollama lists it.
            type: str
            required: true
          digest:
            description: The digest it must have. Left out, the digest that is there is recorded.
            type: str
          base_url:
            description: Where the Ollama answers, as seen from the host.
            type: str
            default: http://127.0.0.1:11434
      stores:
        description: Folders of model stores, checked by the sizes of their blobs. What others add is no matter.
        type: list
        elements: path
        default: []
      facts:
        description: Parts of the machine that the role's decisions rest on.
        type: list
        elements: str
        choices: [gpus, nvswitches, driver, kernel]
        default: []
  keep:
    description: >-
      Anything that the role wants to find again as C(ansible_facts['ollama_fleet'].records[ROLE].keep). With
      O(state=begun) it is added to what is kept already, so that a run that is cut can be taken up; with O(state=done)
      it is all that is kept.
    type: dict
    default: {}
  state_dir:
    description: Folder of the records.
    type: path
    default: /var/lib/ollama-fleet
  inputs:
    description: Set by the action plugin of the same name.
    type: dict
    default: {}
  role_digest:
    description: Set by the action plugin of the same name.
    type: str
    default: ""
attributes:
  check_mode:
    description: Says whether the record would change. Managed things are not looked for, as nothing made them.
    support: full
  diff_mode:
    description: Shows the record.
    support: full
  platform:
    description: Linux.
    platforms: linux
    support: full
author:
  - The ollama-fleet authors
"""

EXAMPLES = r"""
- name: Preflight | Mark the role as begun
  ollama_fleet.stack.record:
    role: docker
    state: begun

- name: Record what this role manages
  ollama_fleet.stack.record:
    role: docker
    state: done
    manages:
      files: [/etc/docker/daemon.json]
      packages: [docker.io]
      services: [docker]
"""

RETURN = r"""
record:
  description: What was written.
  returned: when state is done and not in check mode
  type: dict
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils import managed, observe

FORMAT = 1
MODEL = {
    "name": {"type": "str", "required": True},
    "digest": {"type": "str"},
    "base_url": {"type": "str", "default": "http://127.0.0.1:11434"},
}
MANAGES = {
    "files": {"type": "list", "elements": "path", "default": []},
    "links": {"type": "list", "elements": "path", "default": []},
    "packages": {"type": "list", "elements": "str", "default": []},
    "holds": {"type": "list", "elements": "str", "default": []},
    "members": {"type": "dict", "default": {}},
    "services": {"type": "list", "elements": "str", "default": []},
    "containers": {"type": "list", "elements": "str", "default": []},
    "models": {"type": "list", "elements": "dict", "options": MODEL, "default": []},
    "stores": {"type": "list", "elements": "path", "default": []},
    "facts": {"type": "list", "elements": "str", "choices": ["gpus", "nvswitches", "driver", "kernel"], "default": []},
}
ARGUMENTS = {
    "role": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["begun", "done"], "required": True},
    "manages": {"type": "dict", "options": MANAGES, "default": {}},
    "keep": {"type": "dict", "default": {}},
    "state_dir": {"type": "path", "default": "/var/lib/ollama-fleet"},
    "inputs": {"type": "dict", "default": {}},
    "role_digest": {"type": "str", "default": ""},
}


def text_of(record):
    return json.dumps(record, indent=2, sort_keys=True) + "\n"


def without_state(record):
    return {key: value for key, value in (record or {}).items() if key != "complete"}


def write(module, path, record):
    """Replace the record as a whole, readable by root only from its first byte."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    temporary = os.path.join(module.tmpdir, os.path.basename(path))
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text_of(record))
    module.atomic_move(temporary, path)
    os.chmod(path, 0o600)


def begin(module, host, path):
    before = host.record(module.params["role"]) or {"format": FORMAT, "role": module.params["role"]}
    if not module.check_mode:
        keep = {**before.get("keep", {}), **module.params["keep"]}
        write(module, path, dict(before, complete=False, keep=keep))
    # Only a note that a run is under way: the host's own state is as it was.
    module.exit_json(changed=False)


def finish(module, host, path):
    params = module.params
    before = host.record(params["role"])
    record = {"format": FORMAT, "role": params["role"], "complete": True}
    record.update({key: params[key] for key in ("inputs", "role_digest", "keep")})
    if module.check_mode:
        same = all((before or {}).get(key) == record[key] for key in ("inputs", "role_digest"))
        module.exit_json(changed=not same)
    record["manages"], missing = managed.snapshot(params["manages"] or {}, host)
    if missing:
        why = "; ".join(missing)
        module.fail_json(msg=f"role {params['role']} has run, and yet: {why}. Its tasks say more when run with -v.")
    changed = without_state(before) != without_state(record)
    if before != record:
        write(module, path, record)
    diff = {"before": text_of(before) if changed and before else "", "after": text_of(record) if changed else ""}
    module.exit_json(changed=changed, record=record, diff=dict(diff, before_header=path, after_header=path))


def main():
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    host = observe.Host(state_dir=module.params["state_dir"])
    path = f"{module.params['state_dir']}/{module.params['role']}.json"
    try:
        (begin if module.params["state"] == "begun" else finish)(module, host, path)
    except observe.UnreadableRecordError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
