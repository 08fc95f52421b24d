# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The lock file of an environment's models: of what layers each is, wherever it was pulled from.

The digest of a manifest differs between sources of the same weights, because it is written anew on the way; the digests
of its layers do not. What a host makes of a model (aliases, prompts) is the inventory's business and not locked.
"""

from __future__ import annotations

import re
from functools import partial

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import ModelName
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.lock_file import LockFile, as_yaml, entries_in

SCHEMA = "ollama-fleet/models-lock/1"
HEADER = "# Written by ./inv models.lock: what each model is made of, in bytes. Keep it in version control.\n"
REPAIR = "take {path} back from version control, or remove it and run ./inv models.lock"
LAYER = "application/vnd.ollama.image."
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def parse(text, path):
    """Return {name: {digest: size in bytes}} of a lock file's text, digests in the order of the manifest."""
    models = entries_in(text, SCHEMA, "models", partial(problem, path))
    return {name: layers_in(entry, name, path) for name, entry in models.items()}


def layers_in(entry, name, path):
    layers = entry.get("layers") if isinstance(entry, dict) else None
    if not isinstance(layers, dict) or not layers:
        raise problem(path, f"{name} names no layers: a name alone holds nothing")
    for digest, size in layers.items():
        if not _DIGEST.fullmatch(str(digest)) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise problem(path, f"{name} has the layer {digest}: {size}, which is no digest with a size")
    return layers


def problem(path, why):
    return FleetError(f"models lock {path}", why, REPAIR.format(path=path))


def render(models):
    """Return the text of a lock file, the same for the same content."""
    content = {
        "schema": SCHEMA,
        "models": {name: {"size": sum(models[name].values()), "layers": models[name]} for name in sorted(models)},
    }
    return as_yaml(HEADER, content)


FILE = LockFile("models lock", "ollama_models_lock_file", parse, render)


def key_of(name):
    """Return the name under which a model is locked: as the server lists it."""
    return ModelName.parse(name).short


def layers_of(layers):
    """Return {digest: size} of a manifest's layers; its configuration differs between sources and is left out."""
    return {layer["digest"]: layer["size"] for layer in layers or [] if layer["media_type"].startswith(LAYER)}


def locked(models, looked):
    """Return the locked models and those that were not: as a host has them, else as the registry does.

    looked: models of the module model_needs
    """
    result = dict(models)
    for model in looked:
        found = layers_of(model["layers"])
        if found:
            result.setdefault(key_of(model["name"]), found)
    return result


def updated(models, looked, names):
    """Return the locked models with some of them, or all that were looked at, as the registry has them now.

    A name that this host is not to have is another host's. Raises FleetError where the registry does not say: an update
    is a decision that is taken whole or not.
    """
    wanted = {key_of(name) for name in names}
    result = dict(models)
    for model in looked:
        name = key_of(model["name"])
        if wanted and name not in wanted:
            continue
        found = layers_of(model["registry_layers"])
        if not found:
            why = model["registry_why"] or model["why"] or "its registry does not say what it is made of"
            raise FleetError(f"models.lock of {name}", why, model["remedy"] or "see why, then run it again")
        result[name] = found
    return result


def findings(models, looked):
    """Return [{model, kind, text}] of what is not as it is locked. looked: models of the module model_needs

    unlocked: nothing is locked. drift: the host has something else. update: the registry has something else.
    unread: it could not be told
    """
    found = []
    for model in looked:
        name = key_of(model["name"])
        lock = models.get(name)
        here = layers_of(model["layers"]) if model["origin"] == "store" else None
        there = layers_of(model["registry_layers"])
        if lock is None:
            found.append((name, "unlocked", "is not locked"))
        if here and lock and here != lock:
            found.append((name, "drift", f"the host has {differing(lock, here)}"))
        if there and lock and there != lock:
            found.append((name, "update", f"its registry has {differing(lock, there)}"))
        why = model["registry_why"] or model["why"]
        if why:
            found.append((name, "unread", why))
    return [{"model": name, "kind": kind, "text": text} for name, kind, text in found]


def refusal(models, looked):
    """Return a FleetError where a pull would bring something else than what is locked, else None.

    looked: models of the module model_needs
    """
    wrong = []
    for model in looked:
        lock, there = models.get(key_of(model["name"])), layers_of(model["registry_layers"])
        if lock and there and model["origin"] == "registry" and there != lock:
            wrong.append(f"{key_of(model['name'])}: its registry has {differing(lock, there)}")
    if not wrong:
        return None
    return FleetError(
        "nothing was pulled, because models are not those that are locked",
        "; ".join(wrong),
        "see ./inv models.diff; if the new ones are meant: ./inv models.lock --update",
    )


def drifted(models, looked):
    """Return the names, as they were asked for, of models that are there and are not those that are locked."""
    return [
        model["name"]
        for model in looked
        if model["origin"] == "store"
        and models.get(key_of(model["name"]), layers_of(model["layers"])) != layers_of(model["layers"])
    ]


def restorable(models, looked):
    """Return the names of drifted models that the registry has as they are locked. looked: with the registry asked"""
    names = drifted(models, looked)
    there = {model["name"]: layers_of(model["registry_layers"]) for model in looked}
    return [name for name in names if there[name] == models[key_of(name)]]


def differing(lock, other):
    """Return in words what another set of layers has that the lock has not."""
    new = [f"{digest[7:19]} ({size / 1e6:.1f} MB)" for digest, size in other.items() if digest not in lock]
    gone = len([digest for digest in lock if digest not in other])
    words = f"other layers than the lock: {', '.join(new)}" if new else "fewer layers than the lock"
    return f"{words}, without {gone} that it names" if gone else words
