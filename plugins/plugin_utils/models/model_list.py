# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The one list of a host's models: what fleet, group and host ask for, in the order in which it can be done.

An entry names a model and one way to get it:
  (nothing), source    pull it, by its name or by another
  alias                another name for a model of the list
  from, with system, template, parameters    made of a model of the list
  file, checksum, with the same    made of a GGUF file of the controller
"""

from __future__ import annotations

import re

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import ModelName

LISTS = ("ollama_models_list", "ollama_models_group_list", "ollama_models_host_list")
WAYS = ("source", "alias", "from", "file")
# What only a model that is made has, and what only one that is pulled has.
MADE = ("system", "template", "parameters")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")


def way_of(entry):
    """Return how a model is had: absent, pull, alias, from or file."""
    if entry.get("state", "present") == "absent":
        return "absent"
    return next((way for way in ("alias", "from", "file") if entry.get(way)), "pull")


def base_of(entry):
    """Return the name of the model of the list that this one is another name for, or is made of; else None."""
    return entry.get("alias") or entry.get("from")


def pulled(entries):
    """Return what the module model_needs is asked: name, source and insecure of the models that are pulled."""
    wanted_keys = ("name", "source", "insecure")
    return [{key: entry[key] for key in wanted_keys if entry.get(key)} for entry in entries if way_of(entry) == "pull"]


def merged(*lists):
    """Return the entries of several lists as one; of the same model the later list's entry counts, as a whole."""
    found = {}
    for entries in lists:
        for entry in entries:
            found[ModelName.parse(entry["name"]).key] = entry
    return list(found.values())


def problems(entries):
    """Return [(name, why, remedy)] of what is wrong with a merged list, whoever asks for it."""
    present = {ModelName.parse(entry["name"]).key for entry in entries if way_of(entry) != "absent"}
    found = []
    for entry in entries:
        wrong = _problem(entry, present)
        if wrong:
            found.append((entry["name"], *wrong))
    return found or _circles(entries)


def _problem(entry, present):
    """Return (why, remedy) of the first thing that is wrong with an entry, or None."""
    if not _tagged(entry["name"]):
        return "names no tag, so what it means would change over time", "write one, for example llama3.2:3b"
    ways = [way for way in WAYS if entry.get(way)]
    base, way = base_of(entry), way_of(entry)
    given = [key for key in MADE if entry.get(key)]
    extra = [key for key in (*WAYS, *MADE, "checksum", "insecure") if entry.get(key)]
    checks = [
        (way == "absent" and extra, f"is absent and has {', '.join(extra)}", "leave its name and its state"),
        (len(ways) > 1, f"has {' and '.join(ways)}", "leave one of them: each is another way to get the model"),
        (way in ("pull", "alias") and given, f"has {', '.join(given)} and is not made", "add from or file"),
        (
            way == "from" and not given,
            "is made from a model and changes nothing of it",
            "add system, template or parameters, or write alias: for another name",
        ),
        (
            way == "file" and not _CHECKSUM.fullmatch(entry.get("checksum") or ""),
            "has a file without the checksum that it must have",
            "add checksum: sha256: and the 64 digits of sha256sum, in lower case",
        ),
        (way != "file" and entry.get("checksum"), "has a checksum and no file", "add file, or take the checksum away"),
        (
            base and ModelName.parse(base).key not in present,
            f"needs {base}, which the host is not to have",
            "list that model as well, with state present",
        ),
    ]
    return next(((why, remedy) for wrong, why, remedy in checks if wrong), None)


def _tagged(name):
    return ":" in name.rsplit("/", 1)[-1]


def _circles(entries):
    try:
        in_order(entries)
    except FleetError as error:
        return [(error.what, error.why, error.remedy)]
    return []


def in_order(entries):
    """Return the entries so that what is to go is first, which makes room, and each model comes after its base."""
    by_key = {ModelName.parse(entry["name"]).key: entry for entry in entries}
    result = [entry for entry in entries if way_of(entry) == "absent"]
    done = {ModelName.parse(entry["name"]).key for entry in result}

    def add(entry, waiting):
        key = ModelName.parse(entry["name"]).key
        if key in waiting:
            names = ", ".join(by_key[name]["name"] for name in waiting)
            raise FleetError(entry["name"], f"is in the end made of itself ({names})", "break the circle")
        if key in done:
            return
        if base_of(entry):
            add(by_key[ModelName.parse(base_of(entry)).key], [*waiting, key])
        done.add(key)
        result.append(entry)

    for entry in entries:
        add(entry, [])
    return result


def wanted(*lists, source_host=""):
    """Return the merged list in order, each entry with its way; FleetError with all that is wrong with it.

    source_host: HOST[:PORT] of the model cache for what is pulled and names no source of its own
    """
    entries = merged(*lists)
    found = problems(entries)
    if found:
        why = "; ".join(f"{name} {why}" for name, why, _remedy in found)
        raise FleetError("the models of this host", why, "; ".join(dict.fromkeys(remedy for *_, remedy in found)))
    return [{**entry, "way": way_of(entry), **source_of(entry, source_host)} for entry in in_order(entries)]


def source_of(entry, source_host):
    """Return {source: name} for a model that is pulled from the model cache, else nothing."""
    if not source_host or way_of(entry) != "pull" or entry.get("source"):
        return {}
    return {"source": ModelName.parse(entry["name"]).at(source_host).short}
