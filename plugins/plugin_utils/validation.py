# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Finds everything that is wrong with the variables of all hosts, before any host is touched."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.parsing.vault import AnsibleVaultError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import ModelName
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.argument_specs import (
    Finding,
    Item,
    check,
    nearest,
    shown,
)
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.inputs import RESERVED, owner
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models import model_list
from jinja2 import Environment, TemplateError, meta

try:
    # Where a value was written. Not a public interface: without it, messages name no file.
    from ansible._internal._datatag._tags import Origin
except ImportError:
    Origin = None

# Settings of the tool itself, which no role's spec knows.
SETTINGS = (
    "ollama_fleet_full",
    "ollama_fleet_plan_folder",
    "ollama_fleet_driver_to",
    "ollama_fleet_models_mode",
    "ollama_fleet_models_names",
    "ollama_fleet_remove_models",
)

# Templates with these see more than the variables that they name.
_DYNAMIC = {"lookup", "query", "q", "vars", "varnames", "now"}
_LOOKUP = re.compile(r"\{\{ *(?P<name>[A-Za-z_]\w*)(?P<steps>(?:\.[A-Za-z_]\w*|\[[A-Za-z_]\w*\])*) *\}\}")
_STEP = re.compile(r"\.(\w+)|\[(\w+)\]")
_SYNTAX = Environment(autoescape=True)
_NOWHERE = ""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, wherever it is: `who` is a host, a group, or all hosts."""

    who: str
    finding: Finding
    place: str = _NOWHERE

    def __str__(self):
        value = f" = {self.finding.value}" if self.finding.value else ""
        place = f" in {self.place}" if self.place else ""
        return f"{self.who}: {self.finding.variable}{value}{place} {self.finding.why}. Remedy: {self.finding.remedy}"


class Renderer:
    """Renders variables of many hosts. A template that sees the same values on other hosts is rendered once.

    Values are told apart by identity: Ansible hands the same object to all hosts of a group. They must outlive this.
    """

    def __init__(self, templar):
        self._templar = templar.copy_with_new_env(available_variables={})
        self._names = {}
        self._rendered = {}

    def value(self, variables, name):
        """Return a variable's value; AnsibleError when it has none, KeyError when it waits for the host's facts."""
        raw = variables[name]
        if self._names_in(raw) is None:
            return raw
        found = self._looked_up(variables, raw)
        if found is not None:
            return found
        seen = self._seen(variables, raw)
        if "ansible_facts" in seen:
            raise KeyError("ansible_facts")
        key = None if _DYNAMIC & seen.keys() else (id(raw), frozenset(seen.items()))
        if key not in self._rendered:
            self._templar.available_variables = variables
            try:
                result = self._templar.template(raw)
            except AnsibleError as error:
                result = error
            if key is None:
                return _or_raise(result)
            self._rendered[key] = result
        return _or_raise(self._rendered[key])

    def _looked_up(self, variables, raw):
        """Return what a template like {{ a[b].c }} refers to, None when it takes a real rendering to tell.

        A fleet's certificates are picked like this for each host. It is a hundred times quicker than compiling.
        """
        path = _LOOKUP.fullmatch(raw) if isinstance(raw, str) else None
        if not path:
            return None
        value = variables.get(path["name"])
        for attribute, variable in _STEP.findall(path["steps"]):
            key = attribute or variables.get(variable)
            if self._names_in(key) is not None or not isinstance(value, dict) or hasattr(value, str(key)):
                return None
            value = value.get(key)
        return value if self._names_in(value) is None else None

    def _seen(self, variables, raw):
        """Return {name: identity of its value} of all that a template refers to, however far."""
        seen, waiting = {}, [raw]
        while waiting:
            for name in self._names_in(waiting.pop()) or ():
                if name not in seen:
                    seen[name] = id(variables.get(name))
                    waiting.append(variables.get(name))
        return seen

    def _names_in(self, value):
        if id(value) not in self._names:
            self._names[id(value)] = names_in(value)
        return self._names[id(value)]


def _or_raise(result):
    if isinstance(result, AnsibleError):
        raise result
    return result


def names_in(value):
    """Return the variables that the templates in a value name; None when there is nothing to render in it."""
    if isinstance(value, str):
        return _names_in_text(str(value))
    if isinstance(value, (dict, list)):
        parts = value.values() if isinstance(value, dict) else value
        found = [names for names in map(names_in, parts) if names is not None]
        return frozenset().union(*found) if found else None
    # What is none of these is a value that is encrypted in its place: it has to be rendered, and names nothing.
    return None if value is None or isinstance(value, (bool, int, float)) else frozenset()


def _names_in_text(text):
    if "{{" not in text and "{%" not in text:
        return None
    try:
        return frozenset(meta.find_undeclared_variables(_SYNTAX.parse(text)))
    except TemplateError:
        # The template is broken: rendering will tell.
        return frozenset(_DYNAMIC)


@dataclass
class Fleet:
    """All hosts of a play with their variables as written.

    variables: {host: {variable: value}}
    groups:    {group: [hosts]}
    stack:     {group: [roles that its hosts get]}
    roles:     {role: RoleSpec}
    templar:   of the action plugin
    shared:    variables that every host sees besides its own (hostvars, ...)
    folder:    of the inventory; places are named relative to it
    """

    variables: dict
    groups: dict
    stack: dict
    roles: dict
    templar: object
    shared: dict = field(default_factory=dict)
    folder: Path | None = None

    def __post_init__(self):
        self._renderer = Renderer(self.templar)
        self._defaults = {name: value for role in self.roles.values() for name, value in role.defaults.items()}
        self._owners = {name: role for role in self.roles.values() for name in role.options}
        self._order = list(dict.fromkeys(role for roles in self.stack.values() for role in roles))
        self._judged = {}

    def problems(self):
        """Return every Problem, in the order of the hosts; the same one on many hosts is told once."""
        hosts_of = {}
        for host, variables in self.variables.items():
            for found in [*self._of_host(host, variables), *self._models_together(host, variables)]:
                hosts_of.setdefault((found, self._place(found.source)), []).append(host)
        told = [Problem(self._who(hosts), finding, place) for (finding, place), hosts in hosts_of.items()]
        return told + list(self._same_addresses())

    def outsiders(self):
        """Return the hosts that are in no group of the stack, so that they get nothing."""
        inside = {host for group in self.stack for host in self.groups.get(group, ())}
        return [host for host in self.variables if host not in inside]

    def roles_of(self, host):
        """Return the RoleSpecs of a host's groups."""
        names = {role for group, roles in self.stack.items() if host in self.groups.get(group, ()) for role in roles}
        return [self.roles[name] for name in self._order if name in names]

    def _of_host(self, host, variables):
        """Yield the Findings of one host."""
        mine = {role.name for role in self.roles_of(host)}
        scope = {**self._defaults, **self.shared, **variables}
        locked = False
        for name, raw in variables.items():
            role = self._owners.get(name)
            if role is None:
                yield from self._unknown(name, raw)
            elif role.name in mine:
                try:
                    value = self._renderer.value(scope, name)
                except KeyError:
                    continue
                except AnsibleError as error:
                    if _is_vault(error):
                        locked = True
                    else:
                        yield self._unrendered(name, role, error, raw)
                else:
                    yield from self._judge(role, name, value, raw)
        if locked:
            yield _LOCKED
        for role in self.roles_of(host):
            for name in role.required:
                if scope.get(name) is None and name not in variables:
                    yield self._missing(role, name)

    def _judge(self, role, name, value, raw):
        key = (name, id(value), id(raw))
        if key not in self._judged:
            item = Item(name, name, value, role.options[name], raw, role.defaults.get(name))
            found = [*check(item)]
            if not found and name in model_list.LISTS:
                found = [*_same_models(item)]
            # The value is kept, so that its identity stays its own.
            self._judged[key] = value, found
        return self._judged[key][1]

    def _models_together(self, host, variables):
        """Return what is wrong with the models of a host only when its lists are taken as one."""
        role = next((role for role in self.roles_of(host) if model_list.LISTS[0] in role.options), None)
        scope = {**self._defaults, **self.shared, **variables}
        lists = {}
        for name in model_list.LISTS if role else ():
            try:
                value = self._renderer.value(scope, name) if variables.get(name) else ()
            except (KeyError, AnsibleError):
                return []
            # A list that is wrong by itself has been told.
            if value and self._judge(role, name, value, variables[name]):
                return []
            lists[name] = value
        key = tuple(id(value) for value in lists.values())
        if any(lists.values()) and key not in self._judged:
            # The values are kept, so that their identities stay their own.
            self._judged[key] = lists, [*_wrong_together(lists, variables)]
        return self._judged[key][1] if key in self._judged else []

    def _unknown(self, name, raw):
        role = owner(name, self.roles)
        reserved = any(name.startswith(prefix + "_") for prefix in RESERVED)
        if name in SETTINGS or not (role or reserved):
            return
        meant = nearest(name, SETTINGS if role is None else [*self.roles[role].options, *self._owners])
        where = f"; roles/{role}/README.md lists the role's variables" if role else ""
        yield Finding(
            name,
            shown(name, raw),
            f"is no variable of the role {role}" if role else "is no setting of ollama-fleet",
            f"did you mean {meant}?" if meant else f"remove it{where}",
            # Numbers and texts know where they were written; else the name does.
            raw if self._place(raw) else name,
        )

    @staticmethod
    def _unrendered(name, role, error, raw):
        reason = " ".join(str(error).split())
        reason = reason.rsplit("': ", 1)[-1] if reason.startswith("Error while") else reason
        from_vault = "vault_" in f"{raw} {reason}"
        # What is undefined is told by its name. Other errors may quote values.
        if from_vault and not isinstance(error, AnsibleUndefinedVariable):
            reason = "its template fails"
        if from_vault:
            remedy = "./inv secrets.init makes what is missing in the vault; run it after every change of hosts"
        else:
            remedy = (
                "define what it refers to, correct the template, or mark braces that are not Ansible's with !unsafe"
            )
        written = shown(name, raw, role.options[name])
        return Finding(name, written, f"cannot be rendered: {reason.rstrip('.')}", remedy, raw)

    @staticmethod
    def _missing(role, name):
        return Finding(
            name,
            "",
            f"is missing, and the role {role.name} cannot do without",
            f"set it in the inventory; inventory/sample and roles/{role.name}/README.md show how",
        )

    def _same_addresses(self):
        """Yield a Problem for each set of hosts that Ansible would reach at one address."""
        hosts_at = {}
        for host, variables in self.variables.items():
            try:
                hosts_at.setdefault(self._address(host, variables), []).append(host)
            except AnsibleError as error:
                finding = Finding("ansible_host", "", f"cannot be rendered: {error}", "correct the template")
                yield Problem(host, finding)
        for (address, port, _way), hosts in hosts_at.items():
            if len(hosts) > 1:
                variable, value, why = "ansible_host", address, f"with port {port} is the address of {len(hosts)} hosts"
                if not address:
                    variable, value, why = "ansible_connection", "local", f"makes one machine of {len(hosts)} hosts"
                remedy = "give each host its own address, or keep one name for the host"
                yield Problem(_listed(hosts), Finding(variable, value, why, remedy))

    def _address(self, host, variables):
        """What tells hosts apart: address, port, and the way there (behind jump hosts, addresses may repeat)."""
        scope = {**self.shared, **variables}

        def first(*names):
            found = next((name for name in names if variables.get(name) is not None), None)
            return found and str(self._renderer.value(scope, found))

        if first("ansible_connection") in {"local", "ansible.builtin.local"}:
            return "", "", ""
        address = first("ansible_ssh_host", "ansible_host") or host
        way = " ".join(filter(None, (first("ansible_ssh_common_args"), first("ansible_ssh_extra_args"))))
        return address.lower(), first("ansible_ssh_port", "ansible_port") or "22", way if "Proxy" in way else ""

    def _who(self, hosts):
        if len(hosts) == 1:
            return hosts[0]
        if len(hosts) == len(self.variables):
            return "all hosts"
        known = set(self.variables)
        group = next((group for group in sorted(self.groups) if known & set(self.groups[group]) == set(hosts)), None)
        return f"group {group}" if group else _listed(hosts)

    def _place(self, value):
        """Where a value was written, as file:line; nothing where that is not known."""
        origin = Origin and Origin.get_tag(value)
        if origin is None or not origin.path:
            return _NOWHERE
        path = Path(origin.path)
        if self.folder and path.is_relative_to(self.folder):
            path = path.relative_to(self.folder)
        return f"{path}:{origin.line_num}" if origin.line_num else str(path)


_LOCKED = Finding(
    "the vault",
    "",
    "cannot be decrypted",
    "put the password that it was encrypted with into .vault_password in the inventory's folder, "
    "or name its file with ANSIBLE_VAULT_PASSWORD_FILE",
)


def _is_vault(error):
    while error is not None:
        # Inside a template it is an UndecryptableVaultError, which is not public.
        if isinstance(error, AnsibleVaultError) or "VaultError" in type(error).__name__:
            return True
        error = error.__cause__
    return False


def _same_models(models):
    seen = {}
    for index, model in enumerate(models.value):
        key = ModelName.parse(model["name"]).key
        if key in seen:
            name = models.element(index).member("name", {})
            yield name.finding(f"is the same model as {seen[key]}", "list each model once")
        seen.setdefault(key, f"{models.path}[{index}].name")


def _wrong_together(lists, variables):
    for called, why, remedy in model_list.problems(model_list.merged(*lists.values())):
        name = next(name for name in reversed(lists) if called in [entry["name"] for entry in lists[name]])
        yield Finding(name, f"'{called}'", why, remedy, variables[name])


def _listed(hosts):
    return ", ".join(hosts) if len(hosts) <= 4 else f"{', '.join(hosts[:3])} and {len(hosts) - 3} more"
