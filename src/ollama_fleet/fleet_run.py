"""Runs a playbook on a fleet, and finds out why when nothing was done.

The inventory is not read beforehand to find that out: it takes a second, and most runs do something.
"""

import json
import os
import tempfile
from pathlib import Path

from ollama_fleet import inventory_check
from ollama_fleet.playbook import PlaybookOptions, run_playbook

# The file that the callback `problems` writes, and what it calls a run without any host.
PROBLEMS = "OLLAMA_FLEET_PROBLEMS"
NOBODY = "nothing was done"
HOST_FAILED = 2


def run(name: str, inventory: Path, options: PlaybookOptions) -> int:
    """Run playbooks/<name>.yml and return ansible-playbook's exit code.

    Raises FleetError with a reason and a remedy when the inventory left nobody to work on, which Ansible calls a
    success, or could not be read.
    """
    with tempfile.TemporaryDirectory(prefix="ollama-fleet-run-") as folder:
        # A person may want that file for themselves.
        problems = Path(os.environ.get(PROBLEMS) or Path(folder) / "problems.json")
        code = run_playbook(name, inventory, options, {PROBLEMS: str(problems)})
        told = json.loads(problems.read_text())["problems"] if problems.exists() else []
    nobody = any(problem["what"] == NOBODY for problem in told)
    if nobody or code not in {0, HOST_FAILED}:
        inventory_check.check(inventory, options.limit)
    return code
