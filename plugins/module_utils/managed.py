# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The things that a role manages on a host: how they are recorded, and how a later state differs from the record.

What was recorded is a dictionary of the same shape everywhere (``manages`` in /var/lib/ollama-fleet/ROLE.json)::

    files:      {path: {sha256, mode, owner}}
    links:      {path: target}
    packages:   {name: version}
    holds:      {name: true}
    services:   {unit: {active, enabled}}
    members:    {group: [user]}
    containers: {name: {image_id, config_hash}}
    models:     {name: {digest, base_url}}
    stores:     {folder of a model store: {blob: size in bytes}}
    facts:      {name: value}

``host`` is anything with the look-ups of ``observe.Host``.
"""

from __future__ import annotations

KINDS = ("files", "links", "packages", "holds", "services", "members", "containers", "models", "stores", "facts")


def snapshot(wanted, host):
    """Return what is true now of the things named in ``wanted``, and a sentence for each that is not there.

    wanted: {files: [path], links: [path], packages: [name], holds: [name], services: [unit], members: {group: [user]},
             containers: [name], models: [{name, base_url, digest?}], stores: [folder], facts: [name]}
    Returns (manages, missing).
    """
    manages = {kind: {} for kind in KINDS}
    missing = []

    def keep(kind, name, value, sentence):
        if value is None:
            missing.append(sentence)
        else:
            manages[kind][name] = value

    for path in wanted.get("files") or []:
        keep("files", path, host.file(path), f"{path} does not exist")
    for path in wanted.get("links") or []:
        keep("links", path, host.link(path), f"{path} is no link")
    for name in wanted.get("packages") or []:
        keep("packages", name, host.package(name), f"package {name} is not installed")
    for name in wanted.get("holds") or []:
        keep("holds", name, host.held(name) or None, f"package {name} is not held at its version")
    for group, users in (wanted.get("members") or {}).items():
        absent = sorted(set(users) - set(host.members(group) or []))
        keep("members", group, None if absent else sorted(users), f"{', '.join(absent)} not in group {group}")
    units = wanted.get("services") or []
    states = host.services(units)
    for unit in units:
        keep("services", unit, states[unit], f"service {unit} does not exist")
    for name in wanted.get("containers") or []:
        container = host.container(name)
        identity = container and {key: container[key] for key in ("image_id", "config_hash")}
        keep("containers", name, identity, f"container {name} does not exist")
    for model in wanted.get("models") or []:
        served = host.models(model["base_url"])
        digest = (served or {}).get(model["name"])
        sentence = f"{model['base_url']} has no model {model['name']}" if served is not None else no_answer(model)
        recorded = digest and {"digest": digest, "base_url": model["base_url"]}
        keep("models", model["name"], recorded, sentence)
        if digest and model.get("digest") and digest != model["digest"]:
            missing.append(f"model {model['name']} has digest {short(digest)}, not {short(model['digest'])}")
    for folder in wanted.get("stores") or []:
        keep("stores", folder, host.blobs(folder), f"{folder} is no model store")
    for name in wanted.get("facts") or []:
        manages["facts"][name] = host.fact(name)
    return manages, missing


def drift(manages, host):
    """Return a sentence for each recorded thing that is no longer as it was recorded, in the order of KINDS."""
    return [
        sentence
        for kind in KINDS
        for name, was in sorted(manages.get(kind, {}).items())
        for sentence in DIFFERENCES[kind](name, was, host)
    ]


def file_differences(path, was, host):
    now = host.file(path)
    if now is None:
        yield f"{path} was removed"
        return
    if now["sha256"] != was["sha256"]:
        yield f"{path} was changed by hand"
    for what in ("mode", "owner"):
        if now[what] != was[what]:
            yield f"the {what} of {path} is {now[what]}, was {was[what]}"


def link_differences(path, was, host):
    now = host.link(path)
    if now is None:
        yield f"{path} is no link"
    elif now != was:
        yield f"{path} leads to {now}, was {was}"


def package_differences(name, was, host):
    now = host.package(name)
    if now is None:
        yield f"package {name} is not installed"
    elif now != was:
        yield f"package {name} is {now}, was {was}"


def hold_differences(name, was, host):
    # A package that is gone is named by its version already.
    if host.package(name) is not None and not host.held(name):
        yield f"package {name} is no longer held at its version"


def member_differences(group, was, host):
    now = host.members(group)
    if now is None:
        yield f"group {group} does not exist"
        return
    for user in was:
        if user not in now:
            yield f"user {user} is not in group {group}"


def service_differences(unit, was, host):
    now = host.services([unit])[unit]
    if now is None:
        yield f"service {unit} does not exist"
        return
    if now["active"] != was["active"]:
        yield f"service {unit} is {'running' if now['active'] else 'not running'}"
    if now["enabled"] != was["enabled"]:
        yield f"service {unit} is {now['enabled'] or 'not enabled'} at boot, was {was['enabled'] or 'not enabled'}"


def container_differences(name, was, host):
    now = host.container(name)
    if now is None:
        yield (
            f"container {name} does not exist" if host.docker_answers() else f"container {name}: Docker does not answer"
        )
        return
    if now["state"] != "running":
        yield f"container {name} is {now['state']}, not running"
    if now["health"] == "unhealthy":
        yield f"container {name} is unhealthy"
    if now["image_id"] != was["image_id"]:
        yield f"container {name} runs another image: {short(now['image_id'])}, was {short(was['image_id'])}"
    if now["config_hash"] != was["config_hash"]:
        yield f"container {name} was recreated with other settings"


def model_differences(name, was, host):
    served = host.models(was["base_url"])
    if served is None:
        yield no_answer(was)
    elif name not in served:
        yield f"model {name} is not there"
    elif served[name] != was["digest"]:
        yield f"model {name} has digest {short(served[name])}, was {short(was['digest'])}"


def store_differences(folder, was, host):
    now = host.blobs(folder)
    if now is None:
        yield f"{folder} is no model store"
        return
    for blob, size in sorted(was.items()):
        if blob not in now:
            yield f"{folder} has no {short(blob.replace('-', ':'))}, a layer of a model"
        elif now[blob] != size:
            yield f"{folder} has {now[blob]} bytes of {short(blob.replace('-', ':'))}, was {size}"


def fact_differences(name, was, host):
    now = host.fact(name)
    if now != was:
        yield f"{name} changed: {in_words(now)}, was {in_words(was)}"


def no_answer(model):
    return f"Ollama at {model['base_url']} does not answer"


def short(digest):
    """Twelve digits of a digest are enough to tell two apart."""
    return (digest or "none").replace("sha256:", "")[:12]


def in_words(value):
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)


DIFFERENCES = {
    "files": file_differences,
    "links": link_differences,
    "packages": package_differences,
    "holds": hold_differences,
    "services": service_differences,
    "members": member_differences,
    "containers": container_differences,
    "models": model_differences,
    "stores": store_differences,
    "facts": fact_differences,
}
