"""What the need is computed with is what the server is started with."""

import re
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"


def read(path: str) -> Any:
    return yaml.safe_load((ROLES / path).read_text())


def test_the_settings_follow_the_role_ollama_with_its_defaults() -> None:
    ollama = read("ollama/defaults/main.yml")
    settings = read("ollama_models/defaults/main.yml")["ollama_models_server"]
    spec = read("ollama_models/meta/argument_specs.yml")["argument_specs"]["main"]["options"]["ollama_models_server"]
    assert set(settings) == set(spec["options"]) == set(spec["default"])
    # It has no variable of its own.
    assert "(ollama_environment | default({})).OLLAMA_GPU_OVERHEAD | default(0)" in settings.pop("gpu_overhead")
    for name, template in settings.items():
        found = re.fullmatch(r"\{\{ (ollama_\w+) \| default\((.*)\) \}\}", template)
        assert found, template
        assert found[1] == f"ollama_{name}"
        assert yaml.safe_load(found[2]) == ollama[found[1]] == spec["default"][name]
