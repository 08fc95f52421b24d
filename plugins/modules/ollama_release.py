#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""A release of Ollama, unpacked on a host beside those that are there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_release
short_description: Have a release of Ollama unpacked, or say that its archive is needed
version_added: "0.2.0"
author: The ollama-fleet authors
description:
  - Compares the archive with its checksum, reads it to its end and judges every name in it before anything is unpacked.
    Names and links that lead out of the folder, devices and what comes twice are refused.
  - Unpacks beside the releases that are there. A release has its name only when it is whole.
  - Which release runs is not decided here, but by M(ollama_fleet.stack.ollama_native).
  - While it downloads, the controller shows bytes, rate and time left (see docs/distribution.md).
options:
  path:
    description: Folder of the releases.
    type: path
    default: /opt/ollama
  version:
    description: Version of the release, as in its name.
    type: str
    required: true
  checksum:
    description: Checksum of the archive, C(sha256:...).
    type: str
    required: true
  source:
    description:
      - The archive, an address or a file on the host. C(.tar.zst) needs the program zstd on the host.
      - Left out, the module only looks and says in RV(needs_archive) whether it has to be brought.
    type: str
  environment:
    description:
      - Variables of the server, of which those for proxies and SSL_CERT_FILE serve the download too.
    type: dict
    default: {}
  ca_certificate:
    description: Certificate of an authority, as PEM, that the download trusts beside the usual ones. Empty for none.
    type: str
    default: ""
  timeout:
    description: Seconds without a byte after which a download has failed.
    type: int
    default: 60
  progress_file:
    description:
      - Where to write how far the download is, as JSON, once a second. It is removed at the end.
      - The action plugin of the same name sets and reads it.
    type: path
attributes:
  check_mode:
    support: full
    description: Fetches and unpacks nothing. What the archive holds is then not known.
  diff_mode:
    support: full
    description: Says which release is there.
"""

EXAMPLES = r"""
- name: Have the release
  ollama_fleet.stack.ollama_release:
    version: 0.32.15
    checksum: sha256:0000000000000000000000000000000000000000000000000000000000000000
    source: https://github.com/ollama/ollama/releases/download/v0.32.15/ollama-linux-amd64.tar.zst
"""

RETURN = r"""
release:
  description: Name of the release's folder, its version where no other archive of that version is there.
  type: str
  returned: success
  sample: 0.32.15
needs_archive:
  description: Whether the release is not there, or not whole, so that O(source) has to be given.
  type: bool
  returned: success
has_zstd:
  description: Whether the host has the program zstd.
  type: bool
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

import contextlib
import http.client
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils import release_archive
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.pull_state import PullState
from ansible_collections.ollama_fleet.stack.plugins.module_utils.release_store import Releases

PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
PROXIES = re.compile(r"(https?|no)_proxy", re.IGNORECASE)
ARCHIVE = ".archive"


def opener(url, environment, authority=""):
    """Return what opens an address by the proxies and the authorities that the server has; by the host's own, else."""
    own = {name.lower()[: -len("_proxy")]: str(value) for name, value in environment.items() if PROXIES.fullmatch(name)}
    host = urllib.parse.urlsplit(url).netloc
    around = "no" in own and urllib.request.proxy_bypass_environment(host, own)
    proxies = {} if around else {name: value for name, value in own.items() if name != "no"}
    context = ssl.create_default_context(cafile=environment.get("SSL_CERT_FILE") or None)
    if authority:
        context.load_verify_locations(cadata=authority)
    return urllib.request.build_opener(
        urllib.request.ProxyHandler(proxies if own else None), urllib.request.HTTPSHandler(context=context)
    )


def fetch(url, target, params):
    """Put what is at an address into a file; FleetError when that fails or the disk is too small for it.

    params: of the module
    """
    shown = PASSWORD.sub("***@", url)
    told = {
        "model": f"Ollama {params['version']}",
        "source": urllib.parse.urlsplit(url).hostname or shown,
        "status": "pulling the archive",
    }
    try:
        with (
            PullState(params["progress_file"]) as state,
            opener(url, params["environment"], params["ca_certificate"]).open(url, timeout=params["timeout"]) as answer,
            open(target, "wb") as file,
        ):
            size = int(answer.headers.get("Content-Length") or 0)
            release_archive.check_room(size, os.path.dirname(target))
            while chunk := answer.read(release_archive.CHUNK):
                file.write(chunk)
                state.tell({**told, "completed": file.tell(), "total": size})
            if size > file.tell():
                raise OSError(f"the connection ended after {file.tell()} of {size} bytes")
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise FleetError(
            f"the archive {shown} was not fetched",
            PASSWORD.sub("***@", str(error)) or type(error).__name__,
            "check the address and the proxy as this host sees them, or bring the archive from the controller"
            " (ollama_release_file)",
        ) from error


@contextlib.contextmanager
def archive_of(source, releases, params):
    """Yield the path of the archive on the host; one that was fetched is gone afterwards."""
    address = urllib.parse.urlsplit(source)
    if address.scheme in ("", "file"):
        path = urllib.request.url2pathname(address.path) if address.scheme else source
        if not os.path.isfile(path):
            raise FleetError(
                f"the archive {path} is not there", "the host has no such file", "put it there, or correct its name"
            )
        yield path
        return
    target = releases.path(ARCHIVE)
    try:
        fetch(source, target, params)
        yield target
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)


def ensure(params, zstd, check_mode, label=lambda _folder: None):
    """The module's result; FleetError when the release cannot be had.

    params: of the module; zstd: the program on this host, or None; label: gives a folder's files SELinux' labels
    """
    releases = Releases(params["path"])
    name = releases.name_for(params["version"], params["checksum"])
    whole = releases.whole(name, params["checksum"])
    result = {"release": name, "needs_archive": not whole, "has_zstd": zstd is not None, "changed": False}
    if whole or not params["source"]:
        return result
    if not check_mode:
        # For all: the server is not root, and an administrator's umask may be tighter.
        os.umask(0o022)
        os.makedirs(params["path"], exist_ok=True)
        with archive_of(params["source"], releases, params) as archive:
            release_archive.verify(archive, params["checksum"])
            release_archive.check_room(release_archive.contents(archive, zstd).size, params["path"])
            releases.add(name, params["version"], archive, params["checksum"], zstd)
        label(releases.path(name))
    before = "not whole\n" if releases.note(name) and check_mode else ""
    return {
        **result,
        "changed": True,
        "needs_archive": check_mode,
        "diff": {"before": before, "after": f"{params['checksum']}\n", "before_header": name, "after_header": name},
    }


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/opt/ollama"},
            "version": {"type": "str", "required": True},
            "checksum": {"type": "str", "required": True},
            "source": {"type": "str"},
            # A proxy's address may hold a password.
            "environment": {"type": "dict", "default": {}, "no_log": True},
            "ca_certificate": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 60},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )

    def label(folder):
        # As a package manager would: programs below /opt are labelled by the bin and lib in their paths.
        if module.selinux_enabled():
            module.run_command([module.get_bin_path("restorecon", required=True), "-R", folder])

    try:
        result = ensure(module.params, module.get_bin_path("zstd"), module.check_mode, label)
    except FleetError as error:
        module.fail_json(**error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
