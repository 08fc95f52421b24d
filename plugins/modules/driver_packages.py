#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Installs or removes a driver's packages as one step: all of it, or the host as before."""

from __future__ import annotations

DOCUMENTATION = r"""
module: driver_packages
short_description: Install or remove a driver's packages, all of them or none
version_added: "0.2.0"
author: The ollama-fleet authors
description:
  - Has exactly the given versions of packages on the host, as one step. The change is simulated and checked, everything
    is downloaded, the packages that will be replaced are kept; only then something changes. When the change fails, as
    with a kernel module that does not build, the host gets back what it had (versions, holds, automatic marks), without
    the network.
  - Refuses before anything changes when a dependency would pull in a package of another driver, when a package that is
    no part of the driver would be removed or downgraded, or when one is held that nobody named.
  - A change that was cut, as by a power failure, is undone by the next run before it does anything else.
options:
  manager:
    description: The host's package manager. V(auto) takes C(apt) where it is, else C(dnf).
    type: str
    choices: [auto, apt, dnf]
    default: auto
  state:
    description:
      - V(present) has O(packages) and O(extra). V(absent) purges O(installed) and nothing else.
    type: str
    choices: [present, absent]
    default: present
  packages:
    description: Name of each package of the driver, and its exact version.
    type: dict
    default: {}
  extra:
    description: Names of packages of any version that come along, such as kernel headers.
    type: list
    elements: str
    default: []
  families:
    description:
      - Regular expressions (POSIX, extended) for the whole names of packages that belong to the driver. Where their
        version is a driver's, it must be that of O(packages), or the change is refused. Ones that are on the host
        already are brought to it.
      - The container toolkit's packages are never counted as parts of a driver.
      - C(nvidia-modprobe), C(nvidia-settings) and C(nvidia-xconfig) may have a version of their own.
    type: list
    elements: str
    default: []
  installed:
    description: For O(state=absent), the names to purge. Those that are not there are passed over.
    type: list
    elements: str
    default: []
  hold:
    description:
      - Keep every package of the driver from being moved by others (C(apt-mark hold), C(dnf versionlock)). O(extra)
        stays free.
    type: bool
    default: true
  update_cache:
    description: Refresh the package lists first, when there is anything to install.
    type: bool
    default: false
  lock_timeout:
    description: Seconds to wait while another program works with the host's packages.
    type: int
    default: 600
  build_remedy:
    description:
      - The remedy that is told when a kernel module does not build. The caller knows what else the host's cards allow.
    type: str
    default: >-
      set nvidia_driver_source to cuda for newer modules, from NVIDIA's repository, or nvidia_driver_flavor to
      proprietary where the cards allow it
  state_dir:
    description: Folder in which the way back is kept while a change is under way.
    type: path
    default: /var/lib/ollama-fleet
attributes:
  check_mode:
    description: Simulates. Package lists are not refreshed.
    support: full
  diff_mode:
    description: One line per package with its version before and after.
    support: full
"""

EXAMPLES = r"""
- name: Install the driver
  ollama_fleet.stack.driver_packages:
    packages:
      nvidia-driver-cuda: 580.159.04-1
      nvidia-kernel-open-dkms: 580.159.04-1
    extra: [linux-headers-amd64]
    families: ["nvidia-.*", "libnvidia-.*", "libcuda1", "cuda-drivers.*"]
  register: __nvidia_driver_change

- name: Remove what was installed
  ollama_fleet.stack.driver_packages:
    state: absent
    installed: "{{ __nvidia_driver_change.added }}"
"""

RETURN = r"""
added:
  description: Names of packages that the host has now and had not before. What teardown removes.
  type: list
  elements: str
  returned: success
changed_packages:
  description: Versions before and after of the packages that the host had before; removed ones have an empty one after.
  type: dict
  returned: success
  sample: {"nvidia-driver-cuda": ["580.126.09-1", "580.159.04-1"]}
holds:
  description: Names of all packages that are held now.
  type: list
  elements: str
  returned: success
repaired:
  description: Packages that an earlier run had left half installed and that are in order now.
  type: list
  elements: str
  returned: success
reason:
  description: Why it did not work, in one line. For a module that did not build, the compiler's first error.
  type: str
  returned: on failure
remedy:
  description: What to do about it.
  type: str
  returned: on failure
log:
  description: The last lines of the package manager's output.
  type: str
  returned: when the change itself failed
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils.driver_versions import Family
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.package_managers import change_of, manager_of

BUILD_REMEDY = (
    "set nvidia_driver_source to cuda for newer modules, from NVIDIA's repository, or nvidia_driver_flavor to"
    " proprietary where the cards allow it"
)
ARGUMENTS = {
    "manager": {"type": "str", "choices": ["auto", "apt", "dnf"], "default": "auto"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "packages": {"type": "dict", "default": {}},
    "extra": {"type": "list", "elements": "str", "default": []},
    "families": {"type": "list", "elements": "str", "default": []},
    "installed": {"type": "list", "elements": "str", "default": []},
    "hold": {"type": "bool", "default": True},
    "update_cache": {"type": "bool", "default": False},
    "lock_timeout": {"type": "int", "default": 600},
    "build_remedy": {"type": "str", "default": BUILD_REMEDY},
    "state_dir": {"type": "path", "default": "/var/lib/ollama-fleet"},
}


def require_exact(packages):
    inexact = sorted(name for name, version in packages.items() if not str(version or "").strip("*"))
    if inexact:
        raise FleetError(
            f"{', '.join(inexact)} cannot be installed",
            "its exact version is not given, and any other could be another driver",
            "give the version, as package_versions lists it",
        )


def main():
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        manager = manager_of(module, params["manager"], params["lock_timeout"])
        folder = f"{params['state_dir']}/driver_packages.undo"
        change = change_of(module, manager, folder)
        if params["state"] == "absent":
            result = change.remove(params["installed"])
        else:
            require_exact(params["packages"])
            family = Family(params["families"], params["packages"], params["extra"])
            wanted = (params["extra"], params["hold"], params["update_cache"], params["build_remedy"])
            result = change.install(family, *wanted)
    except FleetError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
