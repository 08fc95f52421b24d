# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Merges options into Docker's daemon.json, which others write to as well."""

from __future__ import annotations

import json

from ansible.errors import AnsibleFilterError


def without(current, previous, wanted):
    """Return current less what we put there last time and no longer want. What others put there stays."""
    kept = {}
    for key, value in current.items():
        if key not in previous:
            kept[key] = value
        elif isinstance(value, dict) and isinstance(previous[key], dict):
            rest = without(value, previous[key], wanted.get(key) if isinstance(wanted.get(key), dict) else {})
            if rest:
                kept[key] = rest
        elif isinstance(value, list) and isinstance(previous[key], list):
            rest = [item for item in value if item not in previous[key] or item in (wanted.get(key) or [])]
            if rest:
                kept[key] = rest
        elif value != previous[key] or key in wanted:
            kept[key] = value
    return kept


def merged(current, wanted):
    """Return current with wanted laid over it: dictionaries key by key, lists extended, all else replaced."""
    result = dict(current)
    for key, value in wanted.items():
        before = result.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            result[key] = merged(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            result[key] = before + [item for item in value if item not in before]
        else:
            result[key] = value
    return result


def docker_daemon_json(text, wanted, previous=None):
    """Return the text of daemon.json: what was there, less what we set before, with what is wanted now.

    text: what the file holds ("" when there is none); wanted: options; previous: the options of the last run.
    The text comes back as it was when nothing has to change, and empty when there is no file and nothing to say.
    """
    try:
        current = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise AnsibleFilterError(
            f"/etc/docker/daemon.json is not valid JSON ({error}). Docker would not start with it either: "
            "repair it, or move it away, and run this again."
        ) from error
    if not isinstance(current, dict):
        raise AnsibleFilterError(
            "/etc/docker/daemon.json holds no JSON object. Repair it, or move it away, and run this again."
        )
    result = merged(without(current, previous or {}, wanted), wanted)
    if result == current:
        return text
    return json.dumps(result, indent=2) + "\n"


class FilterModule:
    def filters(self):
        return {"docker_daemon_json": docker_daemon_json}
