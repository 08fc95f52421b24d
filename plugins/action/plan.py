# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Compares what the inventory asks of a host with what the host is, and says which roles are needed and why."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ansible.plugins.action import ActionBase
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import decisions, nvidia
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.inputs import (
    Inputs,
    all_roles,
    digest_of_role,
    owner,
)

PURPOSES = {"install", "configure", "verify"}
SETTLED = "as it should be"
NEVER = "never applied"
# The role runs once all the same, and writes down what it found: from then on, what changes is named.
UNTOUCHED = "nothing to change"


def asked_for(role, tags, roles):
    """Say whether the tags of a run name this role: by its name, one of its tags, or a purpose that all roles have."""
    return any(tag == role or tag in PURPOSES or (tag not in roles and owner(tag, roles) == role) for tag in tags)


def reasons(record, inputs, digest):
    """Return why a role has to run, as sentences; none when the host is as the role left it and as the inventory asks.

    record: host_info's entry of the role, or None
    inputs: {variable: hash} as wanted now
    digest: of the role's files now
    """
    if record is None:
        return [NEVER]
    if not record["complete"]:
        return ["its last run did not reach its end"]
    names = sorted({*record["inputs"], *inputs})
    changed = [name for name in names if record["inputs"].get(name) != inputs.get(name)]
    found = [f"{', '.join(changed)} changed"] if changed else []
    if record["role_digest"] != digest:
        found.append("the role's own files changed")
    return found + record["drift"]


def step_of(role, why, decided=None):
    """Return a step of the plan: whether a role is needed, why, and the specialist's note about it.

    why:     sentences of the records, the run's tags and options
    decided: decisions.as_step, for the roles that decide
    """
    step = {"role": role, "needed": bool(why), "reason": "; ".join(why) or SETTLED, "notes": [], "refusal": None}
    if decided and (why or decided["needed"]):
        # What is wrong or new comes first, what is done about it last.
        first = [UNTOUCHED] if why == [NEVER] and decided["leaves_alone"] else why
        sentences = [*first, *decided["reasons"]]
        step.update(needed=True, reason="; ".join(sentences), notes=decided["notes"], refusal=decided["refusal"])
    return step


def about(host):
    """Return what the header of a host's plan says: its system, kernel and cards."""
    cards = nvidia.cards_line(host["gpus"])
    if host["wsl_gpu"]:
        cards = "GPUs that Windows lends to WSL"
    return {
        "system": host["os"]["name"],
        "architecture": host["os"]["architecture"],
        "kernel": host["kernel"],
        "cards": cards or "no NVIDIA GPU",
    }


def hand_over(path, result):
    """Write a host's plan for the program that asked for it. Only its owner may read what is planned for a fleet."""
    text = json.dumps({"host": result["host"], "steps": result["steps"]})
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            {
                "roles": {"type": "list", "elements": "str", "required": True},
                "full": {"type": "bool", "default": False},
                "state_dir": {"type": "path", "default": "/var/lib/ollama-fleet"},
                "folder": {"type": "path"},
            }
        )
        observed = self._execute_module(
            module_name="ollama_fleet.stack.host_info",
            module_args={"state_dir": arguments["state_dir"]},
            task_vars=task_vars,
        )
        if observed.get("failed") or "ansible_facts" not in observed:
            return {**result, **observed}
        facts = observed["ansible_facts"]
        host = facts["ollama_fleet"]
        variables = {**task_vars, "ansible_facts": {**task_vars.get("ansible_facts", {}), **facts}}
        inputs = Inputs(self._templar, self._loader, variables)
        tags = [tag for tag in task_vars.get("ansible_run_tags", []) if tag != "all"]
        steps = []

        def ask(names, url):
            return self._package_versions(host, names, url, task_vars)

        for role in arguments["roles"]:
            why = reasons(host["records"].get(role), inputs.of(role), digest_of_role(role))
            if not why and arguments["full"]:
                why = ["asked for in full"]
            if not why and asked_for(role, tags, all_roles()):
                why = [f"asked for by tags {', '.join(tags)}"]
            steps.append(step_of(role, why, decisions.of_role(role, host, inputs.values, ask)))
        result.update(
            changed=False,
            ansible_facts=facts,
            host=about(host),
            steps=steps,
            needed=[step["role"] for step in steps if step["needed"]],
        )
        if arguments["folder"]:
            hand_over(Path(arguments["folder"]) / f"{task_vars['inventory_hostname']}.json", result)
        return result

    def _package_versions(self, host, names, url, task_vars):
        """Ask the host which versions its repositories have. Read-only; runs only where a change waits."""
        manager = "dnf" if host["os"]["family"] == "redhat" else "apt"
        return self._execute_module(
            module_name="ollama_fleet.stack.package_versions",
            module_args={"names": names, "manager": manager, **({"repository_url": url} if url else {})},
            task_vars=task_vars,
        )
