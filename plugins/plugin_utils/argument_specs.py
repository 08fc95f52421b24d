# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The variables that the collection's roles take, and what is wrong with a value for one of them.

A value is judged as strictly as the roles need it: Ansible itself would take the text "yes" for a bool and "a,b" for a
list, but does not convert what a role is given, so that a condition or a loop would fail much later.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import ModelName
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.inputs import COLLECTION

HIDDEN = "<secret>"

_SECRET = re.compile(r"(^|_)(secret|password|token|key)$", re.IGNORECASE)
_CREDENTIALS = re.compile(r"//[^/@\s]+@")
_LONGEST = 60

_WANTED = {
    "bool": "true or false, without quotes",
    "dict": "a mapping",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "path": "a path",
    "str": "text",
}
_PORT = re.compile(r"(^|_)port$")
_IMAGE = re.compile(r"(^|_)image$")
_FINGERPRINT = re.compile(r"(^|_)fingerprint$")
_CHECKSUM = re.compile(r"(^|_)checksum$")
_MODEL = re.compile(r"^ollama_models_(group_|host_)?list\[\d+\]\.(name|source|alias|from)$")
_REFERENCE = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?",
    re.ASCII,
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `value` is fit to be shown: no secret is in it. `source` is what was written."""

    variable: str
    value: str
    why: str
    remedy: str
    source: object = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class RoleSpec:
    """What one role takes: {variable: its argument spec}, and its defaults as they are written."""

    name: str
    options: dict
    defaults: dict = field(default_factory=dict)

    @property
    def required(self):
        return [name for name, spec in self.options.items() if spec.get("required")]


def read_roles(loader, root=COLLECTION):
    """Return {role: RoleSpec} of all roles in the collection."""
    roles = {}
    for path in sorted(Path(root).glob("roles/*/meta/argument_specs.yml")):
        folder = path.parents[1]
        name = folder.name
        try:
            # Specs hold no templates, so the fast parser will do.
            specs = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
            options = specs["argument_specs"]["main"].get("options") or {}
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise AnsibleError(f"role {name}: its variables cannot be read from {path}: {error!r}") from error
        defaults = folder / "defaults" / "main.yml"
        known = loader.load_from_file(str(defaults), trusted_as_template=True) if defaults.is_file() else None
        roles[name] = RoleSpec(name, options, known or {})
    return roles


def is_secret(name, spec=None):
    """Say whether a value must never be shown: the spec says so, or the name does."""
    return bool((spec or {}).get("no_log")) or bool(_SECRET.search(name))


def shown(name, value, spec=None):
    """Return a value as short text, without the secrets in it."""
    text = _text(_without_secrets(name, value, spec or {}))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _without_secrets(name, value, spec):
    if is_secret(name, spec):
        return HIDDEN
    if isinstance(value, dict):
        options = spec.get("options") or {}
        return {key: _without_secrets(str(key), part, options.get(key) or {}) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_secrets(name, part, spec) for part in value]
    if isinstance(value, str):
        return _CREDENTIALS.sub(f"//{HIDDEN}@", value)
    # What is none of these is a value that is encrypted in its place.
    return value if value is None or isinstance(value, (bool, int, float)) else HIDDEN


def _text(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(part) for part in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return f"'{value}'" if isinstance(value, str) and value != HIDDEN else str(value)


def nearest(name, known):
    """Return the known name that a person may have meant, or None."""
    return next(iter(get_close_matches(name, known, n=1, cutoff=0.75)), None)


@dataclass(frozen=True)
class Item:
    """A value that is to be judged.

    path:    what to call it: ollama_models_list[0].name
    spec:    its argument spec
    raw:     as it was written, templates and all: that is shown, since a rendered value may hold a secret
    example: a value that the role would take, for the remedy
    """

    path: str
    name: str
    value: object
    spec: dict
    raw: object
    example: object = None

    def finding(self, why, remedy):
        return Finding(self.path, shown(self.name, self.raw, self.spec), why, remedy, self.raw)

    def member(self, key, spec):
        return Item(f"{self.path}.{key}", str(key), self.value.get(key), spec, _part(self.raw, key))

    def element(self, index):
        spec = {**self.spec, "type": self.spec.get("elements", "raw"), "choices": None}
        return Item(f"{self.path}[{index}]", self.name, self.value[index], spec, _part(self.raw, index))


def check(item):
    """Yield what is wrong with a variable's value."""
    if item.value is not None:
        yield from _check(item)
    elif item.spec.get("required") or item.example is not None:
        yield item.finding("has no value", "give it one, or remove the line to get the default")


def _check(item):
    kind, value = item.spec.get("type", "str"), item.value
    choices = item.spec.get("choices")
    if not _is(kind, value):
        yield _wrong_type(item, kind)
    elif choices and any(part not in choices for part in (value if kind == "list" else [value])):
        meant = nearest(str(value), [str(choice) for choice in choices])
        remedy = "write one of " + ", ".join(str(choice) for choice in choices)
        yield item.finding("is none of the choices", remedy + (f" (did you mean {meant}?)" if meant else ""))
    elif kind == "list":
        for index in range(len(value)):
            yield from _check(item.element(index))
    elif kind == "dict" and item.spec.get("options"):
        yield from _check_members(item)
    elif kind == "int" and _PORT.search(item.name) and not 1 <= int(value) <= 65535:
        yield item.finding("is no port", "write a number from 1 to 65535")
    elif isinstance(value, str):
        problem = _format_problem(item)
        if problem:
            yield item.finding(*problem)


def _wrong_type(item, kind):
    wanted = _WANTED.get(kind, kind)
    remedy = f"write {wanted}"
    if item.example is not None and "{{" not in str(item.example) and not is_secret(item.name, item.spec):
        remedy += f", for example {shown(item.name, item.example, item.spec)}"
    if kind == "bool" and item.path == item.name:
        remedy += f"; on the command line: -e '{{\"{item.name}\": true}}'"
    return item.finding(f"is {_kind_of(item.value)}, wants {wanted}", remedy)


def _check_members(item):
    """Check a mapping whose keys are known."""
    options = item.spec["options"]
    for key, part in item.value.items():
        if key not in options:
            meant = nearest(str(key), options)
            remedy = f"did you mean {meant}?" if meant else f"remove it; known are {', '.join(sorted(options))}"
            yield item.member(key, {}).finding("is unknown", remedy)
        elif part is not None:
            yield from _check(item.member(key, options[key]))
    for key, spec in options.items():
        if spec.get("required") and item.value.get(key) is None:
            wanted = _WANTED.get(spec.get("type", "str"), "a value")
            yield Finding(f"{item.path}.{key}", "", "is missing", f"add it: {wanted}", item.raw)


def _part(raw, key):
    """The written form of a part: its own, or that of the template that makes the whole."""
    if isinstance(raw, (dict, list)):
        try:
            return raw[key]
        except (KeyError, IndexError):
            return None
    return raw


def _is(kind, value):
    if kind == "raw" or value is None:
        return kind == "raw"
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "list":
        return isinstance(value, list)
    if kind == "dict":
        return isinstance(value, dict)
    if isinstance(value, (list, dict)) or (isinstance(value, bool) and kind in {"int", "float"}):
        return False
    return not _validator(kind).validate({"value": value}).error_messages


@functools.cache
def _validator(kind):
    return ArgumentSpecValidator({"value": {"type": kind}})


def _kind_of(value):
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "a number" if isinstance(value, (int, float)) else "text"


def _format_problem(item):
    """Return (why, remedy) when a text is not what its variable's name says it is, else None."""
    if _IMAGE.search(item.name):
        return _image_problem(item.value)
    if _FINGERPRINT.search(item.name):
        return _fingerprint_problem(item.value)
    if _CHECKSUM.search(item.name):
        # A role that can do without one has none as its default, and says itself when it needs one.
        return None if item.value == item.spec.get("default") else _checksum_problem(item.value)
    return _model_problem(item) if _MODEL.match(item.path) else None


def _model_problem(item):
    try:
        ModelName.parse(item.value)
    except FleetError as error:
        # The reason quotes the name, which is fit to be shown only as it was written.
        return "is no model name" + (f": {error.why}" if item.value == item.raw else ""), error.remedy
    if ":" not in item.value.rsplit("/", 1)[-1]:
        return "names no tag, so what it means may change", "write one, for example llama3.2:3b"
    return None


def _image_problem(value):
    """Return (why, remedy) when a name does not say which image, else None."""
    found = _REFERENCE.fullmatch(value)
    if not found:
        return "is no image name", "write [host[:port]/]name:tag or name@sha256:DIGEST"
    pinned = "name a version, or better a digest: name@sha256:DIGEST"
    if found["digest"]:
        return None
    if found["tag"] is None:
        return "has neither tag nor digest, so it may be another image tomorrow", pinned
    if found["tag"].lower() == "latest":
        return "floats: that tag may be another image tomorrow", pinned
    return None


def _fingerprint_problem(value):
    """Return (why, remedy) when a text cannot be the fingerprint of an OpenPGP key (SHA-1, RFC 4880), else None."""
    if not value or re.fullmatch(r"[0-9A-Fa-f]{40}", value):
        return None
    return (
        "is no key's fingerprint",
        "write its 40 hexadecimal digits without spaces: gpg --show-keys --with-colons FILE",
    )


def _checksum_problem(value):
    """Return (why, remedy) when a text is no checksum with its algorithm, else None."""
    if re.fullmatch(r"sha256:[0-9A-Fa-f]{64}|sha512:[0-9A-Fa-f]{128}", value):
        return None
    return "is no checksum", "write sha256: and the 64 hexadecimal digits that sha256sum prints"
