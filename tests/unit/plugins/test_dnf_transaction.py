"""What dnf and rpm say is understood: tables, locks, and the failures that dnf calls complete."""

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import dnf_transaction as dnf
from ansible_collections.ollama_fleet.stack.plugins.module_utils.package_changes import Package, Step

TABLE = """\
Last metadata expiration check: 0:00:01 ago on Mon Nov 23 02:42:06 2026.
Dependencies resolved.
================================================================================
 Package                    Arch      Version                 Repository   Size
================================================================================
Installing:
 kmod-nvidia-open-dkms      noarch    3:580.159.04-1.el9      cuda        6.7 k
     replacing  kmod-nvidia-latest-dkms.x86_64 3:580.126.09-1.el9
Upgrading:
 a-package-with-a-name-that-takes-more-than-its-column
                            x86_64    3:580.159.04-1.el9      cuda         35
Downgrading:
 nvidia-persistenced        x86_64    3:580.126.09-1.el9      cuda        1.2 M
Installing dependencies:
 dkms                       noarch    0:3.2.1-1.el9           epel         89 k
Removing unused dependencies:
 old-library                x86_64    1.0-1.el9               @cuda       4.0 k

Transaction Summary
================================================================================
Install  2 Packages
"""


def test_the_table_of_a_change_is_read_also_where_long_names_break_lines() -> None:
    status = {"nvidia-persistenced": Package("3:580.159.04-1.el9", "i", "i", "")}
    assert dnf.read_steps(TABLE, status) == [
        Step("install", "kmod-nvidia-open-dkms", "", "3:580.159.04-1.el9"),
        Step("remove", "kmod-nvidia-latest-dkms", "3:580.126.09-1.el9", ""),
        Step("install", "a-package-with-a-name-that-takes-more-than-its-column", "", "3:580.159.04-1.el9"),
        Step("install", "nvidia-persistenced", "3:580.159.04-1.el9", "3:580.126.09-1.el9"),
        Step("install", "dkms", "", "3.2.1-1.el9"),
        Step("remove", "old-library", "", ""),
    ]


def test_installed_packages_and_their_locks_are_read() -> None:
    said = "nvidia-driver-cuda\t3:580.159.04-1.el9\ndkms\t0:3.2-1\ngpg-pubkey\td42d0685-62589a51\n"
    locks = dnf.read_locks(
        "# Added lock on Mon Nov 23\nnvidia-driver-cuda-3:580.159.04-1.el9.*\nother-0:1-1.*\n", {"nvidia-driver-cuda"}
    )
    assert locks == {"nvidia-driver-cuda": "nvidia-driver-cuda-3:580.159.04-1.el9.*"}
    status = dnf.read_status(said, locks)
    assert {name: (package.version, package.held) for name, package in status.items()} == {
        "nvidia-driver-cuda": ("3:580.159.04-1.el9", True),
        "dkms": ("3.2-1", False),
    }
    assert dnf.lock_of("nvidia-driver-cuda", "3:580.159.04-1.el9") in locks.values()
    assert dnf.lock_of("dkms", "3.2-1") == "dkms-0:3.2-1.*"


def test_a_script_that_failed_is_seen_where_dnf_says_complete() -> None:
    said = (
        "warning: %post(kmod-nvidia-open-dkms-3:580.126.09-1.el9.noarch) scriptlet failed, exit status 10\nComplete!\n"
    )
    assert (
        dnf.script_failure(said)
        == "a script of kmod-nvidia-open-dkms-3:580.126.09-1.el9.noarch failed (exit status 10)"
    )
    assert dnf.script_failure("Complete!\n") == ""


ERRORS = {
    "Error: Unable to find a match: nvidia-driver-cuda-3:1-1\nNo match for argument: nvidia-driver-cuda-3:1-1\n": (
        "No match for argument: nvidia-driver-cuda-3:1-1"
    ),
    "Error: \n Problem 1: conflicting requests\n  - nothing provides dkms needed by kmod-nvidia-open-dkms\n": (
        "- nothing provides dkms needed by kmod-nvidia-open-dkms"
    ),
    "Unable to detect release version\nError: Failed to download metadata for repo 'cuda'\n": (
        "Failed to download metadata for repo 'cuda'"
    ),
}


@pytest.mark.parametrize(("said", "reason"), ERRORS.items())
def test_the_reason_is_the_line_that_says_it(said: str, reason: str) -> None:
    assert dnf.first_error("", said) == reason


def test_the_newest_transaction_is_found() -> None:
    said = "ID     | Command line\n-------\n     12 | history undo last\n     11 | install\n"
    assert dnf.newest_transaction(said) == 12
    assert dnf.newest_transaction("") == 0
