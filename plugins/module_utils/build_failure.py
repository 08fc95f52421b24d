# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Why DKMS could not build a kernel module, in one line."""

from __future__ import annotations

import os
import re

LOG = re.compile(r"(/\S+/make\.log)")
KERNEL = re.compile(r"module build on kernel: (\S+)|for kernel (?:version )?(\d\S+)")
MODULE = re.compile(r"/dkms/([^/]+)/([^/]+)/")
COMPILER = re.compile(r"(?:^|/)([^/\s]+:\d+(?::\d+)?): (?:fatal )?error: (.+)$")
OTHER = re.compile(r"^(?:make(?:\[\d+\])?: \*\*\*|ld: |ERROR: |Error! |.*: (?:No such file|not found))")


def log_in(output):
    """Return the path of the make.log that a package's output points at, or ""."""
    found = LOG.search(output)
    return found.group(1) if found else ""


def cause(log):
    """Return the first error of a make.log: the compiler's where it complained, else make's."""
    lines = [line.strip() for line in log.splitlines()]
    for line in lines:
        found = COMPILER.search(line)
        if found:
            return f"{found.group(1)}: {found.group(2)}"
    return next((line for line in lines if OTHER.match(line)), "")


def reason(output, read):
    """Return one line about a module build that failed, "" when none did.

    output: what apt printed
    read:   path -> text of a file, None when it cannot be read
    """
    path = log_in(output)
    if not path:
        return ""
    module, kernel = MODULE.search(path), KERNEL.search(output)
    name = f"module {module.group(1)} {module.group(2)}" if module else "a module"
    for_kernel = next((part for part in kernel.groups() if part), "") if kernel else ""
    why = cause(read(path) or "") or f"see {os.path.basename(path)}"
    return f"{name} does not build for kernel {for_kernel or 'of this host'}: {why}"
