#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""A model that an Ollama server has, pulled once more."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_model_again
short_description: Pull a model once more that an Ollama server has already
version_added: "0.1.0"
description:
  - Brings what the model's registry has below its name now. The server serves the old one until the new one is whole.
  - Which model is to be pulled again is for M(ollama_fleet.stack.model_fit) to say, which knows what is locked.
options:
  name:
    description: Name under which the server has the model.
    type: str
    required: true
  source:
    description: Pull by this name, copy to O(name), then delete this name.
    type: str
  insecure:
    description: Speak plain HTTP with the registry.
    type: bool
    default: false
  base_url:
    description: Where the server listens, as seen from the host that the module runs on.
    type: str
    default: http://127.0.0.1:11434
  stall_timeout:
    description: Seconds without any movement after which a pull counts as stalled.
    type: int
    default: 180
attributes:
  check_mode:
    support: full
    description: Changes nothing, and says what it would do.
  diff_mode:
    support: full
    description: Shows the digest before and after.
author:
  - The ollama-fleet authors
"""

EXAMPLES = r"""
- name: Bring what the registry has now
  ollama_fleet.stack.ollama_model_again:
    name: llama3.2:3b
"""

RETURN = r"""
name:
  description: The model's name.
  type: str
  returned: always
digest:
  description: Digest of the model's manifest.
  type: str
  returned: when the model is there
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
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import ModelName, OllamaServer


def pull_again(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module's result; FleetError when the pull did not end in a model."""
    name = ModelName.parse(params["name"])
    source = ModelName.parse(params["source"] or params["name"])
    server = OllamaServer(params["base_url"])
    before = (server.model(name) or {}).get("digest")
    if not check_mode:
        server.pull(source, params["insecure"], params["stall_timeout"])
        if source.key != name.key:
            server.copy(source, name)
            server.delete(source.short)
    after = before if check_mode else (server.model(name) or {}).get("digest")
    diff = {"before": f"digest: {before}\n", "after": f"digest: {after}\n"}
    return {"changed": check_mode or before != after, "name": name.short, "digest": after, "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "source": {"type": "str"},
            "insecure": {"type": "bool", "default": False},
            "base_url": {"type": "str", "default": "http://127.0.0.1:11434"},
            "stall_timeout": {"type": "int", "default": 180},
        },
        supports_check_mode=True,
    )
    try:
        result = pull_again(module.params, module.check_mode)
    except FleetError as problem:
        module.fail_json(name=module.params["name"], **problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
