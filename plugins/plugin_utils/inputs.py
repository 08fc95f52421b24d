# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What a role was given: its variables as hashes, its own files as a digest. Both are computed on the controller."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

from ansible.errors import AnsibleActionFail, AnsibleError

COLLECTION = Path(__file__).resolve().parents[2]
# Settings of the tool itself (ollama_fleet_full, ...): they say how to run, not what a host shall be.
RESERVED = ("ollama_fleet",)
# What a role's result does not depend on.
NO_PART = {"README.md"}
# They say how a run goes about it, or where something is on the controller; not what a host shall be.
NO_INPUTS = {
    "nvidia_driver_lock_file",
    "nvidia_driver_reboot_enabled",
    "nvidia_driver_reboot_delay",
    "ollama_models_lock_file",
}


@functools.cache
def all_roles():
    """The names of the collection's roles."""
    return sorted(path.name for path in (COLLECTION / "roles").iterdir() if (path / "tasks").is_dir())


def owner(variable, roles):
    """Return which role a variable belongs to: the one with the longest name that starts it, or None."""
    names = [name for name in (*roles, *RESERVED) if variable.startswith(name + "_")]
    longest = max(names, key=len, default=None)
    return None if longest in RESERVED else longest


def digest_of_files(role, root=COLLECTION):
    """Return the SHA-256 over a role's files, their names included."""
    folder = Path(root) / "roles" / role
    result = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in NO_PART:
            for part in (str(path.relative_to(folder)).encode(), path.read_bytes()):
                result.update(len(part).to_bytes(8, "big") + part)
    return result.hexdigest()


def digest_of_value(variable, value):
    """Return the SHA-256 of a variable's value. The name goes in, so that equal values do not show as equal."""
    text = json.dumps([variable, value], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def digest_of_role(role):
    """Return digest_of_files of a role of this collection; its files are read once in a process."""
    return digest_of_files(role)


class Inputs:
    """Computes what roles are given on one host.

    templar, loader: of the action plugin; variables: the host's, as the task sees them.
    """

    def __init__(self, templar, loader, variables, root=COLLECTION):
        self.templar, self.loader, self.variables, self.root = templar, loader, variables, Path(root)

    def of(self, role):
        """Return {variable: SHA-256} of all variables in the role's namespace, its defaults included."""
        roles = {*all_roles(), role}
        merged = {**self._defaults(role), **self.variables}
        names = sorted(name for name in merged if owner(name, roles) == role and name not in NO_INPUTS)
        templar = self.templar.copy_with_new_env(available_variables=merged)
        return {name: digest_of_value(name, self._value(templar, merged, role, name)) for name in names}

    def values(self, role, names):
        """Return {variable: value} of some of a role's variables, its defaults included."""
        merged = {**self._defaults(role), **self.variables}
        templar = self.templar.copy_with_new_env(available_variables=merged)
        return {name: self._value(templar, merged, role, name) for name in names if name in merged}

    def _defaults(self, role):
        path = self.root / "roles" / role / "defaults" / "main.yml"
        return (self.loader.load_from_file(str(path), trusted_as_template=True) or {}) if path.is_file() else {}

    @staticmethod
    def _value(templar, merged, role, name):
        try:
            return templar.template(merged[name])
        except AnsibleError as error:
            host = merged.get("inventory_hostname", "the host")
            raise AnsibleActionFail(
                f"{host}: variable {name} of role {role} has no value: {error}. "
                f"Set what it refers to, or set {name} itself, in the inventory."
            ) from error
