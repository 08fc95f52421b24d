# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Says at the end of a run, in one place, which hosts failed, why, and what to do about it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: problems
type: aggregate
short_description: One clear error for each host that failed
description:
  - At the end of a run with failures, prints one block with one entry for each host that failed or could not be
    reached. Each says what, why, and the remedy. Hosts with the same problem share an entry.
  - Knows what SSH, sudo, apt and full disks say. Messages that name a remedy of their own are passed on as they are.
  - Prints nothing when all is well, and nothing of what C(no_log) hides.
  - A host that fails or cannot be reached never stops the others. Ansible's exit code is then 4 when a host could not
    be reached, else 2.
  - A run in which no play matched any host is a problem as well. Ansible itself ends such a run with 0.
requirements:
  - enabled in the configuration (C(callbacks_enabled = ollama_fleet.stack.problems))
options:
  path:
    description: File that gets the problems as JSON, an empty list included.
    type: path
    env:
      - name: OLLAMA_FLEET_PROBLEMS
author:
  - The ollama-fleet authors
"""

import json
import os
from dataclasses import asdict, dataclass

from ansible import constants as C  # noqa: N812 - its name everywhere in Ansible
from ansible.plugins.callback import CallbackBase
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.explain import explain

# It runs on one host for all of them.
VALIDATION = "ollama_fleet.stack.validate"
# Their messages are written in the roles.
SPOKEN = {"ansible.builtin.assert", "ansible.builtin.fail"}
SCHEMA = "ollama-fleet/problems/1"


@dataclass(frozen=True)
class Problem:
    """What went wrong on one host."""

    host: str
    task: str
    role: str
    what: str
    why: str
    remedy: str


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "ollama_fleet.stack.problems"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self._last = {}
        self._unmatched = []
        self._matched = False
        self._play = None

    def v2_playbook_on_play_start(self, play):
        self._play = play

    def v2_playbook_on_no_hosts_matched(self):
        self._unmatched.append(
            str(self._play.hosts if isinstance(self._play.hosts, str) else ":".join(self._play.hosts))
        )

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._matched = True

    def v2_runner_on_failed(self, result, *_, **__):
        # One that the play passes over ends nobody's run, and is not among the statistics' failures.
        self._keep(result, "failed")

    def v2_runner_on_unreachable(self, result):
        self._keep(result, "could not be reached")

    def v2_playbook_on_stats(self, stats):
        # A failure that a rescue block dealt with is none.
        lost = {**stats.failures, **stats.dark}
        problems = [problem for host, problem in self._last.items() if lost.get(host)]
        if not self._matched and self._unmatched:
            problems.append(_nobody(self._unmatched))
        if problems:
            self._show(problems)
        if path := self.get_option("path"):
            _write(path, problems)

    def _keep(self, result, what):
        """Keep a host's last failure: it is the one that ended its run."""
        task, host = result.task, result.host.get_name()
        role = task._role.get_name().rsplit(".", 1)[-1] if task._role else ""
        name = task.get_name().rsplit(" : ", 1)[-1]
        action = task.resolved_action or ""
        whose = "inventory" if action == VALIDATION else host
        self._last[host] = Problem(whose, name, role, what, *explain(result.result, host, action in SPOKEN))

    def _show(self, problems):
        hosts_of = {}
        for problem in problems:
            told = (problem.what, problem.task, problem.role, problem.why, problem.remedy)
            hosts_of.setdefault(told, []).append(problem.host)
        self._display.banner("PROBLEMS")
        for (what, task, role, why, remedy), hosts in hosts_of.items():
            where = f" (role {role})" if role else ""
            lines = [f"{', '.join(hosts)}: {what}: {why}"]
            lines += [f"  task:   {task}{where}"] if task else []
            lines += [f"  remedy: {remedy}"] if remedy else []
            self._display.display("\n".join(lines) + "\n", color=C.COLOR_ERROR)


def _nobody(patterns):
    return Problem(
        "inventory",
        "",
        "",
        "nothing was done",
        f"no host is in {' or '.join(dict.fromkeys(patterns))}",
        "put hosts into these groups (inventory/sample shows how), or give another --limit",
    )


def _write(path, problems):
    """Write all at once, so that a reader never meets half of it."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump({"schema": SCHEMA, "problems": [asdict(problem) for problem in problems]}, file, indent=2)
        file.write("\n")
    os.replace(f"{path}.new", path)
