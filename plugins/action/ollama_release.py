# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Runs the module of the same name, and shows how far its download is while it runs."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.watched_module import WatchedModule


class ActionModule(WatchedModule):
    module = "ollama_release"
