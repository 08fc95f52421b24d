"""Indexes of repositories are read as apt and rpm write them."""

import gzip
import lzma

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils import package_index as index
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

PACKAGES = """\
Package: libcuda1
Version: 580.126.09-1
Description: a library
 Package: libcuda1 is not a field here
Depends: libc6

Package: libcuda1
Version: 590.48.01-1

Package: other
Version: 1
"""
REPOMD = b"""<?xml version="1.0"?><repomd xmlns="http://linux.duke.edu/metadata/repo">
<data type="filelists"><location href="repodata/f.xml.gz"/></data>
<data type="primary"><location href="repodata/p.xml.gz"/></data></repomd>"""
PRIMARY = """<metadata xmlns="http://linux.duke.edu/metadata/common" packages="3">
<package><name>nvidia-driver-cuda</name><arch>x86_64</arch><version epoch="3" ver="580.126.09" rel="1.el9"/></package>
<package><name>nvidia-driver-cuda</name><arch>x86_64</arch><version epoch="3" ver="580.159.04" rel="1.el9"/></package>
<package><name>nvidia-driver-cuda</name><arch>src</arch><version epoch="3" ver="999.1.1" rel="1.el9"/></package>
<package><name>nvlsm</name><arch>x86_64</arch><version epoch="0" ver="2025.10" rel="1"/></package>
</metadata>"""


def test_a_packages_file_tells_the_versions_newest_first_and_nothing_for_unknown_names() -> None:
    pages = {"http://r/Packages.gz": gzip.compress(PACKAGES.encode())}
    assert index.read_apt("http://r/", ["libcuda1", "nonesuch"], pages.get) == {
        "libcuda1": ["590.48.01-1", "580.126.09-1"],
        "nonesuch": [],
    }


def test_another_packing_is_read_where_there_is_no_gzip() -> None:
    pages = {"http://r/Packages.xz": lzma.compress(PACKAGES.encode())}
    assert index.read_apt("http://r", ["other"], pages.get) == {"other": ["1"]}


def test_rpm_metadata_tells_epochs_and_leaves_sources_out() -> None:
    pages = {"http://r/repodata/repomd.xml": REPOMD, "http://r/repodata/p.xml.gz": gzip.compress(PRIMARY.encode())}
    assert index.read_rpm("http://r", ["nvidia-driver-cuda", "nvlsm"], pages.get) == {
        "nvidia-driver-cuda": ["3:580.159.04-1.el9", "3:580.126.09-1.el9"],
        "nvlsm": ["2025.10-1"],
    }


@pytest.mark.parametrize("read", [index.read_apt, index.read_rpm])
def test_an_address_without_an_index_is_named(read: object) -> None:
    with pytest.raises(FleetError, match="http://r/wrong cannot be read"):
        read("http://r/wrong", ["libcuda1"], {}.get)  # type: ignore[operator]


def test_metadata_that_cannot_be_unpacked_says_so() -> None:
    with pytest.raises(FleetError, match="zstd"):
        index.unpack("primary.xml.zst", b"")
