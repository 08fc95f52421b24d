#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""A model on an Ollama server that is another name for one, or made of one or of a file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_made_model
short_description: Have a model that an Ollama server makes of another one, or of a GGUF file
version_added: "0.1.0"
description:
  - Has another name for a model, a model with a system prompt, template or parameters of its own, or one from a GGUF
    file, through the server's own API.
  - A model that is there and is what was asked for is left alone; one that differs is made anew.
  - Success means that the server shows the model as it was asked for.
  - A model of a file is made by way of one that is called after the file's digest and is gone afterwards. The server
    shows it as the parent, which tells the file also where the server wrote the file anew.
options:
  name:
    description: Name under which the server has the model, with its tag.
    type: str
    required: true
  alias:
    description: Name of the model that O(name) is another name for.
    type: str
  from:
    description: Name of the model that O(name) is made of. What is not given here is as it is there.
    type: str
  checksum:
    description: V(sha256:) and the digest of the GGUF file that O(name) is made of.
    type: str
  path:
    description:
      - That file on the host. Without it, the module makes the model only where the server has the file already, and
        returns RV(needs_file) where it has not.
    type: path
  system:
    description: System prompt.
    type: str
  template:
    description: Template of the prompt, as a Modelfile has it.
    type: str
  parameters:
    description: Parameters as a Modelfile has them.
    type: dict
  base_url:
    description: Where the server listens, as seen from the host that the module runs on.
    type: str
    default: http://127.0.0.1:11434
attributes:
  check_mode:
    support: full
    description: Asks the server, changes nothing. A server or a base that is not there yet counts as one that will be.
  diff_mode:
    support: full
    description: Shows what the model is made of before and after.
author:
  - The ollama-fleet authors
"""

EXAMPLES = r"""
- name: Have another name for a model
  ollama_fleet.stack.ollama_made_model:
    name: chat:1
    alias: llama3.2:3b

- name: Have a model with a manner of its own
  ollama_fleet.stack.ollama_made_model:
    name: tutor:1
    from: llama3.2:3b
    system: You ask back before you explain.
    parameters:
      temperature: 0.2
"""

RETURN = r"""
name:
  description: The model's name as the server lists it.
  type: str
  returned: always
digest:
  description: Digest of the model's manifest.
  type: str
  returned: when the model is there
needs_file:
  description: Whether the module must be called again with O(path).
  type: bool
  returned: always
actions:
  description: What was done, or would be done in check mode.
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

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import (
    ModelName,
    OllamaServer,
    UnreachableError,
)
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_create import (
    BUSY,
    Made,
    asked_parameters,
    create,
    forget_file,
    goal_of,
    has_blob,
    is_made,
    name_of_file,
    send_blob,
    show,
)


class Work:
    """One model, with the module's parameters."""

    def __init__(self, params: dict[str, Any], check_mode: bool) -> None:
        self._params = params
        self._check = check_mode
        self._server = OllamaServer(params["base_url"])
        self._name = ModelName.parse(params["name"])
        self._base = ModelName.parse(params["alias"] or params["from"]) if not params["checksum"] else None

    def do(self) -> dict[str, Any]:
        """The module's result; FleetError when the model is not what it is to be."""
        try:
            now = self._server.model(self._name)
            base = self._base and self._server.model(self._base)
        except UnreachableError as problem:
            if not self._check:
                raise
            return self._result(
                f"make {self._name.short}", msg=f"{problem.what}. Once it does, it would make the model"
            )
        if self._base and base is None:
            if not self._check:
                what = f"model {self._name.short} was not made"
                raise FleetError(what, f"the server has no {self._base.short}", "list that model too, then run again")
            return self._result(f"make {self._name.short}")
        return self._alias(now, base) if self._params["alias"] else self._made(now, base)

    def _alias(self, now: dict[str, Any] | None, base: dict[str, Any]) -> dict[str, Any]:
        if now and now.get("digest") == base.get("digest"):
            return self._result()
        if not self._check:
            self._server.copy(self._base, self._name)
            self._verify((self._server.model(self._name) or {}).get("digest") == base.get("digest"))
        return self._result(f"copy {self._base.short} to {self._name.short}")

    def _made(self, now: dict[str, Any] | None, base: dict[str, Any] | None) -> dict[str, Any]:
        params = self._params
        if base:
            goal = goal_of(show(self._server, base["name"]), params)
        else:
            asked = asked_parameters(params["parameters"] or {})
            prompt, template = params["system"] or "", params["template"] or ""
            goal = Made(params["checksum"], prompt, template, asked, params["checksum"])
        before = show(self._server, now["name"]) if now else None
        if before and is_made(before, goal):
            return self._tidied()
        needs_file = not base and not has_blob(self._server, params["checksum"])
        if self._check or (needs_file and not params["path"]):
            return self._result(f"make {self._name.short}", needs_file=needs_file, before=before, after=goal)
        if needs_file:
            send_blob(self._server, params["checksum"], params["path"])
        create(self._server, self._name, params)
        entry = self._server.model(self._name)
        self._verify(entry is not None and is_made(show(self._server, entry["name"]), goal))
        return self._result(f"make {self._name.short}", before=before, after=goal)

    def _tidied(self) -> dict[str, Any]:
        """The result for a model that is there; what a run left that was killed is taken away."""
        checksum = self._params["checksum"]
        if not checksum or not self._server.model(name_of_file(checksum)):
            return self._result()
        if not self._check:
            forget_file(self._server, checksum)
        return self._result(f"delete {name_of_file(checksum).short}")

    def _verify(self, is_so: bool) -> None:
        if not is_so:
            raise FleetError(
                f"model {self._name.short}", "the server said yes and shows something else than was asked for", BUSY
            )

    def _result(
        self,
        *actions: str,
        needs_file: bool = False,
        before: Made | None = None,
        after: Made | None = None,
        msg: str = "",
    ) -> dict[str, Any]:
        result: dict[str, Any] = {"changed": bool(actions), "name": self._name.short, "actions": list(actions)}
        result["needs_file"] = needs_file
        if msg:
            return {**result, "msg": msg}
        if after:
            result["diff"] = {"before": as_text(before), "after": as_text(after)}
        entry = self._server.model(self._name)
        if entry:
            result["digest"] = entry.get("digest")
        return result


def as_text(made: Made | None) -> str:
    if made is None:
        return "state: absent\n"
    return "".join(f"{key}: {value}\n" for key, value in made._asdict().items())


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "alias": {"type": "str"},
            "from": {"type": "str"},
            "checksum": {"type": "str"},
            "path": {"type": "path"},
            "system": {"type": "str"},
            "template": {"type": "str"},
            "parameters": {"type": "dict"},
            "base_url": {"type": "str", "default": "http://127.0.0.1:11434"},
        },
        required_one_of=[["alias", "from", "checksum"]],
        mutually_exclusive=[["alias", "from", "checksum"]],
        supports_check_mode=True,
    )
    try:
        result = Work(module.params, module.check_mode).do()
    except FleetError as problem:
        module.fail_json(name=module.params["name"], **problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
