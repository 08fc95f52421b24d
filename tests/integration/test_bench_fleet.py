"""The whole benchmark: a real inventory, real sshd, the real tunnel; behind it servers that replay recordings."""

import csv
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from ollama_fleet import cli
from ollama_fleet.report import load
from tests.bench_support.ollama_double import OllamaDouble
from tests.bench_support.recordings import VERSIONS, recording
from tests.bench_support.sshd import Sshd

MODEL = "gemma3:270m"


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd") / "one") as server:
        yield server


@pytest.fixture
def workload(tmp_path: Path) -> str:
    """Fits the recordings: 16 tokens, a context of 4096."""
    path = tmp_path / "replay.yml"
    options = {"num_ctx": 4096, "num_predict": 16, "seed": 1, "temperature": 0}
    content = {"purpose": "a replay", "model": MODEL, "options": options, "warm_up": 1, "runs": 3}
    path.write_text(yaml.safe_dump({**content, "prompts": ["Once upon a time", "There was"]}))
    return str(path)


class Fleet:
    """An inventory whose hosts are ports of one machine, and the command run on it."""

    def __init__(self, folder: Path, sshd: Sshd, workload: str, beside: str | None = None) -> None:
        self.folder = folder
        self.inventory = folder / "inventory"
        self.reports = folder / "reports"
        self.output = io.StringIO()
        self._workload = workload
        (self.inventory / "group_vars" / "gpu_servers").mkdir(parents=True)
        (folder / "known_hosts").write_text(sshd.known_hosts_line)
        self._common: dict[str, Any] = {
            "ansible_user": sshd.user,
            "ansible_port": sshd.port,
            "ansible_host": "127.0.0.1",
            "ansible_ssh_private_key_file": str(sshd.key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={beside or folder}/known_hosts",
        }

    def hosts(self, **hosts: dict[str, Any]) -> None:
        groups = {"gpu_servers": {"hosts": hosts}, "web_servers": {"hosts": {"web1": {}}}}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
        variables = self.inventory / "group_vars" / "gpu_servers" / "connection.yml"
        variables.write_text(yaml.safe_dump(self._common))

    def bench(self, *arguments: str) -> int:
        command = ["bench", "--inventory", str(self.inventory), "--output", str(self.reports)]
        return cli.main([*command, "--workload", self._workload, *arguments])

    def report(self) -> dict[str, Any]:
        return json.loads((self.reports / "last" / "report.json").read_text())


@pytest.fixture
def fleet(tmp_path: Path, sshd: Sshd, workload: str) -> Fleet:
    return Fleet(tmp_path, sshd, workload)


@pytest.mark.parametrize("version", VERSIONS)
def test_rates_equal_the_raw_bytes(fleet: Fleet, version: str) -> None:
    with OllamaDouble(version) as ollama:
        fleet.hosts(gpu1={"ollama_port": ollama.port})
        assert fleet.bench() == 0
    final = recording(version, "040-gen-stream-1st").objects[-1]
    host = fleet.report()["hosts"][0]
    decode = final["eval_count"] / final["eval_duration"] * 1e9
    prefill = final["prompt_eval_count"] / final["prompt_eval_duration"] * 1e9
    assert [sample["warm_up"] for sample in host["samples"]] == [True, False, False, False]
    for sample in host["samples"]:
        assert sample["decode_tokens_per_second"] == decode
        assert sample["prefill_tokens_per_second"] == prefill
        assert {key: sample["server"][key] for key in final if key.endswith(("count", "duration"))} == {
            key: value for key, value in final.items() if key.endswith(("count", "duration"))
        }
    assert host["decode_tokens_per_second"] == {
        "n": 3,
        "median": decode,
        "minimum": decode,
        "maximum": decode,
        "mad": 0,
    }
    first_byte = recording(version, "040-gen-stream-1st").pieces[0][0]
    assert host["first_token_ms"]["minimum"] >= first_byte * 1000
    assert host["first_token_ms"]["median"] == pytest.approx(first_byte * 1000, abs=60)
    assert host["server_version"] == version
    assert host["model"]["digest"] == recording(version, "020-tags").objects[0]["models"][0]["digest"]
    assert host["placement"]["verdict"] == "CPU"
    assert host["load"]["state"] == "cold"
    assert host["machine"]["kernel"].startswith("Linux ")


def test_requests_are_what_the_workload_says_and_never_alike(fleet: Fleet) -> None:
    with OllamaDouble("0.32.15", cold=False) as ollama:
        fleet.hosts(gpu1={"ollama_port": ollama.port})
        assert fleet.bench() == 0
    bodies = ollama.bodies
    options = {"num_ctx": 4096, "num_predict": 16, "seed": 1, "temperature": 0}
    assert all(body["options"] == options and body["raw"] is True and body["stream"] is True for body in bodies)
    assert all("keep_alive" not in body for _, _, body in ollama.requests)
    assert len({body["prompt"].split()[0] for body in bodies}) == len(bodies) == 4
    preload = next(body for _, path, body in ollama.requests if path == "/api/generate")
    assert preload == {"model": MODEL, "options": {"num_ctx": 4096}, "stream": False}
    assert fleet.report()["hosts"][0]["load"]["state"] == "warm"
    # One connection for everything: the round trip that is timed is that of the measured requests.
    assert ollama.connections == 1


def test_hosts_are_measured_at_once_and_one_bad_host_hides_no_other(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken, OllamaDouble("0.32.15") as one, OllamaDouble("0.24.0") as two:
        taken.bind(("127.0.0.1", 0))
        refused = taken.getsockname()[1]
        fleet.hosts(
            gpu1={"ollama_port": one.port},
            gpu2={"ollama_port": two.port},
            gpu3={"ollama_port": refused},
            gpu4={"ansible_port": refused},
        )
        assert fleet.bench() == 2
    hosts = {host["name"]: host for host in fleet.report()["hosts"]}
    assert list(hosts) == ["gpu1", "gpu2", "gpu3", "gpu4"]
    assert [hosts[name]["status"] for name in hosts] == ["measured", "measured", "failed", "failed"]
    assert hosts["gpu3"]["failure"]["kind"] == "server"
    assert "nothing listens" in hosts["gpu3"]["failure"]["why"]
    assert hosts["gpu4"]["failure"]["kind"] == "tunnel"
    assert "no SSH" in hosts["gpu4"]["failure"]["why"]
    out = capsys.readouterr().out
    assert "gpu3: failed (server)" in out
    assert "gpu4: failed (tunnel)" in out
    assert "2 of 4 hosts measured, 2 failed" in out
    assert max(len(line) for line in out.splitlines() if "/" not in line and "failed (" not in line) <= 100


def test_a_server_killed_in_the_middle_of_an_answer_is_the_servers_fault(fleet: Fleet) -> None:
    whole = recording("0.32.15", "040-gen-stream-1st")
    with OllamaDouble("0.32.15", answer=lambda number: (whole, 5 if number == 3 else None)) as ollama:
        fleet.hosts(gpu1={"ollama_port": ollama.port})
        assert fleet.bench() == 2
    host = fleet.report()["hosts"][0]
    assert host["failure"]["kind"] == "server"
    assert "broke in the middle of an answer" in host["failure"]["why"]
    # What was measured before stays in the report.
    assert [sample["rejected"] is None for sample in host["samples"]] == [True, True, False]


def test_a_tunnel_cut_in_the_middle_of_an_answer_is_the_tunnels_fault(tmp_path: Path, workload: str) -> None:
    whole = recording("0.32.15", "040-gen-stream-1st")
    with Sshd(tmp_path / "sshd") as sshd:

        def answer(number: int) -> tuple[Any, int | None]:
            if number == 2:
                sshd.cut()
            return whole, None

        fleet = Fleet(tmp_path, sshd, workload)
        with OllamaDouble("0.32.15", answer=answer) as ollama:
            fleet.hosts(gpu1={"ollama_port": ollama.port})
            assert fleet.bench() == 2
    failure = fleet.report()["hosts"][0]["failure"]
    assert failure["kind"] == "tunnel"
    assert "cut" in failure["why"]


def test_answers_that_do_not_count_are_asked_for_again_and_shown_first(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, error = recording("0.32.15", "040-gen-stream-1st"), recording("0.32.15", "019-pull-refused-stream")
    with OllamaDouble("0.32.15", answer=lambda number: (error if number == 2 else whole, None)) as ollama:
        fleet.hosts(gpu1={"ollama_port": ollama.port})
        assert fleet.bench() == 0
    host = fleet.report()["hosts"][0]
    assert (host["samples_measured"], host["samples_rejected"]) == (4, 1)
    assert "connection refused" in host["samples"][1]["rejected"]
    assert "1 of 4" in capsys.readouterr().out


def test_a_server_whose_answers_never_count_fails(fleet: Fleet) -> None:
    short = recording("0.24.0", "051-gen-np1")
    with OllamaDouble("0.24.0", answer=lambda _: (short, None)) as ollama:
        fleet.hosts(gpu1={"ollama_port": ollama.port})
        assert fleet.bench() == 2
    host = fleet.report()["hosts"][0]
    assert host["failure"]["kind"] == "samples"
    assert "no count or no duration" in host["failure"]["why"]
    assert host["samples_measured"] == 6
    assert host["decode_tokens_per_second"] is None


def test_a_model_that_is_not_there_is_named_with_those_that_are(fleet: Fleet) -> None:
    with OllamaDouble("0.32.15") as ollama:
        fleet.hosts(gpu1={"ollama_port": ollama.port})
        assert fleet.bench("--model", "nope:1b") == 2
    failure = fleet.report()["hosts"][0]["failure"]
    assert failure["kind"] == "model"
    assert f"nope:1b is not there; it has: {MODEL}" in failure["why"]
    assert ollama.bodies == []


def test_paths_beside_the_inventory_may_be_templates(tmp_path: Path, sshd: Sshd, workload: str) -> None:
    fleet = Fleet(tmp_path, sshd, workload, beside="{{ inventory_dir }}/..")
    with OllamaDouble("0.32.15") as ollama:
        fleet.hosts(gpu1={"ollama_port": ollama.port})
        assert fleet.bench() == 0


def test_limit_and_show(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    with OllamaDouble("0.32.15") as ollama:
        fleet.hosts(gpu1={"ollama_port": ollama.port}, gpu2={"ollama_port": 1})
        assert fleet.bench("--limit", "gpu1") == 0
        capsys.readouterr()
        assert fleet.bench("--limit", "web1") == 1
    assert "no host of the group gpu_servers is left by --limit web1" in capsys.readouterr().err
    assert cli.main(["show", str(fleet.reports / "last")]) == 0
    assert "1 of 1 host measured" in capsys.readouterr().out


def test_files_are_written_whole_and_last_points_to_the_newest(fleet: Fleet) -> None:
    with OllamaDouble("0.32.15") as ollama:
        fleet.hosts(gpu1={"ollama_port": ollama.port})
        for _ in range(2):
            assert fleet.bench() == 0
    folders = sorted(path for path in fleet.reports.iterdir() if not path.is_symlink())
    assert len(folders) == 2
    assert all(
        {file.name for file in folder.iterdir()} == {"report.json", "report.csv", "report.html"} for folder in folders
    )
    last = fleet.reports / "last"
    assert not last.readlink().is_absolute()
    newest = max(folders, key=lambda folder: folder.stat().st_mtime_ns)
    assert last.resolve() == newest.resolve()
    with (last / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["decode_tokens_per_second_median"]) == load(last).hosts[0].decode.median  # type: ignore[union-attr]


def test_progress_on_a_terminal_shows_every_host(fleet: Fleet) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with OllamaDouble("0.32.15") as ollama:
        fleet.hosts(gpu1={"ollama_port": ollama.port}, gpu2={"ollama_port": ollama.port})
        choices = cli.Choices(workload=fleet._workload)
        cli.bench(fleet.inventory, fleet.reports, choices, console)
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "run 2 of 3" in output
    assert "gpu1" in output
    assert "gpu2" in output
