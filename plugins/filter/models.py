# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The models that a host is to have, out of the lists of fleet, group and host."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import ModelName
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.models import model_list


def wanted_models(fleet, *others, source_host=""):
    """Return the lists as one, later ones winning by name, in the order in which it can be done.

    source_host: HOST[:PORT] of the model cache for what is pulled and names no source of its own
    AnsibleFilterError with everything that is wrong with it.
    """
    try:
        return model_list.wanted(fleet, *others, source_host=source_host)
    except FleetError as error:
        raise AnsibleFilterError(str(error)) from error


def unlisted_models(there, wanted):
    """Return the names of a server's models, as it lists them, that no entry of a wanted list means, sorted.

    An entry that says absent does not keep a model. One that is pulled by another name keeps no second model by that
    name: the role deletes it as well.
    """
    kept = {ModelName.parse(entry["name"]).key for entry in wanted if model_list.way_of(entry) != "absent"}
    return sorted(name for name in there if ModelName.parse(name).key not in kept)


class FilterModule:
    def filters(self):
        return {"wanted_models": wanted_models, "unlisted_models": unlisted_models}
