"""models.prune deletes what the inventory does not name, and says so first."""

import sys
from pathlib import Path

import yaml

from ollama_fleet.playbook import PlaybookOptions, run_playbook
from tests.serving_support.ollama_double import OllamaDouble


def test_what_is_not_named_goes_and_the_rest_stays(tmp_path: Path) -> None:
    with OllamaDouble() as server:
        for name in ("a:1", "chat:1", "old:1", "stray:2"):
            server.add(name)
        local = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "ollama_models_base_url": server.url,
            "ollama_models_list": [{"name": "a:1"}, {"name": "old:1", "state": "absent"}],
            "ollama_models_host_list": [{"name": "chat:1", "alias": "a:1"}],
        }
        hosts = {"all": {"children": {"gpu_servers": {"hosts": {"here": local}}}}}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts))
        assert run_playbook("models_prune", tmp_path, PlaybookOptions(check=True), quiet=True) == 0
        assert set(server.models) == {"a:1", "chat:1", "old:1", "stray:2"}
        assert run_playbook("models_prune", tmp_path, quiet=True) == 0
        assert set(server.models) == {"a:1", "chat:1"}
