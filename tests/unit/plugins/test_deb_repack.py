"""A .deb made of an installed package has what the package came with."""

from pathlib import Path

from ansible_collections.ollama_fleet.stack.plugins.module_utils import deb_repack

DESCRIBED = """\
Package: libcuda1
Status: hold ok installed
Version: 580.126.09-1
Architecture: amd64
Conffiles:
 /etc/cuda.conf 0123456789abcdef0123456789abcdef
 /etc/old.conf 0123456789abcdef0123456789abcdef obsolete
Description: a library
 with a second line
"""


def test_the_description_loses_what_dpkg_added() -> None:
    control, settings = deb_repack.control_of(DESCRIBED)
    assert control == (
        "Package: libcuda1\nVersion: 580.126.09-1\nArchitecture: amd64\nDescription: a library\n with a second line\n"
    )
    assert settings == ["/etc/cuda.conf", "/etc/old.conf"]


def test_files_that_others_divert_are_taken_from_where_they_went() -> None:
    listed = "diversion of /usr/lib/libGL.so.1 to /usr/lib/mesa/libGL.so.1 by glx-diversions\n"
    listed += "diversion of /usr/bin/a to /usr/bin/a.real by libcuda1\n"
    assert deb_repack.diversions(listed, "libcuda1") == {"/usr/lib/libGL.so.1": "/usr/lib/mesa/libGL.so.1"}


def test_files_links_and_scripts_go_into_the_archive(tmp_path: Path) -> None:
    root, info, made = tmp_path / "root", tmp_path / "info", tmp_path / "made"
    for folder in (root / "usr/lib", info, made):
        folder.mkdir(parents=True)
    (root / "usr/lib/libcuda.so.580").write_text("library")
    (root / "usr/lib/libcuda.so.1").symlink_to("libcuda.so.580")
    (info / "libcuda1:amd64.list").write_text(
        "/.\n/usr\n/usr/lib\n/usr/lib/libcuda.so.580\n/usr/lib/libcuda.so.1\n/usr/gone\n"
    )
    (info / "libcuda1:amd64.postinst").write_text("#!/bin/sh\n")
    packed: dict[str, str] = {}

    def run(command: list[str]) -> tuple[int, str, str]:
        if command[0] == "dpkg-deb":
            tree = Path(command[-2])
            packed.update({str(path.relative_to(tree)): path.read_text() for path in tree.rglob("*") if path.is_file()})
        answers = {"dpkg-query": DESCRIBED, "dpkg": "amd64\n"}
        return 0, answers.get(command[0], ""), ""

    target = deb_repack.repack("libcuda1", run, str(made), info=str(info), root=str(root))
    assert target == str(made / "libcuda1.deb")
    assert set(packed) == {
        *("DEBIAN/control", "DEBIAN/postinst", "DEBIAN/conffiles"),
        *("usr/lib/libcuda.so.580", "usr/lib/libcuda.so.1"),
    }
    assert deb_repack.repack("nonesuch", run, str(made), info=str(info), root=str(root)) == ""
