# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Decides what NVIDIA software a host gets, from what the host is. Pure: observation and wishes in, decision out.

One file per subject; every rule is written down with its source in docs/drivers.md, under the name that the code gives.
"""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.cards import card, cards_line
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.driver import driver_plan
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.preflight import refusals
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.toolkit import toolkit_plan
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.versions import (
    choose_versions,
    platform_key,
    upstream,
)

__all__ = [
    "RefusalError",
    "card",
    "cards_line",
    "choose_versions",
    "driver_plan",
    "platform_key",
    "refusals",
    "toolkit_plan",
    "upstream",
]
