# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Looks at the variables of all hosts of the play, on the controller, and reports everything that is wrong at once."""

from __future__ import annotations

from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.argument_specs import read_roles
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.validation import Fleet

# What a host's own variables lack of what its templates may name.
SHARED = ("hostvars", "ansible_play_hosts", "ansible_play_hosts_all", "ansible_play_batch", "ansible_play_name")


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec({"stack": {"type": "dict", "required": True}})
        stack = arguments["stack"]
        roles = read_roles(self._loader)
        strangers = {role for names in stack.values() for role in names} - roles.keys()
        if strangers:
            raise AnsibleActionFail(f"stack names roles that this collection lacks: {', '.join(sorted(strangers))}")
        hostvars = task_vars["hostvars"]
        fleet = Fleet(
            {host: hostvars.raw_get(host) for host in task_vars["ansible_play_hosts_all"]},
            task_vars["groups"],
            stack,
            roles,
            self._templar,
            {name: task_vars[name] for name in SHARED if name in task_vars},
            Path(task_vars["inventory_dir"]) if task_vars.get("inventory_dir") else None,
        )
        problems = fleet.problems()
        result["changed"] = False
        result["hosts"] = len(fleet.variables)
        if outsiders := fleet.outsiders():
            result["warnings"] = [
                f"in none of the groups {', '.join(stack)}, so they get nothing: {', '.join(outsiders)}"
            ]
        if problems:
            count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
            lines = "".join(f"\n  {problem}" for problem in problems)
            result.update(failed=True, msg=f"{count} in the inventory. No host was touched.{lines}")
        return result
