"""The benchmark of how models get to a fleet, on the lab with two hosts."""

import json
import subprocess
from pathlib import Path

from tests.system.conftest import ROOT, Session


def test_benchmark_sees_the_model_cross_the_uplink_once(lab: Session, tmp_path: Path) -> None:
    report = tmp_path / "distribute.json"
    command = [str(ROOT / "benchmarks" / "distribute"), "--hosts", "1", "2", "--json", str(report)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    copies = {(item["way"], item["hosts"]): item["copies"] for item in json.loads(report.read_text())["rounds"]}
    assert copies["cache", 2] < 1.15
    assert copies["naive", 2] > 1.9
