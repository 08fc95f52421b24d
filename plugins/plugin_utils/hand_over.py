# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""How an action gives what it found out about a host to the program that started the playbook."""

from __future__ import annotations

import json
import os
from pathlib import Path


def hand_over(folder, host, content):
    """Write content as JSON to folder/HOST.json. Only its owner may read what is planned for a fleet."""
    path = Path(folder) / f"{host}.json"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file)
