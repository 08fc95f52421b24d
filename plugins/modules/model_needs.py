#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What models are made of and what their weights say of themselves, before anything is pulled."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_needs
short_description: Read what models need, from the server's store or their registry, without pulling them
version_added: "0.1.0"
description:
  - For each model reads its manifest, and the first bytes of its weights (GGUF metadata), from the Ollama server's own
    store where the model is there, else from its registry by an HTTP range.
  - Runs on the host, because the host is who must reach the registry.
  - What cannot be read is told for each model and fails nothing. Nothing is written.
options:
  models:
    description: The models to look at.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name under which the server has or will have the model.
        type: str
        required: true
      source:
        description: Name by which it is pulled, where that is another one.
        type: str
      insecure:
        description: Speak plain HTTP with the registry.
        type: bool
        default: false
  models_dir:
    description: The server's model store (with C(blobs) and C(manifests) in it), as the host sees it.
    type: path
    required: true
  registry:
    description:
      - V(missing) asks the registry about models that the store does not have.
      - V(all) asks it about all, which shows what an update would bring.
      - V(none) asks it nothing.
    type: str
    choices: [missing, all, none]
    default: missing
  tensors:
    description: Read the sizes of the tensors too; that takes the whole header, which may be some megabytes.
    type: bool
    default: false
  ca_file:
    description: File on the host with the certificate of the CA that signs the registry's. The system's CAs otherwise.
    type: path
  timeout:
    description: Seconds that a registry may take for one answer.
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: none
    description: Changes nothing.
author:
  - The ollama-fleet authors
"""

EXAMPLES = r"""
- name: See what a model would need
  ollama_fleet.stack.model_needs:
    models:
      - name: llama3.2:3b
    models_dir: /var/lib/ollama/models
  register: __needs
"""

RETURN = r"""
models:
  description: >-
    In the order that was asked: name; origin (store, registry, or empty); layers (digest, media_type, size);
    registry_layers (the same as the registry has it now, null where it was not asked or did not say);
    missing (bytes that a pull still has to write, by digest); pairs (GGUF metadata, null where they could not be read);
    tensors (sizes of the embeddings, null where they were not read); context (what the model's own parameters ask for,
    null where they do not); why and remedy (of what could not be read);
    registry_why (why the registry did not say).
  type: list
  elements: dict
  returned: always
disk:
  description: path of the store, and free_bytes of its file system.
  type: dict
  returned: always
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils import gguf_header
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.model_source import (
    LONGEST_PARAMETERS,
    PARAMETERS,
    STEPS,
    WEIGHTS,
    Registry,
    blob_path,
    embeddings,
    is_enough,
    missing_of,
    own_context,
    stored_layers,
    wanted,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import ModelName, free_bytes


class Look:
    """One look at models, with the module's parameters."""

    def __init__(self, params: dict[str, Any]) -> None:
        self._params = params
        self._registry = Registry(params["ca_file"], params["timeout"])

    def at(self, model: dict[str, Any]) -> dict[str, Any]:
        """What is to be told of one model."""
        found: dict[str, Any] = {"name": model["name"], "origin": "", "layers": [], "registry_layers": None}
        found.update(missing={}, pairs=None, tensors=None, context=None, why="", remedy="", registry_why="")
        try:
            name = ModelName.parse(model["name"])
            source = ModelName.parse(model.get("source") or model["name"])
            self._layers(found, name, source, model["insecure"])
            if found["layers"]:
                found["missing"] = missing_of(self._params["models_dir"], found["layers"])
                self._metadata(found, source, model["insecure"])
        except FleetError as problem:
            found.update(why=f"{problem.what}: {problem.why}", remedy=problem.remedy)
        return found

    def _layers(self, found: dict[str, Any], name: ModelName, source: ModelName, insecure: bool) -> None:
        models_dir, asked = self._params["models_dir"], self._params["registry"]
        stored = stored_layers(models_dir, name) or stored_layers(models_dir, source)
        if stored:
            found.update(origin="store", layers=stored)
        if asked == "all" or (asked == "missing" and not stored):
            try:
                found["registry_layers"] = self._registry.manifest(source, insecure)
            except FleetError as problem:
                if not stored:
                    raise
                found["registry_why"] = f"{problem.what}: {problem.why}"
            else:
                if not stored:
                    found.update(origin="registry", layers=found["registry_layers"])
        elif not stored:
            found["why"] = f"model {name.short}: it is not there, and the registry was not to be asked"

    def _metadata(self, found: dict[str, Any], source: ModelName, insecure: bool) -> None:
        weights = next((layer for layer in found["layers"] if layer["media_type"] == WEIGHTS), None)
        if weights is None:
            raise FleetError(f"model {found['name']}", "its manifest names no weights", "use a model that has some")
        parameters = next((layer for layer in found["layers"] if layer["media_type"] == PARAMETERS), None)
        if parameters:
            size = min(parameters["size"], LONGEST_PARAMETERS)
            found["context"] = own_context(self._beginning(source, insecure, parameters["digest"], size))
        for count in STEPS:
            data = self._beginning(source, insecure, weights["digest"], min(count, weights["size"]))
            header = gguf_header.read(data)
            found.update(pairs=wanted(header), tensors=embeddings(header))
            if is_enough(header, self._params["tensors"]) or count >= weights["size"]:
                return

    def _beginning(self, source: ModelName, insecure: bool, digest: str, count: int) -> bytes:
        try:
            with open(blob_path(self._params["models_dir"], digest), "rb") as file:
                return file.read(count)
        except OSError:
            return self._registry.beginning(source, insecure, digest, count)


def look(params: dict[str, Any]) -> dict[str, Any]:
    """The module's result."""
    looking = Look(params)
    models_dir = params["models_dir"]
    return {
        "changed": False,
        "models": [looking.at(model) for model in params["models"]],
        "disk": {"path": models_dir, "free_bytes": free_bytes(models_dir)},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "source": {"type": "str"},
                    "insecure": {"type": "bool", "default": False},
                },
            },
            "models_dir": {"type": "path", "required": True},
            "registry": {"type": "str", "choices": ["missing", "all", "none"], "default": "missing"},
            "tensors": {"type": "bool", "default": False},
            "ca_file": {"type": "path"},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    try:
        result = look(module.params)
    except FleetError as problem:
        module.fail_json(**problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
