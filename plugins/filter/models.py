# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The models that a host is to have, out of the lists of fleet, group and host."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models import model_list


def wanted_models(fleet, *others):
    """Return the lists as one, later ones winning by name, in the order in which it can be done.

    AnsibleFilterError with everything that is wrong with it.
    """
    try:
        return model_list.wanted(fleet, *others)
    except FleetError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self):
        return {"wanted_models": wanted_models}
