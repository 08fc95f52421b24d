# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Decides what driver a host gets, in exact versions, and keeps these in the environment's lock file."""

from __future__ import annotations

from pathlib import Path

from ansible import constants as C  # noqa: N812 - its name everywhere in Ansible
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import driver_lock, driver_moves
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import RefusalError

ARGUMENTS = {
    "mode": {"type": "str", "choices": ["look", "apply", "upgrade", "rollback", "unlock"], "default": "apply"},
    "wants": {"type": "dict", "required": True},
    "lock_file": {"type": "path", "required": True},
    "repository_url": {"type": "str", "default": ""},
    "to": {"type": "str", "default": ""},
}


class UnansweredError(Exception):
    """The host could not say which versions it could install; the module's own result says why."""

    def __init__(self, result):
        super().__init__(result.get("msg", ""))
        self.result = result


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        observed = task_vars.get("ansible_facts", {}).get("ollama_fleet")
        if observed is None:
            raise AnsibleActionFail("the host was not observed: run ollama_fleet.stack.host_info before this")

        def ask(names):
            return self._available(names, arguments["repository_url"], task_vars)

        host = driver_moves.Host(
            task_vars["inventory_hostname"],
            observed,
            arguments["wants"],
            arguments["lock_file"],
            ask,
            self._task.check_mode,
        )
        move = getattr(driver_moves, arguments["mode"])
        try:
            moved = move(host, arguments["to"]) if arguments["mode"] == "upgrade" else move(host)
            lock_file = self._lock_file(host, moved)
        except UnansweredError as error:
            return {**result, **error.result}
        except RefusalError as error:
            told = error.as_result()
            reason = f"{told['rule']} ({'; '.join(told['cards'])})" if told["cards"] else told["rule"]
            return {**result, "failed": True, "msg": str(error), "reason": reason, "remedy": told["remedy"]}
        except FleetError as error:
            return {**result, "failed": True, **error.as_result()}
        result.update(
            changed=moved.before != moved.after, decision=moved.decision, lock_file=str(lock_file), says=moved.says
        )
        if result["changed"]:
            header = {"before_header": str(host.lock_file), "after_header": str(host.lock_file)}
            result["diff"] = {"before": moved.before, "after": moved.after, **header}
        return result

    def _available(self, names, repository_url, task_vars):
        """Ask the host. Its own sources are refreshed first: what was newest last month is not."""
        answer = self._execute_module(
            module_name="ollama_fleet.stack.package_versions",
            module_args={"names": names, "repository_url": repository_url, "update_cache": not repository_url},
            task_vars=task_vars,
        )
        if answer.get("failed") or "versions" not in answer:
            raise UnansweredError(answer)
        return answer["versions"]

    @staticmethod
    def _lock_file(host, moved):
        """Return where the lock is. In check mode, what it would be is in a file that goes when the run ends."""
        if not host.check or moved.before == moved.after:
            return host.lock_file
        path = Path(C.DEFAULT_LOCAL_TMP) / f"driver.lock.{host.name}.yml"
        driver_lock.replace(path, moved.after)
        return path
