# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Keeps what the models of an environment are made of, and says what is not so on a host."""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.action import ActionBase
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.hand_over import hand_over
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models import lock
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models.model_list import pulled

ARGUMENTS = {
    "models": {"type": "list", "elements": "dict", "required": True},
    "models_dir": {"type": "path", "required": True},
    "lock_file": {"type": "path", "required": True},
    "mode": {"type": "str", "choices": ["look", "lock", "update", "verify"], "default": "look"},
    "names": {"type": "list", "elements": "str", "default": []},
    "ca_file": {"type": "path"},
    "folder": {"type": "path"},
}


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        if arguments["mode"] == "verify" and not Path(arguments["lock_file"]).exists():
            return {**result, "changed": False, "findings": [], "lock_file": arguments["lock_file"]}
        looked = self._look(arguments, task_vars)
        if looked.get("failed") or "models" not in looked:
            return {**result, **looked}
        models = looked["models"]
        changes = {
            "look": lambda content: content,
            "verify": lambda content: content,
            "lock": lambda content: lock.locked(content, models),
            "update": lambda content: lock.updated(content, models, arguments["names"]),
        }
        path = arguments["lock_file"]
        try:
            before, after = lock.FILE.update(path, changes[arguments["mode"]], write=not self._task.check_mode)
            found = lock.findings(lock.parse(after, path), models)
        except FleetError as error:
            return {**result, "failed": True, **error.as_result()}
        drift = [finding for finding in found if finding["kind"] == "drift"]
        if arguments["mode"] == "verify" and drift:
            why = "; ".join(f"{finding['model']}: {finding['text']}" for finding in drift)
            remedy = "see ./inv models.diff; what is meant is locked by ./inv models.lock --update"
            what = f"{task_vars['inventory_hostname']}: models are not those that are locked"
            return {**result, "failed": True, **FleetError(what, why, remedy).as_result()}
        result.update(changed=before != after, findings=found, lock_file=path)
        if result["changed"]:
            result["diff"] = {"before": before, "after": after, "before_header": path, "after_header": path}
        if arguments["folder"]:
            names = [lock.key_of(model["name"]) for model in models]
            told = {"findings": found, "changed": result["changed"], "models": names}
            hand_over(arguments["folder"], task_vars["inventory_hostname"], told)
        return result

    def _look(self, arguments, task_vars):
        asked = pulled(arguments["models"])
        # To lock or to verify what is there, nobody else need be asked.
        registry = {"lock": "missing", "verify": "none"}.get(arguments["mode"], "all")
        module_args = {"models": asked, "models_dir": arguments["models_dir"], "registry": registry}
        if arguments["ca_file"]:
            module_args["ca_file"] = arguments["ca_file"]
        return self._execute_module(
            module_name="ollama_fleet.stack.model_needs", module_args=module_args, task_vars=task_vars
        )
