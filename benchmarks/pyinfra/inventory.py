"""The hosts of benchmarks/converge for pyinfra: how to reach each, and what is wanted there."""

import json
import os
from pathlib import Path

_FLEET = json.loads(Path(os.environ["OLLAMA_FLEET_BENCHMARK"]).read_text())

fleet = [(host["name"], host["data"]) for host in _FLEET["hosts"]]
