# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""An action that runs the module of its own name and shows how far its pull is."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.pull_watch import PullWatch, progress_file


class WatchedModule(ActionBase):
    """Base of the action plugins of modules that pull, which have an option progress_file."""

    _supports_check_mode = True
    _supports_async = True
    module = ""

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        in_background = bool(self._task.async_val) and not self._connection.has_native_async
        arguments = dict(self._task.args)
        if self._task.check_mode or in_background or arguments.get("state") == "absent":
            result.update(self._call(arguments, task_vars, in_background))
            return result
        arguments.setdefault("progress_file", progress_file())
        workers = min(len(task_vars.get("ansible_play_batch") or [1]), int(task_vars.get("ansible_forks") or 1))
        host = task_vars["inventory_hostname"]
        with PullWatch(self._connection, host, arguments["progress_file"], workers):
            result.update(self._call(arguments, task_vars))
        return result

    def _call(self, arguments, task_vars, in_background=False):
        return self._execute_module(
            module_name=f"ollama_fleet.stack.{self.module}",
            module_args=arguments,
            task_vars=task_vars,
            wrap_async=in_background,
        )
