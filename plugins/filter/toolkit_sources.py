# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Package sources of NVIDIA's container toolkit that older instructions left on a host."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

PLACES = tuple(
    f"nvidia.github.io/{name}/"
    for name in ("libnvidia-container", "nvidia-container-toolkit", "nvidia-container-runtime", "nvidia-docker")
)


def is_toolkit(uri, ours):
    """Say whether an address is a place of the toolkit: one of NVIDIA's, or the mirror that we use."""
    bare = uri.partition("://")[2] + "/"
    return bare.startswith(PLACES) or bare.startswith(ours.partition("://")[2].rstrip("/") + "/")


def toolkit_sources(repositories, ours, our_file):
    """Return the files that name nothing but the toolkit's sources and are not ours, by name.

    repositories: as host_info lists them; ours: address of our repository; our_file: our own source file.
    A file that names other sources beside them is for a person to correct.
    """
    uris = {}
    for entry in repositories:
        uris.setdefault(entry["file"], []).extend(entry["uris"])
    stale = []
    for file, addresses in sorted(uris.items()):
        theirs = [uri for uri in addresses if is_toolkit(uri, ours)]
        if not theirs or file == our_file:
            continue
        if len(theirs) < len(addresses):
            other = next(uri for uri in addresses if uri not in theirs)
            raise AnsibleFilterError(
                f"{file} names {theirs[0]}, which would be a second source of the container toolkit with another key, "
                f"and {other} beside it. Take the line of {theirs[0]} out of the file, and run this again."
            )
        stale.append(file)
    return stale


class FilterModule:
    def filters(self):
        return {"toolkit_sources": toolkit_sources}
