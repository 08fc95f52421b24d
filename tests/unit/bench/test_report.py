"""Console, JSON, CSV and HTML of one report, hostile names included."""

import csv
import io
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

import ollama_fleet.report
from ollama_fleet import cli, report
from ollama_fleet.bench import workload
from ollama_fleet.bench.result import (
    SCHEMA,
    BenchReport,
    Failure,
    HostResult,
    Load,
    Machine,
    Model,
    Placement,
    Sample,
    Spread,
)
from ollama_fleet.errors import FleetError
from ollama_fleet.report.html import scale

SMOKE = workload.load("smoke")
HOSTILE = "<script>alert(1)</script>"


def taken(number: int, decode: float | None, rejected: str | None = None) -> Sample:
    return Sample(
        number=number,
        warm_up=number == 1,
        prompt=0,
        nonce="0f",
        rejected=rejected,
        output_tokens=128,
        prompt_tokens=300,
        cached_tokens=None,
        decode_tokens_per_second=decode,
        prefill_tokens_per_second=2000.0,
        first_token_ms=31.5,
        first_token_less_round_trip_ms=30.0,
        wall_ms=500.0,
        unaccounted_ms=1.0,
        server={"eval_count": 128, "done": True},
    )


def measured(name: str = "gpu1", model: str = "smollm2:135m", **changes: object) -> HostResult:
    host = HostResult(
        name=name,
        address="10.0.0.1",
        server_version="0.32.15-llamacpp-stand-in",
        model=Model(model, "6af3f264", 98_374_638, "Q4_1", "134.52M", "llama"),
        machine=Machine("Debian GNU/Linux 13 (trixie)", "Linux 6.12", "AMD EPYC", 16, ("NVIDIA L4, 580.1",)),
        placement=Placement("partial", 1000, 620, 4096),
        load=Load("cold", 1.234),
        round_trip_ms=Spread.of([1.0, 1.5, 2.0]),
        samples=[taken(1, 50.0), taken(2, 80.0), taken(3, None, "it ended early"), taken(4, 81.0), taken(5, 90.0)],
    )
    for key, value in changes.items():
        setattr(host, key, value)
    return host


def failed(name: str = "gpu2", why: str = "no SSH at 10.0.0.2:22: connection refused") -> HostResult:
    return HostResult(name, "10.0.0.2", failure=Failure("tunnel", f"host {name}", why, "check that it is up"))


def made(*hosts: HostResult, model: str = "smollm2:135m") -> BenchReport:
    return BenchReport(
        created="2026-11-22T22:35:10+00:00",
        tool="ollama-fleet 0.1.0",
        inventory="inventory/lab",
        limit=None,
        forks=max(1, len(hosts)),
        model=model,
        workload={**asdict(SMOKE), "prompts": list(SMOKE.prompts), "raw": True},
        hosts=list(hosts),
        seconds=12.5,
    )


def printed(value: BenchReport, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(report.table(value))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_exit_code_says_whether_a_host_failed() -> None:
    assert made(measured()).exit_code == 0
    assert made(measured(), failed()).exit_code == 2


def test_json_fits_its_schema_and_reads_back_the_same(tmp_path: Path) -> None:
    value = made(measured(), failed())
    path = report.write_all(value, tmp_path)["json"]
    content = json.loads(path.read_text())
    schema = json.loads((Path(ollama_fleet.report.__file__).parent / "schema.json").read_text())
    jsonschema.validate(content, schema, cls=jsonschema.Draft202012Validator)
    assert content["schema"] == SCHEMA == schema["title"]
    assert content["hosts"][0]["decode_tokens_per_second"]["median"] == 81.0
    assert report.load(path) == report.load(tmp_path) == value


def test_a_report_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps({**made(measured()).to_json(), "schema": "ollama-fleet/bench-report/99"}))
    with pytest.raises(FleetError, match="bench-report/99"):
        report.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "ollama-fleet/bench-report/1"}'])
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(FleetError, match="report"):
        report.load(path)


def test_table_fits_100_columns_and_names_every_host_and_failure() -> None:
    long = "gpu3-with-a-long-name.rack12.example.net"
    text = printed(made(measured(), measured(long), failed()))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert re.search(r"gpu1 +1 of 4 +81\.0 ±1\.0 +2,000 ±0 +30\.0 ±0\.0 +1\.23 cold +62% GPU", text)
    assert re.search(r"gpu2 +failed .* failed", text)
    assert "gpu2: failed (tunnel): no SSH at 10.0.0.2:22: connection refused" in text
    assert "remedy: check that it is up" in text
    assert "2 of 3 hosts measured, 1 failed, 2 answers did not count" in text
    assert "0.32.15-llamacpp-stand-in" in text


def test_table_is_not_steered_by_names() -> None:
    text = printed(made(measured("[red]x[/red]\x1b[2Jy", notes=["a\x1b]0;title\x07"])))
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_csv_has_one_row_for_each_host_and_no_formula(tmp_path: Path) -> None:
    path = report.write_all(made(measured("=1+1"), failed()), tmp_path)["csv"]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["host"] for row in rows] == ["'=1+1", "gpu2"]
    assert float(rows[0]["decode_tokens_per_second_median"]) == 81.0
    assert float(rows[0]["decode_tokens_per_second_mad"]) == 1.0
    assert (rows[0]["samples_measured"], rows[0]["samples_rejected"]) == ("4", "1")
    assert rows[1]["failure_kind"] == "tunnel"
    assert rows[1]["decode_tokens_per_second_median"] == ""


class Page(HTMLParser):
    """Collects what a browser would fetch or run, and checks that every tag is closed."""

    VOID = frozenset({"meta", "br", "line", "rect", "path", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "srcset", "data", "poster", "action", "xlink:href"} or name.startswith("on"):
                self.fetched.append(f"{tag} {name}={value}")
            if name == "href":
                self.links.add(value or "")
            if name == "id":
                self.ids.add(value or "")
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag


def test_html_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = report.write_all(made(measured(), failed()), tmp_path)["html"].read_text()
    page = Page(text)
    assert page.fetched == []
    assert not {"script", "link", "iframe", "img", "object", "embed", "base", "form"} & set(page.tags)
    assert not re.search(r"(https?:)?//|url\(|@import", text)
    # Every link is to a place on the page that is there.
    assert {link.removeprefix("#") for link in page.links} <= page.ids


def test_html_escapes_what_comes_from_elsewhere(tmp_path: Path) -> None:
    host = measured(HOSTILE, model=HOSTILE, server_version=HOSTILE, notes=[HOSTILE], machine=Machine(os=HOSTILE))
    host.samples.append(taken(6, 70.0, HOSTILE))
    text = report.write_all(made(host, failed(HOSTILE, HOSTILE), model=HOSTILE), tmp_path)["html"].read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 8
    assert "script" not in Page(text).tags


def test_html_shows_each_figure_with_its_formula(tmp_path: Path) -> None:
    text = report.write_all(made(measured(), failed()), tmp_path)["html"].read_text()
    for expected in (
        "1 of 2 hosts measured, 1 failed",
        "80.0 to 90.0",
        "62% GPU",
        "no: it ended early",
        "eval_count ÷ eval_duration",
        "(prompt_eval_count \N{MINUS SIGN} prompt_eval_cached_count) ÷ prompt_eval_duration",
        "6af3f264",
        "0.32.15-llamacpp-stand-in",
        "Debian GNU/Linux 13 (trixie), Linux 6.12",
        "failed: tunnel",
        "num_ctx 8192",
    ):
        assert expected in text, expected


def test_html_of_a_fleet_where_nobody_answered(tmp_path: Path) -> None:
    text = report.write_all(made(failed()), tmp_path)["html"].read_text()
    assert "0 of 1 host measured, 1 failed" in text


@pytest.mark.parametrize(
    ("greatest", "expected"),
    [(0, (1.0, 0.5)), (1, (1.0, 0.2)), (308, (400.0, 100.0)), (9400, (10000.0, 2000.0)), (589, (600.0, 200.0))],
)
def test_scale_ends_at_a_round_number_that_holds_all(greatest: float, expected: tuple[float, float]) -> None:
    assert scale(greatest) == pytest.approx(expected)


def test_publish_writes_whole_folders_and_moves_last(tmp_path: Path) -> None:
    first, second = report.publish(made(measured()), tmp_path), report.publish(made(measured()), tmp_path)
    assert first["json"].parent.name == "2026-11-22T22-35-10Z"
    assert second["json"].parent.name == "2026-11-22T22-35-10Z-2"
    assert (tmp_path / "last").readlink() == Path("2026-11-22T22-35-10Z-2")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [first["json"].parent.name, second["json"].parent.name, "last"]
    )


def test_publish_says_when_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FleetError, match="--output"):
        report.publish(made(measured()), tmp_path / "file")


def test_show_prints_an_older_report_and_ends_with_its_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.write_all(made(measured(), failed()), tmp_path)
    assert cli.main(["show", str(tmp_path)]) == 2
    assert "1 of 2 hosts measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["bench"], [], ["nonsense"], ["bench", "--inventory", "x", "--forks", "0"], ["show"]]
)
def test_bad_arguments_end_with_1_not_with_the_code_for_a_failed_host(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 1
    assert "usage:" in capsys.readouterr().err


def test_a_missing_inventory_ends_with_1_and_a_remedy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["bench", "--inventory", str(tmp_path / "none")]) == 1
    assert "remedy:" in capsys.readouterr().err


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "exit codes:" in text
    assert "2  at least one host failed" in text
