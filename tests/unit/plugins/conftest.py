from pathlib import Path

import pytest

from tests.unit.plugins.host_trees import HostTree


@pytest.fixture
def tree(tmp_path: Path) -> HostTree:
    return HostTree(tmp_path / "host")
