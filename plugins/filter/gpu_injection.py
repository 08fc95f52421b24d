# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""How containers of a host get its GPUs: the one decision that daemon.json, the toolkit and Compose files follow."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import toolkit


def nvidia_injection(host):
    """Return {injection, choice, reason, daemon_options} for a host as host_info observed it.

    injection: cdi, runtime (the documented fallback), or "" while Docker's version is not known.
    It goes by Docker's version alone, with specifications as the toolkit writes them since 1.19: so every role decides
    the same, whichever toolkit is there, and moving the toolkit never moves daemon.json.
    """
    return toolkit.injection(host, toolkit.TOOLKIT_CDI_07)


class FilterModule:
    def filters(self):
        return {"nvidia_injection": nvidia_injection}
