# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Which devices a host offers to containers by CDI, from the specifications that lie on it."""

from __future__ import annotations

import glob
import json
import re

KIND = re.compile(r"^kind:\s*[\"']?([^\"'\s]+)", re.MULTILINE)
# The list of devices is the only part whose entries have a name at this depth.
DEVICES = re.compile(r"^devices:\n((?:[ -].*\n?)*)", re.MULTILINE)
NAME = re.compile(r"^(?:- | {2}| {4})name:\s*[\"']?([^\"'\s]+)", re.MULTILINE)


def devices_in(path, text):
    """Return the full names (nvidia.com/gpu=0) in one specification; one that cannot be read has none."""
    if path.endswith(".json"):
        try:
            spec = json.loads(text)
            return [f"{spec['kind']}={device['name']}" for device in spec["devices"]]
        except (ValueError, KeyError, TypeError):
            return []
    kind, devices = KIND.search(text), DEVICES.search(text)
    return [f"{kind[1]}={name}" for name in NAME.findall(devices[1])] if kind and devices else []


def devices(folders, read):
    """Return the names of all devices, sorted. read: path -> text or None"""
    paths = [path for folder in folders for ending in ("yaml", "json") for path in glob.glob(f"{folder}/*.{ending}")]
    return sorted({name for path in paths for name in devices_in(path, read(path) or "")})
