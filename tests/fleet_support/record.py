"""Records the fleet anew: .venv/bin/python -m tests.fleet_support.record (with PYTHONPATH=collections:src)."""

import json
import tempfile
from pathlib import Path

from tests.fleet_support import note
from tests.fleet_support.machines import FLEET, observed


def main() -> None:
    for name in FLEET:
        with tempfile.TemporaryDirectory() as folder:
            text = json.dumps(observed(name, Path(folder) / "host"), indent=1, sort_keys=True) + "\n"
        (note.FOLDER / f"{name}.json").write_text(text)
    (note.FOLDER / "plan.txt").write_text(note.note() + "\n")


if __name__ == "__main__":
    main()
