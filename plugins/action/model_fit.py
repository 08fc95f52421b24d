# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Says whether the models of a host fit, before anything is pulled: asks the host what they are, and judges here."""

from __future__ import annotations

from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.ollama_fleet.stack.plugins.module_utils import gguf_header
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.model_source import embeddings, wanted
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import ModelName
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.hand_over import hand_over
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models import lock, words
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.fit import (
    REQUIRED,
    host_of,
    judge,
    wishes_of,
)
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.model_list import base_of, pulled, way_of
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.need import MODEL

ARGUMENTS = {
    "models": {"type": "list", "elements": "dict", "required": True},
    "server": {"type": "dict", "required": True},
    "fit": {"type": "str", "choices": list(REQUIRED), "default": "gpu"},
    "models_dir": {"type": "path", "required": True},
    "disk_reserve": {"type": "int", "default": 0},
    "memory_reserve": {"type": "int", "default": 0},
    "ca_file": {"type": "path"},
    "lock_file": {"type": "path"},
    "refuse": {"type": "bool", "default": True},
    "folder": {"type": "path"},
}
# The longest headers that there are.
HEADER = 1 << 25


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        observed = task_vars.get("ansible_facts", {}).get("ollama_fleet")
        if observed is None:
            raise AnsibleActionFail("the host was not observed: run ollama_fleet.stack.host_info before this")
        wishes = wishes_of(arguments["server"], arguments["fit"], observed["ollama"]["version"])
        needs = self._needs(arguments, {"tensors": wishes.settings.own_engine}, task_vars)
        if needs.get("failed") or "models" not in needs:
            return {**result, **needs}
        try:
            result["restore"] = self._against_lock(arguments, needs["models"], result, task_vars)
            models = looked_at(arguments["models"], needs["models"], Path(task_vars.get("inventory_dir") or "."))
        except FleetError as error:
            return {**result, "failed": True, **error.as_result()}
        free = needs["disk"]["free_bytes"] - arguments["disk_reserve"]
        host = host_of(observed, arguments["server"], arguments["memory_reserve"], free)
        verdict = judge(models, host, wishes)
        for model in verdict["models"]:
            model["instead"] = words.instead(model)
        result.update(changed=False, fit=verdict)
        if arguments["folder"]:
            hand_over(arguments["folder"], task_vars["inventory_hostname"], verdict)
        if arguments["refuse"] and not verdict["fits"]:
            reason, remedy = words.refusal(verdict)
            what = f"{task_vars['inventory_hostname']}: nothing was pulled, because not all models fit"
            result.update(failed=True, **FleetError(what, reason, remedy).as_result())
        return result

    def _against_lock(self, arguments, looked, result, task_vars):
        """Return the names of models that are to be pulled again to be as they are locked.

        Raises FleetError where a pull would bring something else than what is locked.
        """
        locked = lock.FILE.read(arguments["lock_file"]) if arguments["lock_file"] else {}
        refused = lock.refusal(locked, looked)
        if refused and arguments["refuse"]:
            raise refused
        drifted = lock.drifted(locked, looked)
        if not drifted:
            return []
        asked = self._needs(arguments, {"registry": "all"}, task_vars)
        restorable = lock.restorable(locked, asked.get("models", []))
        others = [name for name in drifted if name not in restorable]
        if others:
            result["warnings"] = [
                f"{', '.join(others)}: the host has other layers than the lock, and the registry does not have those: "
                "see ./inv models.diff"
            ]
        return restorable

    def _needs(self, arguments, more, task_vars):
        asked = pulled(arguments["models"])
        module_args = {"models": asked, "models_dir": arguments["models_dir"], **more}
        if arguments["ca_file"]:
            module_args["ca_file"] = arguments["ca_file"]
        return self._execute_module(
            module_name="ollama_fleet.stack.model_needs", module_args=module_args, task_vars=task_vars
        )


def looked_at(entries, needs, folder):
    """Return what fit.judge is given: each model that the host is to have, with what is known of its files.

    entries: of model_list.wanted. needs: models of the module model_needs, one for each that is pulled
    folder: of the inventory; files of the controller are named relative to it
    A model that is made of another has its weights, and needs no room on the disk for them.
    """
    told = iter(needs)
    found = {}
    for entry in entries:
        way = way_of(entry)
        if way == "absent":
            continue
        if way == "pull":
            looked = next(told)
        elif way == "file":
            looked = of_file(folder / entry["file"], entry)
        else:
            looked = {**found[ModelName.parse(base_of(entry)).key], "missing": {}}
        own = (entry.get("parameters") or {}).get("num_ctx")
        more = {"name": entry["name"], **({"context": int(own)} if own else {})}
        found[ModelName.parse(entry["name"]).key] = {**looked, **more}
    return list(found.values())


def of_file(path, entry):
    """Return what is known of a GGUF file of the controller."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = gguf_header.read(file.read(HEADER))
    except OSError as error:
        raise FleetError(
            f"model {entry['name']}",
            f"its file cannot be read on this machine: {error}",
            "correct file: a path, relative ones from the inventory's folder",
        ) from error
    layer = {"digest": entry["checksum"], "media_type": MODEL, "size": size}
    return {
        "layers": [layer],
        "missing": {entry["checksum"]: size},
        "pairs": wanted(header),
        "tensors": embeddings(header),
        "context": None,
        "why": "",
    }
