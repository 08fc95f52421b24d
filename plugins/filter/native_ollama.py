# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What a host needs for an Ollama without a container, for the role."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import native_ollama as native


def native_ollama(host, values):
    """Return {problems, source, container, kept} of plugin_utils/native_ollama for a host. problems are sentences."""
    return {
        "problems": [f"{item['rule']}. Remedy: {item['remedy']}." for item in native.problems(host, values)],
        "source": native.source(values, host["os"]["architecture"]),
        "container": native.container_of(host, values),
        "kept": native.kept(host),
    }


def environment_file(variables):
    """Return variables as lines that systemd's EnvironmentFile reads back as they are, sorted by name.

    In double quotes systemd takes a backslash before these four characters away, expands nothing, and lets a line go on
    in the next (systemd.exec(5), EnvironmentFile=; src/basic/env-file.c).
    """
    escapes = str.maketrans({character: f"\\{character}" for character in '"\\`$'})
    return [f'{name}="{str(value).translate(escapes)}"' for name, value in sorted(variables.items())]


class FilterModule:
    def filters(self):
        return {"native_ollama": native_ollama, "environment_file": environment_file}
