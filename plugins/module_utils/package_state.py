# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What a host's package manager knows: packages with their versions and holds, and what is half installed.

dpkg's database is read as the file it is; rpm's is asked for with rpm. Neither is locked or changed.
"""

from __future__ import annotations

import fnmatch
import functools
import glob
import re

from ansible_collections.ollama_fleet.stack.plugins.module_utils.reading import read

RPM_QUERY = ["rpm", "-qa", "--qf", "%{NAME}\t%{EPOCHNUM}\t%{VERSION}-%{RELEASE}\t%{ARCH}\n"]
# States of dpkg in which the package's files are there and set up. The other names of dpkg's are in BROKEN or gone.
WHOLE = ("installed", "triggers-pending", "triggers-awaited")
# What dpkg --audit complains about.
BROKEN = ("unpacked", "half-configured", "half-installed", "triggers-pending", "triggers-awaited")
# Of these rpm keeps several versions side by side.
SIDE_BY_SIDE = re.compile(r"^(kernel|gpg-pubkey|kmod-)")


class Packages:
    """The packages of a host. etc_root, var_root: where to read; run: starts a program"""

    def __init__(self, etc_root, var_root, family, run):
        self.etc_root, self.var_root, self.family, self.run = etc_root, var_root, family, run

    @functools.cached_property
    def manager(self):
        return {"debian": "apt", "redhat": "dnf"}.get(self.family, "")

    @functools.cached_property
    def all(self):
        """{name: {version, installed, held}} of all that is known, with at least a configuration left."""
        return {name: {key: item[key] for key in ("version", "installed", "held")} for name, item in self._all.items()}

    @functools.cached_property
    def broken(self):
        """Names of the packages that are neither installed nor gone."""
        return sorted(name for name, item in self._all.items() if item["broken"])

    @functools.cached_property
    def held(self):
        return sorted(name for name, item in self._all.items() if item["held"])

    @functools.cached_property
    def _all(self):
        if self.manager == "dnf":
            return of_rpm(self.run(RPM_QUERY) or "", locked_by_dnf(self.etc_root))
        found = of_dpkg(read(self.var_root + "/lib/dpkg/status") or "")
        # What a dpkg that was cut has not yet merged, oldest first.
        for path in sorted(glob.glob(self.var_root + "/lib/dpkg/updates/[0-9]*")):
            found.update(of_dpkg(read(path) or ""))
        return found


def of_dpkg(text):
    """{name: {version, installed, held, broken}} of dpkg's status file. What is installed comes first."""
    result = {}
    for stanza in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", stanza, re.MULTILINE))
        want, error, state = [*fields.get("Status", "").split(), "", "", ""][:3]
        if not fields.get("Package") or state in ("not-installed", ""):
            continue
        item = {
            "version": fields.get("Version", ""),
            "installed": state in WHOLE,
            "held": want == "hold",
            "broken": state in BROKEN or error == "reinstreq",
        }
        other = result.get(fields["Package"])
        if other is None or (item["installed"], item["version"]) >= (other["installed"], other["version"]):
            item["broken"] = item["broken"] or bool(other and other["broken"])
            result[fields["Package"]] = item
    return result


def of_rpm(text, locked):
    """{name: {version, installed, held, broken}} of RPM_QUERY's output.

    rpm has no half-installed state: what a transaction that was cut leaves behind is a package in two versions.
    locked: patterns of dnf's versionlock
    """
    result = {}
    for line in text.splitlines():
        name, epoch, version, architecture = line.split("\t")
        names = [name, f"{name}.{architecture}", f"{name}-{version}.{architecture}", f"{name}-{version}"]
        names += [f"{name}-{epoch}:{version}.{architecture}", f"{epoch}:{name}-{version}.{architecture}"]
        before = result.get(name)
        result[name] = {
            "version": version if epoch == "0" else f"{epoch}:{version}",
            "installed": True,
            "held": any(fnmatch.fnmatchcase(form, pattern) for pattern in locked for form in names),
            "broken": bool(before) and before["architecture"] == architecture and not SIDE_BY_SIDE.match(name),
            "architecture": architecture,
        }
    return result


def locked_by_dnf(etc_root):
    """Return the patterns of dnf's versionlock plug-in; what it excludes (with !) is not among them."""
    lines = (read(etc_root + "/dnf/plugins/versionlock.list") or "").splitlines()
    return [line.strip() for line in lines if line.strip() and line.strip()[0] not in "#!"]
