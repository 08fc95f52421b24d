#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Tells which versions of packages a host could install."""

from __future__ import annotations

DOCUMENTATION = r"""
module: package_versions
short_description: Tell which versions of packages a host could install
version_added: "0.2.0"
author: The ollama-fleet authors
description:
  - Reads the host's package sources, or a repository that is not configured yet. Installs nothing and writes nothing.
  - Pins and holds do not matter here; every version that a source has is listed.
options:
  names:
    description: Names of packages.
    type: list
    elements: str
    required: true
  manager:
    description: The host's package manager. V(auto) takes C(apt) where it is, else C(dnf).
    type: str
    choices: [auto, apt, dnf]
    default: auto
  repository_url:
    description:
      - Address of a repository that the host does not have yet, as the folder of its index. A flat repository
        (C(Packages.gz)) for apt, or one with C(repodata) for dnf.
      - Only this one is read then. Its signature is not checked; the package manager does that when it installs.
    type: str
    default: ""
  update_cache:
    description:
      - Refresh the host's package lists first, as C(apt-get update) does. A source that does not answer is a warning,
        as the others may have what is looked for.
    type: bool
    default: false
  timeout:
    description: Seconds that a web server may take to answer, and that a lock of the package manager is waited for.
    type: int
    default: 60
attributes:
  check_mode:
    description: Does the same; the lists are not refreshed.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: What does the host's own archive have?
  ollama_fleet.stack.package_versions:
    names: [nvidia-utils-580-server, linux-modules-nvidia-580-server-open-generic]

- name: What does a repository have that is not set up yet?
  ollama_fleet.stack.package_versions:
    names: [nvidia-driver-cuda, nvidia-kernel-open-dkms]
    repository_url: https://developer.download.nvidia.com/compute/cuda/repos/debian13/x86_64
"""

RETURN = r"""
versions:
  description: All versions of each package, newest first. An empty list where there is none.
  type: dict
  returned: success
  sample: {"nvidia-driver-cuda": ["580.159.04-1", "580.126.09-1"]}
from:
  description: Where they are from, in words.
  type: str
  returned: success
  sample: the host's package sources
reason:
  description: Why it did not work.
  type: str
  returned: on failure
remedy:
  description: What to do about it.
  type: str
  returned: on failure
"""

import urllib.error

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.ollama_fleet.stack.plugins.module_utils import package_index
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.package_managers import manager_of

NOT_FOUND = 404


def fetcher(timeout):
    """Return a function that fetches a URL's bytes, or None when the server has no such file."""

    def fetch(url):
        try:
            with open_url(url, timeout=timeout) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code == NOT_FOUND:
                return None
            raise unreachable(url, f"the server answered {error.code}") from error
        except (OSError, ValueError) as error:
            raise unreachable(url, str(getattr(error, "reason", error))) from error

    return fetch


def unreachable(url, why):
    return FleetError(
        f"the package repository's {url} cannot be read", why, "check the address, and that this host reaches it"
    )


def main():
    module = AnsibleModule(
        {
            "names": {"type": "list", "elements": "str", "required": True},
            "manager": {"type": "str", "choices": ["auto", "apt", "dnf"], "default": "auto"},
            "repository_url": {"type": "str", "default": ""},
            "update_cache": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    wanted, url = module.params["names"], module.params["repository_url"]
    try:
        manager = manager_of(module, module.params["manager"], module.params["timeout"])
        if url:
            read = package_index.read_apt if manager.name == "apt" else package_index.read_rpm
            versions = read(url, wanted, fetcher(module.params["timeout"]))
        else:
            if module.params["update_cache"] and not module.check_mode:
                warning = manager.refresh()
                if warning:
                    module.warn(warning)
            versions = manager.versions(wanted)
    except FleetError as error:
        module.fail_json(**error.as_result())
    module.exit_json(changed=False, versions=versions, **{"from": url or "the host's package sources"})


if __name__ == "__main__":
    main()
