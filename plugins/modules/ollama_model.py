#!/usr/bin/python
# Copyright: the ollama-fleet authors
# SPDX-License-Identifier: Apache-2.0
"""A model on an Ollama server: there, or not there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_model
short_description: Have a model on an Ollama server, or not
version_added: "0.1.0"
author: The ollama-fleet authors
description:
  - Pulls a model through the server's own API, copies it to another name, or deletes it.
  - Success means that the server lists the model. A pull that is answered with HTTP 200 and an error line is a
    failure, as is one that is cut off.
  - An interrupted pull goes on where it stopped when the module runs again, because the server keeps its parts.
  - A model that is there is left alone, even when the registry has something newer below the same name.
options:
  name:
    description:
      - Name under which the server has the model, C([host/][namespace/]model[:tag]).
      - Without a tag the server means C(latest).
    type: str
    required: true
  state:
    description:
      - V(present) pulls the model where it is missing, V(absent) deletes it where it is there.
    type: str
    choices: [present, absent]
    default: present
  source:
    description:
      - Pull by this name, copy to O(name), then delete this name. For a source other than the one that O(name) says.
    type: str
  insecure:
    description:
      - Speak plain HTTP with the registry. Ollama does no unchecked HTTPS.
    type: bool
    default: false
  base_url:
    description:
      - Where the server listens, as seen from the host that the module runs on.
    type: str
    default: http://127.0.0.1:11434
  stall_timeout:
    description:
      - Seconds without any movement after which a pull counts as stalled.
      - The server itself gives up on a dead link after about 95 s.
      - While the server checks digests it may be silent for longer, as long as reading the model at 50 MB/s takes.
    type: int
    default: 180
  models_dir:
    description:
      - The server's model store (with C(blobs) in it), as the host sees it.
      - With it, free disk space is checked before a byte moves.
    type: path
  disk_reserve:
    description:
      - Bytes that must stay free on that disk after the pull.
    type: int
    default: 1073741824
attributes:
  check_mode:
    support: full
    description: Asks server and registry, changes nothing. A server that does not answer yet counts as an empty one.
  diff_mode:
    support: full
    description: Shows the model's state, digest and size before and after.
"""

EXAMPLES = r"""
- name: Have a small model
  ollama_fleet.stack.ollama_model:
    name: smollm2:135m

- name: Have a model from the fleet's own source, under its short name
  ollama_fleet.stack.ollama_model:
    name: llama3.2:3b
    source: models.example:5001/library/llama3.2:3b
    models_dir: /var/lib/ollama/models

- name: Have a model no longer
  ollama_fleet.stack.ollama_model:
    name: llama2:7b
    state: absent
"""

RETURN = r"""
name:
  description: The model's name as the server lists it.
  type: str
  returned: always
  sample: smollm2:135m
digest:
  description: Digest of the model's manifest. It can differ between sources of the same weights.
  type: str
  returned: when the model is there
  sample: 2c534e93e6137a5fcb3d01c0ed02d72e1efdd64be4f5771b8a1515402de041ab
layer_digest:
  description: Digest of the weights, the same from every source; null when the server does not show it.
  type: str
  returned: when the model is there
  sample: sha256:a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
size:
  description: Bytes of the model and its metadata.
  type: int
  returned: when the model is there
  sample: 253113180
actions:
  description: What was done, or would be done in check mode, in order.
  type: list
  elements: str
  returned: always
  sample: ["pull models.example:5001/library/llama3.2:3b", "copy to llama3.2:3b"]
reason:
  description: Why it did not work, with the server's words.
  type: str
  returned: on failure
remedy:
  description: What to do about it.
  type: str
  returned: on failure
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import (
    ModelName,
    OllamaServer,
    UnreachableError,
    fetch_manifest,
    free_bytes,
    megabytes,
)


def check_room(source: ModelName, params: dict[str, Any]) -> None:
    """FleetError when the registry says how big the model is and the disk has no room for it."""
    manifest = fetch_manifest(source, params["insecure"])
    if manifest is None:
        return
    missing, free = manifest.missing_bytes(params["models_dir"]), free_bytes(params["models_dir"])
    if missing + params["disk_reserve"] > free:
        raise FleetError(
            f"Model {source.short} was not pulled",
            "it needs {} more on the disk of {}, where {} are free and {} must stay so".format(
                megabytes(missing), params["models_dir"], megabytes(free), megabytes(params["disk_reserve"])
            ),
            "free disk space there, point ollama_data_dir to a bigger disk, or take this model off ollama_models_list",
        )


def make_present(server: OllamaServer, name: ModelName, params: dict[str, Any], check_mode: bool) -> list[str]:
    """Pull, copy and tidy up as far as something is missing; what was done, or would be."""
    source = ModelName.parse(params["source"]) if params["source"] else name
    renamed = source.key != name.key
    missing = server.model(name) is None
    source_there = renamed and server.model(source) is not None
    actions = []
    if missing and not source_there:
        if params["models_dir"]:
            check_room(source, params)
        actions.append(f"pull {source.short}")
        if not check_mode:
            server.pull(source, params["insecure"], params["stall_timeout"])
    if missing and renamed:
        actions.append(f"copy to {name.short}")
        if not check_mode:
            server.copy(source, name)
    if renamed and (missing or source_there):
        actions.append(f"delete {source.short}")
        if not check_mode:
            server.delete(source.short)
    return actions


def make_absent(server: OllamaServer, name: ModelName, check_mode: bool) -> list[str]:
    entry = server.model(name)
    if entry is None:
        return []
    if not check_mode:
        server.delete(entry["name"])
    return [f"delete {name.short}"]


def describe(server: OllamaServer, name: ModelName) -> dict[str, Any]:
    """The model as the server has it: empty when it has not."""
    entry = server.model(name)
    if entry is None:
        return {}
    return {
        "name": entry["name"],
        "digest": entry.get("digest"),
        "size": entry.get("size"),
        "layer_digest": server.layer_digest(entry["name"]),
    }


def as_text(state: str, facts: dict[str, Any]) -> str:
    lines = [f"state: {state}"] + ["{}: {}".format(*item) for item in sorted(facts.items())]
    return "\n".join(lines) + "\n"


def ensure(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module's result; FleetError when the state was not reached."""
    name = ModelName.parse(params["name"])
    if params["source"]:
        ModelName.parse(params["source"])
    wanted = params["state"]
    server = OllamaServer(params["base_url"])
    try:
        before = describe(server, name)
    except UnreachableError as problem:
        if not check_mode:
            raise
        actions = [] if wanted == "absent" else [f"pull {params['source'] or name.short}"]
        msg = f"{problem.what}. Once it does, it would get the model" if actions else problem.what
        return {"changed": bool(actions), "name": name.short, "actions": actions, "msg": msg}
    if wanted == "present":
        actions = make_present(server, name, params, check_mode)
    else:
        actions = make_absent(server, name, check_mode)
    after = before if check_mode or not actions else describe(server, name)
    if not check_mode and bool(after) != (wanted == "present"):
        raise FleetError(
            f"Model {name.short} is not {wanted}",
            "the server said yes to everything ({}) and lists it otherwise".format(", ".join(actions)),
            "look at the server's log (docker logs ollama): another client may change its models",
        )
    was = "present" if before else "absent"
    diff = {"before": as_text(was, before), "after": as_text(wanted if actions else was, after)}
    return {"changed": bool(actions), "name": name.short, "actions": actions, "diff": diff, **after}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "source": {"type": "str"},
            "insecure": {"type": "bool", "default": False},
            "base_url": {"type": "str", "default": "http://127.0.0.1:11434"},
            "stall_timeout": {"type": "int", "default": 180},
            "models_dir": {"type": "path"},
            "disk_reserve": {"type": "int", "default": 1 << 30},
        },
        supports_check_mode=True,
    )
    try:
        result = ensure(module.params, module.check_mode)
    except FleetError as problem:
        module.fail_json(name=module.params["name"], **problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
