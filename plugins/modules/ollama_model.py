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
  - While it pulls, the controller shows bytes, rate and time left (see docs/distribution.md).
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
  source_host:
    description:
      - Address of a model cache, C(HOST[:PORT]). Pull from there by the namespace, model and tag of O(name), then go on
        as with O(source), which wins where both are given.
    type: str
  layers:
    description:
      - Digests of all layers that the model must have, C(sha256:...). The digest of its config may be among them.
      - A source that has others is refused before a byte moves. What came is compared once more after the pull.
      - A model that is there already is not compared.
    type: list
    elements: str
  ca_file:
    description:
      - File on the host with the authority of the source's certificate, for what the module itself asks the source. The
        server that pulls has to trust it by its own means.
    type: path
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
  progress_file:
    description:
      - Where to write how far the pull is, as JSON, once a second. It is removed at the end.
      - The action plugin of the same name sets and reads it.
    type: path
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

- name: Have a model from the fleet's model cache, and no other than this one
  ollama_fleet.stack.ollama_model:
    name: llama3.2:3b
    source_host: cache1:11436
    layers:
      - sha256:dde5aa3fc5ffc17176b5e8bdc82f587b24b2678c6c66101bf7da77af9f7ccdff

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

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import (
    Manifest,
    ModelName,
    OllamaServer,
    UnreachableError,
    fetch_manifest,
    free_bytes,
    megabytes,
    stored_manifest,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.pull_state import PullState


def source_of(name: ModelName, params: dict[str, Any]) -> ModelName:
    """The name to pull by."""
    if params["source"]:
        return ModelName.parse(params["source"])
    if params["source_host"]:
        return name.at(params["source_host"])
    return name


def check_layers(source: ModelName, manifest: Manifest, wanted: list[str] | None) -> None:
    """FleetError when the model is made of other layers than it must be."""
    differences = manifest.differences(wanted) if wanted else []
    if differences:
        raise not_wanted(source, differences)


def not_wanted(source: ModelName, digests: list[str]) -> FleetError:
    return FleetError(
        f"Model {source.short} is not the one that is wanted",
        "its layers differ in {}".format(", ".join(digests)),
        f"if it was meant to change at {source.host}, renew the lock of the models; if not, find out who changed it",
    )


def check_room(source: ModelName, manifest: Manifest, params: dict[str, Any]) -> None:
    """FleetError when the disk has no room for the model."""
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
    source = source_of(name, params)
    renamed = source.key != name.key
    missing = server.model(name) is None
    source_there = renamed and server.model(source) is not None
    actions = []
    if missing and not source_there:
        asked = params["models_dir"] or params["layers"]
        manifest = fetch_manifest(source, params["insecure"], ca_file=params["ca_file"]) if asked else None
        if manifest:
            check_layers(source, manifest, params["layers"])
            if params["models_dir"]:
                check_room(source, manifest, params)
        actions.append(f"pull {source.short}")
        if not check_mode:
            pull(server, source, manifest, params)
    if missing and renamed:
        actions.append(f"copy to {name.short}")
        if not check_mode:
            unless_done(lambda: server.copy(source, name), lambda: server.model(name) is not None)
    if renamed and (missing or source_there):
        actions.append(f"delete {source.short}")
        if not check_mode:
            unless_done(lambda: server.delete(source.short), lambda: server.model(source) is None)
    return actions


def unless_done(work: Callable[[], None], is_done: Callable[[], bool]) -> None:
    """Do it, unless it turns out to be done: a run whose controller was killed goes on here, and may come first."""
    try:
        work()
    except FleetError:
        if not is_done():
            raise


def pull(server: OllamaServer, source: ModelName, manifest: Manifest | None, params: dict[str, Any]) -> None:
    """Pull, and see that what came is what was wanted."""
    with PullState(params["progress_file"]) as state:
        size = manifest.size if manifest else 0
        try:
            server.pull(source, params["insecure"], params["stall_timeout"], size, state.tell)
        except FleetError as problem:
            if manifest and params["models_dir"] and "digest mismatch" in problem.why:
                manifest.drop_damaged(params["models_dir"])
            raise
    try:
        check_what_came(server, source, params)
    except FleetError:
        server.delete(source.short)
        raise


def check_what_came(server: OllamaServer, source: ModelName, params: dict[str, Any]) -> None:
    """FleetError when the server now has other layers than it must have."""
    came = stored_manifest(source, params["models_dir"]) if params["models_dir"] else None
    if came:
        check_layers(source, came, params["layers"])
    elif params["layers"]:
        # The store is out of sight. Its server shows one layer, that of the weights.
        weights = server.layer_digest(source.short)
        if weights and weights not in params["layers"]:
            raise not_wanted(source, [weights])


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
    source = source_of(name, params)
    wanted = params["state"]
    server = OllamaServer(params["base_url"])
    try:
        before = describe(server, name)
    except UnreachableError as problem:
        if not check_mode:
            raise
        actions = [] if wanted == "absent" else [f"pull {source.short}"]
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
            "source_host": {"type": "str"},
            "layers": {"type": "list", "elements": "str"},
            "ca_file": {"type": "path"},
            "insecure": {"type": "bool", "default": False},
            "base_url": {"type": "str", "default": "http://127.0.0.1:11434"},
            "stall_timeout": {"type": "int", "default": 180},
            "models_dir": {"type": "path"},
            "disk_reserve": {"type": "int", "default": 1 << 30},
            "progress_file": {"type": "path"},
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
