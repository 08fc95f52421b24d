# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What an observation says of a host's open ports."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import doors


def doors_to_try(host):
    """The ports to knock at from outside. host: what host_info observed."""
    return doors.to_try(host["ports"], host["docker"]["containers"])


def open_doors(host, allowed, answers):
    """Findings of plugin_utils.doors. host: what host_info observed"""
    return doors.findings(host["ports"], host["docker"]["containers"], allowed, answers)


class FilterModule:
    def filters(self):
        return {"doors_to_try": doors_to_try, "open_doors": open_doors}
