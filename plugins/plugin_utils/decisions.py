# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What roles decide about a host, asked before they run: what the plan shows and the role does is one decision."""

from __future__ import annotations

import datetime

from ansible.errors import AnsibleActionFail
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import driver_lock, native_ollama, nvidia

TOOLKIT_VARIABLES = ("nvidia_container_toolkit_version", "nvidia_container_toolkit_repository_url")
DRIVER_VARIABLES = (
    "nvidia_driver_branch",
    "nvidia_driver_version",
    "nvidia_driver_flavor",
    "nvidia_driver_source",
    "nvidia_driver_reboot_enabled",
    "nvidia_driver_lock_file",
    "nvidia_driver_repository_url",
)


def this_month():
    today = datetime.date.today()
    return [today.year, today.month]


def wishes(values, today):
    """Return what driver_plan wants to know of the role's variables."""
    return {
        "branch": int(values["nvidia_driver_branch"]),
        "version": values.get("nvidia_driver_version", ""),
        "flavor": values.get("nvidia_driver_flavor", "auto"),
        "source": values.get("nvidia_driver_source", "auto"),
        "reboot_enabled": bool(values.get("nvidia_driver_reboot_enabled", False)),
        "today": today,
    }


def read_lock(path):
    """Return {platform: entry} of the lock file; empty where there is none yet."""
    try:
        return driver_lock.read(path)
    except FleetError as error:
        raise AnsibleActionFail(str(error)) from error


def repository_url(values, decision):
    """Return the address of the decision's repository, or None where the distribution has the packages."""
    if decision["source"] != "cuda":
        return None
    return f"{values['nvidia_driver_repository_url'].rstrip('/')}/{decision['repository']}"


def with_versions(decision, wish, found):
    """Return the decision with exact versions, from what package_versions found on the host.

    found: the module's result. Where it failed, the decision says that the version is not known yet, and why.
    """
    if found.get("failed") or found.get("unreachable"):
        why = str(found.get("msg", "the host could not be asked")).rstrip(".")
        return noted(decision, "version", "not known yet", f"{why}; it is chosen and locked when the host can be asked")
    try:
        packages = nvidia.choose_versions(decision, found.get("versions") or {}, wish)
    except nvidia.RefusalError as error:
        return {**decision, "action": "refuse", "reasons": [str(error)], "refusal": error.as_result()}
    version = nvidia.upstream(next(iter(packages.values())))
    reasons = [text.replace(f"the newest of branch {decision['branch']}", version) for text in decision["reasons"]]
    why = f"the newest of branch {decision['branch']} that all packages have; not locked yet"
    return noted({**decision, "version": version, "packages": packages, "reasons": reasons}, "version", version, why)


def noted(decision, topic, choice, reason):
    notes = [
        {"topic": topic, "choice": choice, "reason": reason} if note["topic"] == topic else note
        for note in decision["notes"]
    ]
    return {**decision, "notes": notes}


def versions_wanted(decision):
    """Whether the packages' versions have to be asked for: a change waits, and nothing says which version."""
    return decision["action"] in ("install", "wait") and bool(decision["packages"]) and not decision["version"]


def of_driver(host, values, ask, today=None):
    """Return the driver's decision. ask(names, repository_url) runs package_versions on the host, at need only."""
    wants = wishes(values, today or this_month())
    lock = read_lock(values["nvidia_driver_lock_file"]) if values.get("nvidia_driver_lock_file") else {}
    decision = nvidia.driver_plan(host, wants, lock)
    if versions_wanted(decision):
        found = ask(sorted(decision["packages"]), repository_url(values, decision))
        decision = with_versions(decision, wants["version"], found)
    return decision


def of_role(role, host, values_of, ask, today=None):
    """Return what a role decides about a host as as_step does, or None for roles that decide nothing.

    values_of(role, names) returns those variables of the role.
    """
    if role == "nvidia_driver":
        return as_step(of_driver(host, values_of(role, DRIVER_VARIABLES), ask, today))
    if role == "nvidia_container_toolkit":
        values = values_of(role, TOOLKIT_VARIABLES)
        return as_step(nvidia.toolkit_plan(host, *(values[name] for name in TOOLKIT_VARIABLES)))
    if role == "ollama":
        return native_ollama.decide(host, values_of(role, native_ollama.VARIABLES))
    return None


def as_step(decision):
    """Return what the plan takes from a driver's or the toolkit's decision.

    needed: whatever the record says; leaves_alone: whether what is there stays, and is nobody's to hold
    """
    settled = decision["action"] in ("keep", "skip") or decision.get("complete", False)
    return {
        "needed": not settled,
        "leaves_alone": settled and not decision["packages"],
        "reasons": decision["reasons"],
        "notes": decision["notes"],
        "refusal": decision["refusal"],
        "action": decision["action"],
    }
