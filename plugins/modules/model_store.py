#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""A model in a model store, without an Ollama server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_store
short_description: Have a model in a model store, or not
version_added: "0.1.0"
author: The ollama-fleet authors
description:
  - Fetches a model from a registry into a folder of the form that Ollama keeps its models in, C(manifests/) and
    C(blobs/). No Ollama server is needed, and none may use the folder at the same time.
  - Each layer is checked against its digest before it gets its name, and the manifest is written last. A fetch that was
    cut goes on where it stopped when the module runs again.
  - A model that is there in full is left alone, even when the registry has something newer below the same name.
  - While it fetches, the controller shows bytes, rate and time left (see docs/distribution.md).
options:
  name:
    description:
      - Name of the model, C([host/][namespace/]model[:tag]). The store keeps it by namespace, model and tag.
    type: str
    required: true
  path:
    description:
      - The store.
    type: path
    required: true
  state:
    description:
      - V(present) fetches what is missing. V(absent) removes the model and the layers that no other model needs.
    type: str
    choices: [present, absent]
    default: present
  source:
    description:
      - Fetch by this name instead of O(name).
    type: str
  source_host:
    description:
      - Address of another model cache, C(HOST[:PORT]), to fetch from. O(source) wins where both are given.
    type: str
  insecure:
    description:
      - Speak plain HTTP with the registry.
    type: bool
    default: false
  ca_certificate:
    description:
      - Authority that signed the registry's certificate, as PEM, trusted beside those that the host knows.
    type: str
    default: ""
  layers:
    description:
      - Digests of all layers that the model must have, C(sha256:...). The digest of its config may be among them.
      - A source that has others is refused before a byte moves. A store that has others gets the model anew.
    type: list
    elements: str
  checksum:
    description:
      - Read the layers that are there, and fetch those anew that are not what their digest says.
    type: bool
    default: false
  stall_timeout:
    description:
      - Seconds without a byte after which a link counts as dead.
    type: int
    default: 60
  disk_reserve:
    description:
      - Bytes that must stay free on the store's disk.
    type: int
    default: 1073741824
  progress_file:
    description:
      - Where to write how far the fetch is, as JSON, once a second. It is removed at the end.
      - The action plugin of the same name sets and reads it.
    type: path
attributes:
  check_mode:
    support: full
    description: Asks the registry, changes nothing.
  diff_mode:
    support: full
    description: Shows the model's layers before and after.
"""

EXAMPLES = r"""
- name: Have a model ready for the fleet
  ollama_fleet.stack.model_store:
    name: llama3.2:3b
    path: /var/lib/ollama-model-cache
"""

RETURN = r"""
name:
  description: The model's name, its defaults filled in.
  type: str
  returned: always
  sample: llama3.2:3b
manifest:
  description: Path of the model's manifest in the store.
  type: str
  returned: always
layers:
  description: Digests of all layers with their sizes in bytes, the config among them.
  type: dict
  returned: when the model is there
  sample: {"sha256:dde5aa3fc5ffc17176b5e8bdc82f587b24b2678c6c66101bf7da77af9f7ccdff": 2019377376}
actions:
  description: What was done, or would be done in check mode, in order.
  type: list
  elements: str
  returned: always
reason:
  description: Why it did not work.
  type: str
  returned: on failure
remedy:
  description: What to do about it.
  type: str
  returned: on failure
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.model_store import ModelStore, Registry, read_manifest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import (
    Manifest,
    ModelName,
    free_bytes,
    megabytes,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.pull_state import PullState


def source_of(name: ModelName, params: dict[str, Any]) -> ModelName:
    """The name to fetch by."""
    if params["source"]:
        return ModelName.parse(params["source"])
    if params["source_host"]:
        return name.at(params["source_host"])
    return name


def stored(store: ModelStore, name: ModelName) -> Manifest | None:
    """What the store has under this name; None when there is no manifest that can be read."""
    raw = store.raw_manifest(name)
    try:
        return read_manifest(name, raw) if raw is not None else None
    except FleetError:
        return None


def check_source(store: ModelStore, source: ModelName, manifest: Manifest, params: dict[str, Any]) -> None:
    """FleetError when the source has another model than is wanted, or the disk has no room for it."""
    differences = manifest.differences(params["layers"]) if params["layers"] else []
    if differences:
        raise FleetError(
            f"Model {source.short} is not the one that is wanted",
            "its layers differ in {}".format(", ".join(differences)),
            f"if it was meant to change at {source.host}, renew the models' lock; if not, find out who changed it",
        )
    needed, free = store.bytes_to_fetch(manifest), free_bytes(store.path)
    if needed + params["disk_reserve"] > free:
        raise FleetError(
            f"Model {source.short} was not fetched",
            "it needs {} more on the disk of {}, where {} are free and {} must stay so".format(
                megabytes(needed), store.path, megabytes(free), megabytes(params["disk_reserve"])
            ),
            "free disk space there, or put the store on a bigger disk",
        )


def make_present(store: ModelStore, name: ModelName, params: dict[str, Any], check_mode: bool) -> list[str]:
    """Fetch what is missing; what was done, or would be."""
    source = source_of(name, params)
    there = stored(store, name)
    damaged = store.damaged(there) if there and params["checksum"] else []
    wanted = there and not (params["layers"] and there.differences(params["layers"]))
    if there and wanted and not damaged and not store.missing(there):
        return []
    registry = Registry(params["insecure"], params["ca_certificate"], params["stall_timeout"])
    # What lost a layer gets that one back: a newer model below the same name would be an update that nobody asked for.
    kept = store.raw_manifest(name) if wanted else None
    raw = kept if kept is not None else registry.manifest(source)
    check_source(store, source, read_manifest(source, raw), params)
    actions = [f"replace damaged {digest}" for digest in damaged] + [f"fetch {source.short}"]
    if not check_mode:
        for digest in damaged:
            os.unlink(store.blob_path(digest))
        with PullState(params["progress_file"]) as state:
            store.fetch(registry, name, source, raw, state.tell)
    return actions


def ensure(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module's result; FleetError when the state was not reached."""
    name = ModelName.parse(params["name"])
    store = ModelStore(params["path"])
    before = stored(store, name)
    if check_mode:
        actions = change(store, name, params, check_mode)
    else:
        with store.locked():
            actions = change(store, name, params, check_mode)
    after = before if check_mode else stored(store, name)
    result = {"changed": bool(actions), "name": name.short, "actions": actions, "manifest": store.manifest_path(name)}
    result["diff"] = {"before": as_text(before), "after": as_text(after)}
    return {**result, "layers": after.layers} if after else result


def change(store: ModelStore, name: ModelName, params: dict[str, Any], check_mode: bool) -> list[str]:
    if params["state"] == "present":
        return make_present(store, name, params, check_mode)
    if store.raw_manifest(name) is None:
        return []
    if not check_mode:
        store.remove(name)
    return [f"remove {name.short}"]


def as_text(manifest: Manifest | None) -> str:
    if manifest is None:
        return "state: absent\n"
    return "".join(f"{digest} {size}\n" for digest, size in sorted(manifest.layers.items()))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "source": {"type": "str"},
            "source_host": {"type": "str"},
            "insecure": {"type": "bool", "default": False},
            "ca_certificate": {"type": "str", "default": ""},
            "layers": {"type": "list", "elements": "str"},
            "checksum": {"type": "bool", "default": False},
            "stall_timeout": {"type": "int", "default": 60},
            "disk_reserve": {"type": "int", "default": 1 << 30},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    # Who hands the store out runs as another user, however strict root's own umask is.
    os.umask(0o022)
    try:
        result = ensure(module.params, module.check_mode)
    except FleetError as problem:
        module.fail_json(name=module.params["name"], **problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
