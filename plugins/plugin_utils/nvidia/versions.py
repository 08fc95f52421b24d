# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Versions of drivers and of the packages that hold them, and the key of a platform in the lock file."""

from __future__ import annotations

import re

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils.nvidia.refusal import RefusalError

# What Debian's and Red Hat's packages put around a version: epoch before, revision after.
UPSTREAM = re.compile(r"^(?:\d+:)?(\d+(?:\.\d+)+)(?:[-~+].*)?$")


def numbers(version):
    """Return a version for comparing: [580, 159, 4] of 580.159.04."""
    return [int(part) for part in re.findall(r"\d+", str(version))]


def upstream(version):
    """Return NVIDIA's version of a package's: 580.159.04 of 580.159.04-0ubuntu0.24.04.1, or None."""
    match = UPSTREAM.match(version or "")
    return match.group(1) if match else None


def branch_of(version):
    """Return the branch of a driver version: 580 of 580.159.04."""
    return int(str(version).split(".", maxsplit=1)[0])


def platform_key(host, source, flavor):
    """Return the lock file's key for hosts that share packages: ubuntu-24.04-x86_64-ubuntu-open."""
    system = host["os"]
    name, release = system["id"], system["version_id"]
    if system["family"] == "redhat":
        # Rocky, Alma and Red Hat Enterprise Linux take the same packages, by major version.
        name, release = "el", release.split(".", maxsplit=1)[0]
    return "-".join((name, release, system["architecture"], source, flavor))


def choose_versions(decision, available, wish=""):
    """Return {name: exact version} of the newest driver of the branch that all packages have, or refuse.

    decision:  of driver_plan: its packages and branch count
    available: {name: [versions, newest first]}
    wish:      exact upstream version, or empty for the newest of the branch

    A version counts by what is inside (580.173.02), never by the number in a package's name: Ubuntu empties the
    packages of a branch that ended and lets them pull the next one in.
    """
    names, branch = sorted(decision["packages"]), decision["branch"]
    absent = [name for name in names if not available.get(name)]
    if absent:
        raise RefusalError(
            f"the repositories of this host have no package {', '.join(absent)}",
            f"check that branch {branch} exists for {decision.get('platform') or 'this platform'}, that the repository"
            " answers, and nvidia_driver_branch and nvidia_driver_source",
        )
    of_branch = {}
    for name in names:
        found = {}
        for version in available[name]:
            inside = upstream(version)
            if inside and branch_of(inside) == branch:
                found.setdefault(inside, version)  # newest revision first
        if not found:
            inside = upstream(available[name][0]) or available[name][0]
            raise RefusalError(
                f"package {name} is there as {inside} only: branch {branch} has ended here, and what still has its"
                " name brings another branch",
                f"set nvidia_driver_branch to {inside.split('.', maxsplit=1)[0]}, or nvidia_driver_source to where"
                f" branch {branch} still is",
            )
        of_branch[name] = found
    common = set.intersection(*(set(found) for found in of_branch.values())) if of_branch else set()
    if wish:
        lacking = [name for name in names if wish not in of_branch[name]]
        if lacking:
            raise RefusalError(
                f"driver {wish} is not in the repositories of this host: {lacking[0]} is there as"
                f" {', '.join(of_branch[lacking[0]])}",
                "set nvidia_driver_version to one of these, or add a repository that kept it",
            )
        common = {wish}
    if not common:
        has = "; ".join(f"{name} {', '.join(of_branch[name])}" for name in names)
        raise RefusalError(
            f"no driver of branch {branch} is there with all its parts at one version: {has}",
            "wait until the repository is whole again, or set nvidia_driver_version to a version that all have",
        )
    version = max(common, key=numbers)
    return {name: of_branch[name][version] for name in names}
