"""The reason of a module build that failed, in one line."""

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import build_failure

# What apt printed for Debian 13's own open modules on its kernel 6.12.117.
APT = """\
Building initial module nvidia-current-open/550.163.01 for 6.12.117+deb13-amd64
Building module(s)...........................(bad exit status: 2)
Failed command:
env NV_VERBOSE=1 make -j2 modules KERNEL_UNAME=6.12.117+deb13-amd64

Error! Bad return status for module build on kernel: 6.12.117+deb13-amd64 (x86_64)
Consult /var/lib/dkms/nvidia-current-open/550.163.01/build/make.log for more information.
dpkg: error processing package nvidia-open-kernel-dkms (--configure):
"""
LOG = """\
  CC [M]  /var/lib/dkms/nvidia-current-open/550.163.01/build/nvidia/nv-pci.o
/var/lib/dkms/x/build/nvidia/nv-pci.c: In function 'nv_resize_pcie_bars':
/var/lib/dkms/x/build/nvidia/nv-pci.c:230:5: warning: unused variable
/var/lib/dkms/x/build/nvidia/nv-pci.c:237:9: error: too few arguments to function 'pci_resize_resource'
/usr/src/linux-headers/include/linux/pci.h:1420:5: note: declared here
make[3]: *** [scripts/Makefile.build:249: nv-pci.o] Error 1
"""
CAUSES = {
    LOG: "nv-pci.c:237:9: too few arguments to function 'pci_resize_resource'",
    "a.c:1:10: fatal error: linux/gone.h: No such file\n": "a.c:1:10: linux/gone.h: No such file",
    "cc: ok\nmake[1]: *** No rule to make target.\n": "make[1]: *** No rule to make target.",
    "ld: cannot find -lelf\n": "ld: cannot find -lelf",
    "nothing of note\n": "see make.log",
}


@pytest.mark.parametrize(("log", "cause"), CAUSES.items())
def test_the_first_error_of_the_log_is_the_reason(log: str, cause: str) -> None:
    reason = build_failure.reason(APT, {"/var/lib/dkms/nvidia-current-open/550.163.01/build/make.log": log}.__getitem__)
    assert reason == f"module nvidia-current-open 550.163.01 does not build for kernel 6.12.117+deb13-amd64: {cause}"


def test_other_failures_are_no_module_builds() -> None:
    assert build_failure.reason("dpkg: error: disk full", lambda _path: "") == ""
