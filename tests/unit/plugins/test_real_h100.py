"""What host_info and plan said on a real machine (one H100, driver 580.159.04, open modules), recorded there.

tests/data/hosts/nvidia-h100/host_info.json is the module's result and plan.json that of `./inv plan --json`, both with
a local connection; the other files beside them are what the kernel showed on a machine of the same kind.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import nvidia

from tests.unit.plugins.host_trees import RECORDINGS, HostTree

FOLDER = RECORDINGS / "nvidia-h100"
WISHES = {"branch": 580, "version": "", "flavor": "auto", "source": "auto", "reboot_enabled": False}


@pytest.fixture
def observed() -> dict[str, Any]:
    return dict(json.loads(Path(FOLDER / "host_info.json").read_text()))


def test_the_machine_was_seen_as_what_it_is(observed: dict[str, Any]) -> None:
    (gpu,) = observed["gpus"]
    assert (gpu["name"], gpu["architecture"], gpu["state"]) == ("NVIDIA H100 80GB HBM3", "hopper", "ok")
    # nvidia-smi on it: 81559 MiB, MIG disabled
    assert (gpu["memory_bytes"], gpu["mig"]) == (81559 * 1024**2, False)
    driver = observed["driver"]
    assert (driver["loaded"], driver["flavor"], driver["user_space"]) == ("580.159.04", "open", "580.159.04")
    assert driver["processes"] == []


def test_the_recorded_tree_shows_the_same_machine(tree: HostTree, observed: dict[str, Any]) -> None:
    built = tree.recording("nvidia-h100").observe(disk_paths=[]).everything()
    assert set(built) == set(observed)
    # The tree was recorded on another day, on another machine of the same kind, and no program answers for it.
    own = {"uuid", "memory_bytes", "mig"}
    for ours, theirs in zip(built["gpus"], observed["gpus"], strict=True):
        assert {key: ours[key] for key in set(ours) - own} == {key: theirs[key] for key in set(theirs) - own}
    for name in ("os", "secure_boot", "wsl", "nvswitches", "nvswitch_bridges"):
        assert built[name] == observed[name], name


def test_there_is_nothing_to_do_for_its_driver(observed: dict[str, Any]) -> None:
    decision = nvidia.driver_plan(observed, WISHES, None)
    assert decision["action"] == "keep"
    assert decision["packages"] == {}
    assert decision["reasons"] == ["580.159.04 open is loaded, not from packages: it stays, and is not locked"]


def test_the_plan_that_was_printed_there_says_so() -> None:
    plan = json.loads((FOLDER / "plan.json").read_text())
    (host,) = plan["hosts"]
    assert host["cards"] == "1 x NVIDIA H100 80GB HBM3 (Hopper 10de:2330)"
    steps = {step["role"]: step for step in host["steps"]}
    says = "nothing to change; 580.159.04 open is loaded, not from packages: it stays, and is not locked"
    assert steps["nvidia_driver"]["reason"] == says
    notes = {note["topic"]: note["choice"] for note in steps["nvidia_driver"]["notes"]}
    assert (notes["modules"], notes["branch"], notes["version"]) == ("open", "580", "580.159.04")
