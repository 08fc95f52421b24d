# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What no setting can change: hosts that are refused before anything is done to them."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia import branches, cards, flavors, sources
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError


def refusals(host):
    """Return {rule, cards, remedy, said} of each thing that makes this host impossible; said is all of it in one."""
    gpus = [gpu for gpu in host["gpus"] if not cards.passed_on(gpu)]
    found = []
    for check in (cards.check_lost, branches.check_age, lambda gpus: flavors.check_mix(host, gpus)):
        try:
            check(gpus)
        except RefusalError as error:
            found.append({**error.as_result(), "said": str(error)})
    if not sources.supported(host):
        error = sources.no_packages(host, gpus)
        found.append({**error.as_result(), "said": str(error)})
    return found
