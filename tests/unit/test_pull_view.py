"""The pulls of all hosts below the output of a program, on a terminal that is a string."""

import io
import json
import sys
from pathlib import Path

from rich.console import Console

from ollama_fleet import pull_view
from ollama_fleet.pull_view import Pull

GB = 1_000_000_000
# Writes a pull where OLLAMA_FLEET_PULLS says, waits until somebody must have looked, and says things around it.
PROGRAM = """
import json, os, pathlib, sys, time
folder = pathlib.Path(os.environ["OLLAMA_FLEET_PULLS"])
print("before", flush=True)
told = {"host": "gpu1", "model": "m:1", "completed": 1, "total": 2, "words": "1.0 of 2.0 GB, 5.0 MB/s, 3 min left"}
(folder / "gpu1.json").write_text(json.dumps(told))
time.sleep(1.2)
print("\\x1b[32mbetween\\x1b[0m", flush=True)
time.sleep(0.2)
(folder / "gpu1.json").unlink()
sys.stdout.write("after, without an end of line")
sys.exit(4)
"""


def pull(host: str, left: int = GB) -> Pull:
    return Pull(host, "m:1", 4 * GB - left, 4 * GB, f"{left} left")


def shown(renderable: object, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_each_host_is_a_row() -> None:
    text = shown(pull_view.render([pull("gpu1"), pull("gpu2")]))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines] == ["gpu1", "gpu2"]
    assert all("m:1" in line and "1000000000 left" in line for line in lines)


def test_hosts_that_do_not_fit_are_counted_and_those_with_the_most_left_are_shown(tmp_path: Path) -> None:
    for number in range(30):
        told = pull(f"gpu{number}", left=number * GB // 10).__dict__
        (tmp_path / f"gpu{number}.json").write_text(json.dumps(told))
    text = shown(pull_view.render(pull_view.read(tmp_path)))
    shown_hosts = [line.split()[0] for line in text.splitlines()[:20]]
    assert shown_hosts == [f"gpu{number}" for number in range(10, 30)]
    assert "and 10 more hosts, which have 4.5 GB left to pull" in text


def test_names_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in shown(pull_view.render([pull("gpu\x1b[2J")]))


def test_output_stays_whole_and_in_order_and_the_pull_is_shown(tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system="standard")
    code = pull_view.run([sys.executable, "-c", PROGRAM], tmp_path, {}, console)
    text = screen.getvalue()
    assert code == 4
    assert text.index("before") < text.index("3 min left") < text.index("between") < text.index("after, without")
    assert "\x1b[32mbetween" in text


def test_program_without_a_pull_is_passed_on_as_it_is(tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, color_system="standard")
    program = "import os; print('x' * 300); print(os.environ['ANSIBLE_FORCE_COLOR'])"
    assert pull_view.run([sys.executable, "-c", program], tmp_path, {}, console) == 0
    assert screen.getvalue() == "x" * 300 + "\n1\n"


def test_question_is_shown_before_its_line_ends(tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    asks = "import pathlib, sys, time; sys.stdout.write('sure? '); sys.stdout.flush(); time.sleep(1); print('yes')"
    seen: list[str] = []
    original = console.print

    def print_and_note(*objects: object, **options: object) -> None:
        original(*objects, **options)  # type: ignore[arg-type]
        seen.append(screen.getvalue())

    console.print = print_and_note  # type: ignore[assignment]
    assert pull_view.run([sys.executable, "-c", asks], tmp_path, {}, console) == 0
    assert seen[0] == "sure? "
    assert screen.getvalue() == "sure? yes\n"


def test_wish_for_no_colour_is_kept(tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    program = "import os; print(os.environ.get('ANSIBLE_FORCE_COLOR'))"
    pull_view.run([sys.executable, "-c", program], tmp_path, {"NO_COLOR": "1"}, console)
    assert "None" in screen.getvalue()
