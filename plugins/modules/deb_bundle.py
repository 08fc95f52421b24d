#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""All Debian packages that this stack brought to a host, as one archive."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deb_bundle
short_description: Put the stack's Debian packages with all that they need into one archive
version_added: "0.1.0"
author: The ollama-fleet authors
description:
  - Downloads the packages that the roles' records on the host name, in exactly these versions, with everything that
    they depend on, from the host's own package sources. Nothing is installed.
  - The archive (tar) holds the files and an index, C(Packages), so that apt installs from the unpacked folder. It is
    the same for the same packages.
  - What was downloaded stays in O(folder), so that a run that was cut goes on.
options:
  archive:
    description:
      - The archive to write.
    type: path
    required: true
  folder:
    description:
      - Where the packages are downloaded to.
    type: path
    required: true
  state_dir:
    description:
      - Folder of the records.
    type: path
    default: /var/lib/ollama-fleet
attributes:
  check_mode:
    support: full
    description: Says which packages would be downloaded, without those that they depend on.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Put the packages into an archive
  ollama_fleet.stack.deb_bundle:
    archive: /var/tmp/packages.tar
    folder: /var/tmp/packages
"""

RETURN = r"""
wanted:
  description: Packages that the records name, with their versions.
  type: dict
  returned: always
  sample: {"nginx": "1.26.3-3+deb13u1"}
files:
  description: Names of the files in the archive; none in check mode.
  type: list
  elements: str
  returned: success
reason:
  description: Why it did not work.
  type: str
  returned: on failure
remedy:
  description: What to do about it.
  type: str
  returned: on failure
"""

import hashlib
import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils import deb_repository
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError


def digest_of(path: str) -> str:
    """SHA-256 of a file; empty when there is none."""
    if not os.path.exists(path):
        return ""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def bundle(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The module's result; FleetError when the packages could not be had."""
    wanted = deb_repository.recorded(params["state_dir"])
    if not wanted:
        raise FleetError("the packages cannot be bundled", "no record names any", "run ./inv up for this host first")
    if check_mode:
        return {"changed": True, "wanted": wanted, "files": []}
    with tempfile.NamedTemporaryFile() as nothing:
        deb_repository.download(wanted, params["folder"], nothing.name)
    before = digest_of(params["archive"])
    files = deb_repository.pack(params["folder"], params["archive"])
    return {"changed": digest_of(params["archive"]) != before, "wanted": wanted, "files": files}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "archive": {"type": "path", "required": True},
            "folder": {"type": "path", "required": True},
            "state_dir": {"type": "path", "default": "/var/lib/ollama-fleet"},
        },
        supports_check_mode=True,
    )
    try:
        result = bundle(module.params, module.check_mode)
    except FleetError as problem:
        module.fail_json(**problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
