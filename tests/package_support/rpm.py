"""Fixtures with the names, versions and dependencies of NVIDIA's CUDA repository for Enterprise Linux 9.

They are built by rpmbuild on a host that has rpm, dnf and createrepo_c. In the lab that is Debian with dnf: what dnf
does with packages is tested there, Enterprise Linux itself is not.
"""

VERSIONS = ("580.126.09", "580.159.04", "590.48.01")
EPOCH = 3
FOLDER = "/srv/rpm-fixtures"

_SPEC = """\
Name: {name}
Epoch: {epoch}
Version: {version}
Release: 1.el9
Summary: fixture with the name of a real package
License: Apache-2.0
BuildArch: noarch
{relations}
%description
It holds nothing of NVIDIA's.
%install
mkdir -p %{{buildroot}}/usr/share/ollama-fleet-fixture
echo {name} {version} > %{{buildroot}}/usr/share/ollama-fleet-fixture/{name}
%files
/usr/share/ollama-fleet-fixture/{name}
{post}
"""
# Fails as DKMS does in a package's script, when the tests say so.
_POST = """\
%post
if [ "$(cat /etc/ollama-fleet-fixture/build-fails 2>/dev/null)" = {version} ]; then
    tree=/var/lib/dkms/nvidia-open/{version}/build
    mkdir -p $tree
    echo "$tree/nvidia/nv-pci.c:180:9: error: too few arguments to function 'pci_resize_resource'" > $tree/make.log
    echo "Error! Bad return status for module build on kernel: 5.14.0-570.el9.x86_64 (x86_64)" >&2
    echo "Consult $tree/make.log for more information." >&2
    exit 10
fi
%postun
rm -rf /var/lib/dkms/nvidia-open/{version}
rmdir /var/lib/dkms/nvidia-open /var/lib/dkms 2>/dev/null || true
"""


def evr(version: str) -> str:
    return f"{EPOCH}:{version}-1.el9"


def _specs(version: str) -> dict[str, str]:
    exactly = f"= {evr(version)}"
    requires = {
        "nvidia-driver-cuda": [f"nvidia-driver-cuda-libs {exactly}", f"kmod-nvidia-open-dkms {exactly}"],
        "nvidia-driver-cuda-libs": [],
        "kmod-nvidia-open-dkms": [],
        "nvidia-persistenced": [f"nvidia-driver-cuda-libs {exactly}"],
        # The trap: "at least" brings the newest branch.
        "cuda-drivers": [f"nvidia-driver-cuda >= {evr(version)}"],
        # Debian's shell is no rpm package.
        "shell-fixture": [],
    }
    return {
        name: _SPEC.format(
            name=name,
            epoch=EPOCH,
            version=version,
            relations="".join([*(f"Requires: {each}\n" for each in needs), *_provides(name)]),
            post=_POST.format(version=version) if name.startswith("kmod") else "",
        )
        for name, needs in requires.items()
    }


def _provides(name: str) -> list[str]:
    return ["Provides: /bin/sh\n"] if name == "shell-fixture" else []


def commands() -> str:
    """The shell commands that build the repository in FOLDER and make it dnf's only one."""
    lines = [f"sudo mkdir -p {FOLDER}/specs {FOLDER}/repo /var/lib/rpm /etc/yum.repos.d"]
    for version in VERSIONS:
        for name, spec in _specs(version).items():
            lines.append(f"sudo tee {FOLDER}/specs/{name}-{version}.spec >/dev/null <<'SPEC'\n{spec}SPEC")
    repo = f"[fixtures]\\nname=Fixtures\\nbaseurl=file://{FOLDER}/repo\\ngpgcheck=0\\n"
    lines += [
        f"sudo rpmbuild --quiet -bb --define '_rpmdir {FOLDER}/repo' --define '_topdir {FOLDER}/build'"
        f" {FOLDER}/specs/*.spec",
        f"sudo createrepo_c -q --general-compress-type=gz {FOLDER}/repo",
        f"printf '{repo}' | sudo tee /etc/yum.repos.d/fixtures.repo >/dev/null",
        # Debian's plug-in for local packages wants signatures of its own.
        "printf '[main]\\nenabled = false\\n' | sudo tee /etc/dnf/plugins/local.conf >/dev/null",
    ]
    return "\n".join(lines)
