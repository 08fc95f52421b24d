# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Makes a .deb of an installed package, for when no repository has that version any more."""

from __future__ import annotations

import os
import shutil
import stat

INFO = "/var/lib/dpkg/info"
# Of the files that dpkg keeps about a package: those that go into its archive.
CONTROL = (
    *("preinst", "postinst", "prerm", "postrm", "config", "templates", "conffiles"),
    *("triggers", "shlibs", "symbols", "md5sums"),
)
# What dpkg adds to a package's own description.
ADDED = ("Status", "Config-Version", "Conffiles")


def control_of(described):
    """Return (control file, paths of settings) of what dpkg-query --status prints."""
    kept, conffiles, field = [], [], ""
    for line in described.splitlines():
        if line[:1].isspace():
            if field == "Conffiles":
                conffiles.append(line.split()[0])
        else:
            field = line.partition(":")[0]
        if line.strip() and field not in ADDED:
            kept.append(line)
    return "\n".join(kept) + "\n", conffiles


def diversions(listed, name):
    """Return {path: where the package's own file is} of dpkg-divert --list, as far as others divert files of it."""
    found = {}
    for line in listed.splitlines():
        words = line.replace("local diversion", "diversion").split()
        # "diversion of PATH to PATH by PACKAGE", the last part not for local ones
        if words[:2] == ["diversion", "of"] and words[-1] != name:
            found[words[2]] = words[4]
    return found


def copy(source, target):
    """Copy a file, link or folder with its mode and owner; folders without what is in them."""
    state = os.lstat(source)
    if stat.S_ISDIR(state.st_mode):
        os.makedirs(target, exist_ok=True)
    elif stat.S_ISLNK(state.st_mode):
        os.symlink(os.readlink(source), target)
    else:
        shutil.copyfile(source, target)
    os.chown(target, state.st_uid, state.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(state.st_mode):
        os.chmod(target, stat.S_IMODE(state.st_mode))
        os.utime(target, (state.st_mtime, state.st_mtime))


def repack(name, run, folder, info=INFO, root="/"):
    """Make a .deb of the installed package in folder and return its path, or "" when that does not work.

    run: command -> (exit code, output, errors)
    """
    code, described, _err = run(["dpkg-query", "--status", name])
    _code, listed, _err = run(["dpkg-divert", "--list"])
    lists = [path for path in (f"{info}/{name}.list", f"{info}/{name.partition(':')[0]}.list") if os.path.exists(path)]
    if code or not lists:
        native = run(["dpkg", "--print-architecture"])[1].strip()
        lists = [path for path in (f"{info}/{name}:{native}.list",) if os.path.exists(path)]
        if code or not lists:
            return ""
    stem = lists[0][: -len(".list")]
    control, conffiles = control_of(described)
    tree = os.path.join(folder, "tree")
    os.makedirs(f"{tree}/DEBIAN", mode=0o755)
    moved = diversions(listed, name.partition(":")[0])
    with open(lists[0], encoding="utf-8") as file:
        paths = [line.rstrip("\n") for line in file if line.strip() not in ("", "/.")]
    for path in paths:
        source = os.path.join(root, moved.get(path, path).lstrip("/"))
        # Hosts may leave manuals out when they unpack.
        if os.path.lexists(source):
            copy(source, tree + path)
    with open(f"{tree}/DEBIAN/control", "w", encoding="utf-8") as file:
        file.write(control)
    for part in CONTROL:
        if os.path.exists(f"{stem}.{part}"):
            copy(f"{stem}.{part}", f"{tree}/DEBIAN/{part}")
    if conffiles and not os.path.exists(f"{tree}/DEBIAN/conffiles"):
        kept = [path for path in conffiles if os.path.lexists(tree + path)]
        with open(f"{tree}/DEBIAN/conffiles", "w", encoding="utf-8") as file:
            file.write("".join(f"{path}\n" for path in kept))
    target = os.path.join(folder, f"{name.replace(':', '_')}.deb")
    code, _out, _err = run(["dpkg-deb", "-Znone", "--build", tree, target])
    shutil.rmtree(tree)
    return "" if code else target
