"""What apt and dpkg say is understood, and what may not happen is refused before it does."""

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import apt_transaction as apt
from ansible_collections.ollama_fleet.stack.plugins.module_utils import package_changes as changes
from ansible_collections.ollama_fleet.stack.plugins.module_utils.apt_undo import way_back
from ansible_collections.ollama_fleet.stack.plugins.module_utils.driver_versions import Family
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.package_changes import Package, Step

WANTED = {"nvidia-driver-cuda": "580.159.04-1"}
FAMILY = Family(["(lib)?nvidia-.*", "libcuda1"], WANTED)
INSTALLED = ("i", "i", "")


def on_host(**versions: str) -> dict[str, Package]:
    return {name.replace("_", "-"): Package(version, *INSTALLED) for name, version in versions.items()}


INSTALL = Step("install", "nvidia-driver-cuda", "", "580.159.04-1")


def test_a_simulation_is_read_with_versions_architectures_and_what_is_pending() -> None:
    said = """\
Reading package lists...
Inst libcuda1 [580.126.09-1] (580.159.04-1 Fixture:1/stable [amd64]) [nvidia-driver-cuda:amd64 on libcuda1:amd64]
Inst linux-base (4.12.1 Debian:13.7/stable [all])
Inst libnvidia-ml1:i386 (580.159.04-1 Fixture:1/stable [i386])
Conf libcuda1 (580.159.04-1 Fixture:1/stable [amd64])
Remv nvidia-kernel-dkms [580.126.09-1] [nvidia-driver-cuda:amd64 ]
Purg nvidia-smi [550.163.01-2]
"""
    assert apt.read_steps(said) == [
        Step("install", "libcuda1", "580.126.09-1", "580.159.04-1"),
        Step("install", "linux-base", "", "4.12.1"),
        Step("install", "libnvidia-ml1:i386", "", "580.159.04-1"),
        Step("remove", "nvidia-kernel-dkms", "580.126.09-1", ""),
        Step("remove", "nvidia-smi", "550.163.01-2", ""),
    ]


def test_the_status_of_packages_tells_broken_held_and_gone_ones_apart() -> None:
    said = (
        "libcuda1:amd64\t580.159.04-1\thi \nlibcuda1:i386\t580.159.04-1\tii \nmodules\t1\tiF \nhalf\t1\tiHR\n"
        "unpacked\t1\tiU \ntriggered\t1\titR\nconfig\t1\trc \nunknown\t\tun \n"
    )
    status = apt.read_status(said, "amd64")
    assert sorted(name for name, package in status.items() if package.broken) == [
        "half",
        "modules",
        "triggered",
        "unpacked",
    ]
    assert status["libcuda1"].held
    assert status["libcuda1:i386"].installed
    assert not status["config"].there
    assert "unknown" not in status


def test_versions_of_all_sources_are_read_without_source_packages() -> None:
    said = " libcuda1 | 590.48.01-1 | http://r/x  Packages\n libcuda1 | 580.159.04-1 | http://r/x  Packages\n"
    said += "libcuda1 | 999-1 | http://r/x  Sources\n"
    assert apt.read_madison(said) == {"libcuda1": ["590.48.01-1", "580.159.04-1"]}


ERRORS = {
    "E: Unable to locate package nonesuch\n": "Unable to locate package nonesuch",
    # apt 2
    """The following packages have unmet dependencies:
 cuda-drivers-580 : Depends: nvidia-driver (>= 580.159.04-1) but it is not installable
E: Unable to correct problems, you have held broken packages.
""": "cuda-drivers-580 : Depends: nvidia-driver (>= 580.159.04-1) but it is not installable",
    # apt 3
    """E: Unable to satisfy dependencies. Reached two conflicting assignments:
   1. libcuda1 is selected for install
   2. libcuda1 is not selected for install
""": "Unable to satisfy dependencies. Reached two conflicting assignments: 1. libcuda1 is selected for install"
    " 2. libcuda1 is not selected for install",
    """dpkg: error processing package libcuda1 (--configure):
 installed libcuda1 package post-installation script subprocess returned error exit status 1
Errors were encountered while processing:
 libcuda1
E: Sub-process /usr/bin/dpkg returned an error code (1)
""": "dpkg: error processing package libcuda1 (--configure): installed libcuda1 package post-installation script"
    " subprocess returned error exit status 1",
    "": "it gave no reason",
}


@pytest.mark.parametrize(("said", "reason"), ERRORS.items())
def test_the_first_true_error_is_the_reason(said: str, reason: str) -> None:
    assert apt.first_error(said) == reason


HAS_EXPIRED = "the key that signs http://r/x has expired"
SOURCES = {
    # gpgv: Debian 12, Ubuntu 22.04 and 24.04
    "W: An error occurred during the signature verification. GPG error: http://r/x  InRelease: The following signatures"
    " were invalid: EXPKEYSIG E49F96015B686B45": HAS_EXPIRED,
    # sqv: Debian 13
    "W: OpenPGP signature verification failed: http://r/x  InRelease: Sub-process /usr/bin/sqv returned an error code"
    " (1), error message is: The key is not live because: Expired on 2024-01-02": HAS_EXPIRED,
    "E: The repository 'http://r/x  InRelease' is not signed.": "The repository 'http://r/x InRelease' is not signed.",
    "W: Failed to fetch http://r/x/InRelease  No answer": "Failed to fetch http://r/x/InRelease No answer",
    "Get:1 http://r/x  InRelease [600 B]\nReading package lists...": "",
}


@pytest.mark.parametrize(("said", "problem"), SOURCES.items())
def test_a_package_source_that_cannot_be_read_is_named(said: str, problem: str) -> None:
    assert apt.source_problem(said) == problem


REFUSALS = {
    "another driver by a dependency": (
        [INSTALL, Step("install", "libnvidia-ml1", "", "590.48.01-1")],
        {},
        "nvidia-driver-cuda would bring libnvidia-ml1 590.48.01-1, another driver",
    ),
    "a package of others": (
        [INSTALL, Step("remove", "docker.io", "26.1", "")],
        on_host(docker_io="26.1"),
        "apt would remove docker.io, which nobody asked for",
    ),
    "one that is held": (
        [INSTALL, Step("install", "libc6", "2.36", "2.41")],
        {"libc6": Package("2.36", "h", "i", "")},
        "it needs libc6 2.41, and 2.36 is held",
    ),
    "a downgrade of others": (
        [INSTALL, Step("install", "dkms", "3.2", "3.1")],
        on_host(dkms="3.2"),
        "apt would downgrade dkms from 3.2 to 3.1",
    ),
    "a part that stays behind": (
        [INSTALL],
        on_host(libcuda1="590.48.01-1"),
        "libcuda1 would stay at 590.48.01-1, which is another driver",
    ),
    "not what was asked for": ([], {}, "apt would leave nvidia-driver-cuda at not installed and not 580.159.04-1"),
}


@pytest.mark.parametrize(("steps", "status", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_an_install_that_would_do_more_is_refused(steps: list[Step], status: dict[str, Package], reason: str) -> None:
    with pytest.raises(FleetError) as refused:
        changes.check_install(steps, status, FAMILY, changes.APT)
    assert reason in refused.value.why
    assert "nothing was changed" in refused.value.what


def test_an_install_may_replace_parts_of_the_driver_and_upgrade_what_it_needs() -> None:
    steps = [
        INSTALL,
        Step("remove", "nvidia-kernel-dkms", "580.126.09-1", ""),
        Step("install", "dkms", "3.1", "3.2"),
        Step("install", "nvidia-modprobe", "570.1-1", "590.48.01-1"),
    ]
    status = {
        **on_host(nvidia_kernel_dkms="580.126.09-1", dkms="3.1"),
        "nvidia-modprobe": Package("570.1-1", "h", "i", ""),
    }
    changes.check_install(steps, status, FAMILY, changes.APT)


def test_removing_is_refused_when_others_need_it_or_it_would_bring_something_in() -> None:
    changes.check_removal([Step("remove", "libcuda1", "580", "")], ["libcuda1"], changes.APT)
    with pytest.raises(FleetError) as refused:
        changes.check_removal(
            [Step("remove", "libcuda1", "580", ""), Step("remove", "gpu-program", "1", "")], ["libcuda1"], changes.APT
        )
    assert refused.value.why == "gpu-program needs what would be removed"
    with pytest.raises(FleetError):
        changes.check_removal(
            [Step("remove", "dkms", "3", ""), Step("install", "other", "", "1")], ["dkms"], changes.APT
        )


def test_what_counts_as_the_driver_is_held_and_nothing_else() -> None:
    status = on_host(nvidia_driver_cuda="580.159.04-1", libcuda1="580.159.04-1", nvidia_modprobe="580.159.04-1")
    status |= on_host(
        nvidia_container_toolkit="1.18.0-1", nvidia_kernel_common="20240109+1", linux_headers_amd64="6.12"
    )
    status["libnvidia-ml1"] = Package("580.159.04-1", "r", "c", "")
    assert changes.to_hold(status, FAMILY) == ["libcuda1", "nvidia-driver-cuda"]


def test_preferences_prefer_the_wanted_driver_and_keep_the_hosts_own() -> None:
    text = apt.preferences(FAMILY, "Package: mine\nPin: version 1\nPin-Priority: 7")
    assert "Package: nvidia-driver-cuda\nPin: version 580.159.04-1\nPin-Priority: 1002\n" in text
    assert "Package: /^((lib)?nvidia-.*|libcuda1)$/\nPin: version 580.159.04-*\nPin-Priority: 1001\n" in text
    assert text.endswith("Package: mine\nPin: version 1\nPin-Priority: 7\n")
    # apt takes the first record that fits a version: the exact one comes before the driver's.
    assert text.index("1002") < text.index("1001") < text.index("Package: mine")


def test_the_way_back_removes_what_is_new_and_brings_back_what_was_there() -> None:
    before = {
        "upgraded": Package("1", *INSTALLED),
        "removed": Package("1", *INSTALLED),
        "untouched": Package("1", *INSTALLED),
        "settings-only": Package("1", "r", "c", ""),
    }
    now = {
        "upgraded": Package("2", *INSTALLED),
        "untouched": Package("1", *INSTALLED),
        "settings-only": Package("2", "i", "F", ""),
        "new": Package("2", "i", "U", ""),
    }
    assert way_back(before, now) == (["new"], ["settings-only"], ["removed", "upgraded"])
    half = {**before, "untouched": Package("1", "i", "F", "")}
    assert way_back(before, half) == ([], [], ["untouched"])
    assert way_back(before, before) == ([], [], [])
