# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The package manager of a host, and a change with it."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.module_utils.apt_change import AptChange
from ansible_collections.ollama_fleet.stack.plugins.module_utils.apt_host import Apt
from ansible_collections.ollama_fleet.stack.plugins.module_utils.dnf_change import DnfChange
from ansible_collections.ollama_fleet.stack.plugins.module_utils.dnf_host import Dnf
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

MANAGERS = {"apt": ("apt-get", Apt, AptChange), "dnf": ("dnf", Dnf, DnfChange)}


def manager_of(module, wish, timeout):
    """Return the host's package manager. wish: auto, apt or dnf; timeout: seconds to wait for its lock"""
    for name, (command, kind, _change) in MANAGERS.items():
        if wish in ("auto", name) and module.get_bin_path(command):
            return kind(module.run_command, timeout)
    raise FleetError(
        "packages cannot be managed on this host",
        f"there is no {'apt-get and no dnf' if wish == 'auto' else wish}",
        "use Debian, Ubuntu or Enterprise Linux",
    )


def change_of(module, manager, journal_folder):
    """Return a change with the manager. journal_folder: where the way back is kept"""
    return MANAGERS[manager.name][2](manager, journal_folder, module.check_mode, module.warn, module.tmpdir)
