# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Adds what the role was given, as hashes, to what the module of the same name records on the host."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.inputs import Inputs, digest_of_files


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("state") == "done" and arguments.get("role"):
            role = arguments["role"]
            arguments["inputs"] = Inputs(self._templar, self._loader, task_vars).of(role)
            arguments["role_digest"] = digest_of_files(role)
        result.update(
            self._execute_module(module_name="ollama_fleet.stack.record", module_args=arguments, task_vars=task_vars)
        )
        return result
