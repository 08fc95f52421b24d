# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Merges options into Docker's daemon.json, which others write to as well, and takes them out again.

What is ours is remembered as two dictionaries shaped like the file itself:

``ours``      what we put there and was not there before: a value, or of a list the items that we added
``replaced``  what stood where we put another value: a value, or of a list the items that ours took the place of
"""

from __future__ import annotations

import json
import re

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

# Lists of key=value, where a second value of a key contradicts the first.
KEYED = ("exec-opts", "storage-opts")
PASSWORD = re.compile(r"(?<=://)[^/@\s\"]+@")


def read_options(text, path):
    """Return the options that the text of a daemon.json says. Docker takes an empty file and a byte order mark."""
    text = text.removeprefix("\ufeff")
    try:
        options = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise FleetError(
            f"{path} is not valid JSON",
            f"{error}; Docker would not start with it either",
            f"repair it, or move it away (mv {path} {path}.broken), and run this again",
        ) from error
    if not isinstance(options, dict):
        raise FleetError(
            f"{path} holds no JSON object",
            f"it holds {json.dumps(options)[:60]}; Docker would not start with it either",
            f"repair it, or move it away (mv {path} {path}.broken), and run this again",
        )
    return options


def write_options(options):
    return json.dumps(options, indent=2, ensure_ascii=False) + "\n"


def shown(text):
    """Return the text as it may be shown: passwords in addresses of proxies and mirrors are left out."""
    return PASSWORD.sub("***@", text)


def without(current, ours, replaced):
    """Return current as it would be without us. What others changed since is theirs, and stays."""
    kept = {}
    for key, value in current.items():
        if key not in ours:
            kept[key] = value
        elif key in replaced and type(replaced[key]) is not type(value):
            kept[key] = replaced[key] if value == ours[key] else value
        elif isinstance(value, dict) and isinstance(ours[key], dict):
            before = replaced.get(key)
            rest = without(value, ours[key], before if isinstance(before, dict) else {})
            if rest:
                kept[key] = rest
        elif isinstance(value, list) and isinstance(ours[key], list):
            rest = [item for item in value if item not in ours[key]]
            rest += [item for item in replaced.get(key) or [] if item not in rest]
            if rest:
                kept[key] = rest
        elif value != ours[key]:
            kept[key] = value
        elif key in replaced:
            kept[key] = replaced[key]
    return kept


def merged(base, wanted, order=None):
    """Lay wanted over base: dictionaries key by key, lists extended, all else replaced.

    order: options whose order of list items is kept where the items are the same.
    Returns (options, ours, replaced).
    """
    order = order if isinstance(order, dict) else {}
    options, ours, replaced = dict(base), {}, {}
    for key, value in wanted.items():
        before = base.get(key)
        if isinstance(value, dict) and (before is None or isinstance(before, dict)):
            options[key], mine, theirs = merged(before or {}, value, order.get(key))
            if mine or before is None:
                ours[key] = mine
            if theirs:
                replaced[key] = theirs
        elif isinstance(value, list) and (before is None or isinstance(before, list)):
            had = before or []
            mine = [item for item in value if item not in had]
            theirs = [item for item in had if contradicts(key, item, mine)]
            items = [item for item in had if item not in theirs] + mine
            options[key] = same_items(items, order.get(key))
            if mine or before is None:
                ours[key] = mine
            if theirs:
                replaced[key] = theirs
        elif key not in base or before != value:
            options[key] = ours[key] = value
            if key in base:
                replaced[key] = before
    return options, ours, replaced


def contradicts(name, item, mine):
    """Say whether an item of a list cannot stand beside ours: another value of the same key."""
    keys = {str(other).partition("=")[0] for other in mine}
    return name in KEYED and str(item).partition("=")[0] in keys


def same_items(items, before):
    """Return before, if it is a list of the same items in another order; else items."""
    if isinstance(before, list) and len(before) == len(items) and all(item in before for item in items):
        return before
    return items


def in_words(replaced, options, prefix=""):
    """Return a sentence for each value of others that one of ours took the place of."""
    found = []
    for key, value in sorted(replaced.items()):
        name, now = f"{prefix}{key}", options.get(key)
        if isinstance(value, dict) and isinstance(now, dict):
            found += in_words(value, now, name + ".")
        else:
            found.append(f"{name} was {json.dumps(value)} and is {json.dumps(now)}")
    return [shown(sentence) for sentence in found]
