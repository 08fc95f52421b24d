"""Which exact versions are chosen: tests/data/driver_plan/versions.yml, a row a repository with its trap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import nvidia

ROWS = yaml.safe_load((Path(__file__).parents[2] / "data/driver_plan/versions.yml").read_text())


def choose(row: dict[str, Any]) -> dict[str, str]:
    decision = {"packages": dict.fromkeys(row["available"], ""), "branch": row["branch"], "platform": "a-platform"}
    return nvidia.choose_versions(decision, row["available"], row.get("wish", ""))


@pytest.mark.parametrize("row", [row for row in ROWS if "takes" in row], ids=lambda row: row["name"])
def test_one_driver_version_is_taken_for_all_packages(row: dict[str, Any]) -> None:
    chosen = choose(row)
    assert set(chosen) == set(row["available"])
    assert {nvidia.upstream(version) for version in chosen.values()} == {row["takes"]}
    assert all(version in row["available"][name] for name, version in chosen.items())
    assert chosen | row.get("exactly", {}) == chosen


@pytest.mark.parametrize("row", [row for row in ROWS if "refuses" in row], ids=lambda row: row["name"])
def test_what_is_not_whole_or_not_of_the_branch_is_refused_with_a_remedy(row: dict[str, Any]) -> None:
    with pytest.raises(nvidia.RefusalError) as caught:
        choose(row)
    assert row["refuses"] in caught.value.rule
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("version", "inside"),
    [
        ("580.159.04", "580.159.04"),
        ("580.159.04-0ubuntu0.24.04.1", "580.159.04"),
        ("580.159.04-1ubuntu1", "580.159.04"),
        ("3:580.159.04-1.el9", "580.159.04"),
        ("550.163.01-4~bpo13+1", "550.163.01"),
        ("1.20.1-1", "1.20.1"),
        ("610-2ubuntu1", None),
        ("", None),
        (None, None),
    ],
)
def test_upstream_is_what_is_inside(version: str | None, inside: str | None) -> None:
    assert nvidia.upstream(version) == inside
