# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Package sources of NVIDIA's container toolkit that older instructions left on a host."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError

PLACES = tuple(
    f"nvidia.github.io/{name}/"
    for name in ("libnvidia-container", "nvidia-container-toolkit", "nvidia-container-runtime", "nvidia-docker")
)
# The file of the nvidia_container_toolkit role itself, by the family of the distribution.
OUR_FILE = {
    "debian": "/etc/apt/sources.list.d/nvidia-container-toolkit.sources",
    "redhat": "/etc/yum.repos.d/ollama-fleet-nvidia-container-toolkit.repo",
}


def stale_files(host, ours):
    """Return the files that name nothing but the toolkit's sources and are not ours, by name.

    apt refuses two sources of one address with different keys, so they have to go, whatever they are called. A file
    that names other sources beside them is for a person to correct: refused. ours: address of our repository.
    """
    uris = {}
    for entry in host.get("repositories") or []:
        uris.setdefault(entry["file"], []).extend(entry["uris"])
    stale = []
    for file, addresses in sorted(uris.items()):
        theirs = [uri for uri in addresses if is_toolkit(uri, ours)]
        if not theirs or file == OUR_FILE.get(host["os"]["family"]):
            continue
        if len(theirs) < len(addresses):
            other = next(uri for uri in addresses if uri not in theirs)
            raise RefusalError(
                f"{file} names {theirs[0]}, which would be a second source of the container toolkit with another key, "
                f"and {other} beside it",
                f"Take the line of {theirs[0]} out of the file, and run this again",
            )
        stale.append(file)
    return stale


def is_toolkit(uri, ours):
    """Say whether an address is a place of the toolkit: one of NVIDIA's, or the mirror that we use."""
    bare = uri.partition("://")[2] + "/"
    return bare.startswith(PLACES) or bare.startswith(ours.partition("://")[2].rstrip("/") + "/")
