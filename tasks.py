"""What a person calls: ./inv --list. Each task is thin: it names the work, src/ollama_fleet and lab/ do it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

ROOT = Path(__file__).resolve().parent
# Invoke finds this file from any folder; what it imports stands beside it.
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "src")) if path not in sys.path]

LAB_INVENTORY = "inventory/lab"

INVENTORY = "inventory folder (default: the lab's)"
LIMIT = "only these hosts or groups, as for ansible-playbook"
TAGS = "only what has these tags: a role's name, install, configure, verify, or ROLE_PURPOSE"
CHECK = "change nothing, say what would change"
DIFF = "show how files would change or have changed"
YES = "do not ask before installing what this machine lacks"


@contextmanager
def explained() -> Iterator[None]:
    """Turn a typed error into one readable message and exit code 1."""
    from ollama_fleet.errors import FleetError

    try:
        yield
    except FleetError as error:
        raise Exit(f"error: {error}", code=1) from None


def inventory_path(inventory: str) -> Path:
    """An inventory as given on the command line, relative to where the person stands, else to the project."""
    path = Path(inventory)
    return path.resolve() if path.exists() else ROOT / path


# ---------------------------------------------------------------- the lab


@task(
    help={
        "hosts": "GPU-server hosts to start, beside one web host",
        "engine": "stand-in (llama.cpp, needs no registry) or ollama (the real image from its registry)",
        "yes": YES,
    }
)
def lab_up(c: Context, hosts: int = 2, engine: str = "stand-in", yes: bool = False) -> None:
    """Build a small fleet on this machine, provision and benchmark it."""
    from lab.session import run

    with explained():
        raise Exit(code=run(ROOT, hosts, cast(Any, engine), yes))


@task(help={"keep-images": "keep the built images, so that the next ./inv lab is quick"})
def lab_down(c: Context, keep_images: bool = False) -> None:
    """Remove the lab and all that it left on this machine."""
    from lab.lab import Lab

    with explained():
        Lab(ROOT).down(keep_images=keep_images)


@task
def lab_status(c: Context) -> None:
    """Show the lab's hosts and services and their state."""
    from lab.session import print_status

    with explained():
        raise Exit(code=print_status(ROOT))


@task(positional=["host"], help={"host": "gpu1, gpu2, ... or web1"})
def lab_ssh(c: Context, host: str) -> None:
    """Open a shell on a host of the lab."""
    from lab.lab import Lab

    with explained():
        command = Lab(ROOT).ssh_command(host)
    raise Exit(code=subprocess.run(command, check=False).returncode)


# ---------------------------------------------------------------- a fleet


@task(
    incrementable=["verbose"],
    help={
        "inventory": INVENTORY,
        "limit": LIMIT,
        "tags": TAGS,
        "check": CHECK,
        "diff": DIFF,
        "full": "run every role in full, whatever the plan says",
        "verbose": "more of Ansible's output, more often for more",
    },
)
def up(
    c: Context,
    inventory: str = LAB_INVENTORY,
    limit: str = "",
    tags: str = "",
    check: bool = False,
    diff: bool = False,
    full: bool = False,
    verbose: int = 0,
) -> None:
    """Bring every host to the state that its inventory describes.

    Exit codes: 0 done, 2 a host failed, 4 a host could not be reached, 1 nothing ran.
    """
    from ollama_fleet import fleet_run
    from ollama_fleet.playbook import PlaybookOptions

    extra_vars = ["ollama_fleet_full=true"] if full else []
    options = PlaybookOptions(limit or None, tags or None, check, diff, verbose, extra_vars)
    with explained():
        raise Exit(code=fleet_run.run("site", inventory_path(inventory), options))


@task(help={"inventory": INVENTORY, "limit": LIMIT, "json": "print JSON instead of a table"})
def plan(c: Context, inventory: str = LAB_INVENTORY, limit: str = "", json: bool = False) -> None:
    """Show what up would do on each host, and why.

    Exit codes: 0 nothing to do, 2 changes wait, 1 a host could not be planned, or cannot get what is asked for.
    """
    from rich.console import Console

    from ollama_fleet import planning

    with explained():
        result = planning.make_plan(inventory_path(inventory), limit or None)
    if json:
        print(result.to_json())
    else:
        planning.show(result, Console())
    raise Exit(code=result.exit_code)


@task(
    help={
        "inventory": INVENTORY,
        "limit": LIMIT,
        "tags": "only these roles",
        "check": CHECK,
        "diff": DIFF,
        "models": "with a native Ollama, remove its models too",
    }
)
def down(
    c: Context,
    inventory: str = LAB_INVENTORY,
    limit: str = "",
    tags: str = "",
    check: bool = False,
    diff: bool = False,
    models: bool = False,
) -> None:
    """Remove Open WebUI, a native Ollama, toolkit, Docker and driver, as far as this project brought them.

    Exit codes as of up.
    """
    extra_vars = ['{"ollama_fleet_remove_models": true}'] if models else []
    play("teardown", inventory, limit, tags=tags, check=check, diff=diff, extra_vars=extra_vars)


@task(help={"inventory": INVENTORY, "limit": LIMIT})
def doors(c: Context, inventory: str = LAB_INVENTORY, limit: str = "") -> None:
    """Knock at every host from outside, name what is open and should not be.

    Exit codes as of up: 2 a host shows more than it should.
    """
    play("doors", inventory, limit)


@task(help={"inventory": INVENTORY, "limit": LIMIT, "json": "print JSON instead of a table"})
def prove(c: Context, inventory: str = LAB_INVENTORY, limit: str = "", json: bool = False) -> None:
    """Have a model answer on every host, prove that the GPU did it and that nobody else can ask; log in to Open WebUI.

    Exit codes: 0 every host is proved, 2 one is not, 4 one could not be reached, 1 nothing ran.
    """
    from rich.console import Console

    from ollama_fleet import proof

    with explained():
        result = proof.prove(inventory_path(inventory), limit or None)
    if json:
        print(result.to_json())
    else:
        proof.show(result, Console())
    raise Exit(code=result.exit_code)


def play(
    name: str,
    inventory: str,
    limit: str,
    tags: str = "",
    check: bool = False,
    diff: bool = False,
    extra_vars: list[str] | None = None,
) -> None:
    """Run a playbook on the hosts of an inventory, and end with its exit code."""
    from ollama_fleet import fleet_run
    from ollama_fleet.playbook import PlaybookOptions

    options = PlaybookOptions(limit or None, tags or None, check, diff, extra_vars=extra_vars or [])
    with explained():
        raise Exit(code=fleet_run.run(name, inventory_path(inventory), options))


DRIVER = {"inventory": INVENTORY, "limit": LIMIT, "check": CHECK}


@task(
    help={
        **DRIVER,
        "to": "exact version, such as 580.159.04 (default: the newest of the branch)",
        "branch": "another branch than the inventory's; write it there as well",
    }
)
def driver_upgrade(
    c: Context, inventory: str = LAB_INVENTORY, limit: str = "", check: bool = False, to: str = "", branch: int = 0
) -> None:
    """Move the driver lock to a newer version and bring it to the hosts.

    Exit codes as of up.
    """
    extra_vars = [f"ollama_fleet_driver_to={to}"] if to else []
    if branch:
        extra_vars.append(f'{{"nvidia_driver_branch": {branch}}}')
    play("driver_upgrade", inventory, limit, check=check, diff=check, extra_vars=extra_vars)


@task(help=DRIVER)
def driver_rollback(c: Context, inventory: str = LAB_INVENTORY, limit: str = "", check: bool = False) -> None:
    """Move the driver lock back to the version before and bring it to the hosts.

    Exit codes as of up.
    """
    play("driver_rollback", inventory, limit, check=check, diff=check)


@task(help=DRIVER)
def driver_unlock(c: Context, inventory: str = LAB_INVENTORY, limit: str = "", check: bool = False) -> None:
    """Let go of the driver, so that a person or apt can move it; the next up locks what is there then.

    Exit codes as of up.
    """
    play("driver_unlock", inventory, limit, check=check, diff=check)


@task(
    help={
        "inventory": INVENTORY,
        "limit": LIMIT,
        "model": "model to measure (default: the workload's)",
        "workload": "what to ask: smoke, or a file of your own",
        "output": "folder for the reports",
    }
)
def bench(
    c: Context,
    inventory: str = LAB_INVENTORY,
    limit: str = "",
    model: str = "",
    workload: str = "smoke",
    output: str = "reports",
) -> None:
    """Measure each host's Ollama through SSH, write a report.

    Exit codes: 0 every host measured, 2 a host failed, 1 nothing ran.
    """
    from ollama_fleet import cli
    from ollama_fleet.bench import Choices

    choices = Choices(limit=limit or None, model=model or None, workload=workload)
    with explained():
        report = cli.bench(inventory_path(inventory), Path(output).resolve(), choices, cli.console())
    raise Exit(code=report.exit_code)


# ---------------------------------------------------------------- models


@task(help={"inventory": INVENTORY, "limit": LIMIT, "json": "print JSON instead of a table"})
def models_plan(c: Context, inventory: str = LAB_INVENTORY, limit: str = "", json: bool = False) -> None:
    """Show what each model needs on each host, whether it fits, and what would.

    Exit codes: 0 everything fits, 2 something does not, 1 a host could not be asked.
    """
    from rich.console import Console

    from ollama_fleet.models import plan

    with explained():
        result = plan.make_plan(inventory_path(inventory), limit or None)
    if json:
        print(result.to_json())
    else:
        plan.show(result, Console())
    raise Exit(code=result.exit_code)


@task(
    help={
        "inventory": INVENTORY,
        "limit": LIMIT,
        "check": CHECK,
        "update": "lock what the registries have now, and bring it to the hosts",
        "model": "update this model alone",
    }
)
def models_lock(
    c: Context,
    inventory: str = LAB_INVENTORY,
    limit: str = "",
    check: bool = False,
    update: bool = False,
    model: str = "",
) -> None:
    """Write down what each model is made of.

    Exit codes: 0 all is as it is locked, 2 something is not, 1 a host could not be asked. With --update as of up.
    """
    from rich.console import Console

    from ollama_fleet.models import lock

    if model and not update:
        raise Exit("error: --model is for --update; without it, everything that is not locked yet is locked", code=1)
    path = inventory_path(inventory)
    with explained():
        mode: lock.Mode = "update" if update else "lock"
        result = lock.run(path, limit or None, mode, names=[model] if model else [], check=check)
    lock.show(result, Console())
    if update and result.exit_code != 1 and not check:
        play("site", inventory, limit, tags="ollama_models")
    raise Exit(code=result.exit_code)


@task(help={"inventory": INVENTORY, "limit": LIMIT, "json": "print JSON instead of a table"})
def models_diff(c: Context, inventory: str = LAB_INVENTORY, limit: str = "", json: bool = False) -> None:
    """Show which models are not as they are locked, on the hosts and in their registries.

    Exit codes: 0 all is as it is locked, 2 something is not, 1 a host could not be asked.
    """
    from rich.console import Console

    from ollama_fleet.models import lock

    with explained():
        result = lock.run(inventory_path(inventory), limit or None, "look")
    if json:
        print(result.to_json())
    else:
        lock.show(result, Console())
    raise Exit(code=result.exit_code)


@task(help={"inventory": INVENTORY, "limit": LIMIT, "check": CHECK})
def models_prune(c: Context, inventory: str = LAB_INVENTORY, limit: str = "", check: bool = False) -> None:
    """Delete the models that hosts have and the inventory does not name.

    Exit codes as of up.
    """
    play("models_prune", inventory, limit, check=check, diff=check)


# ---------------------------------------------------------------- without the internet


@task(
    help={
        "folder": "folder on the disk that carries it",
        "inventory": INVENTORY,
        "limit": "hosts to take it from: one of each kind is enough",
    }
)
def bundle_save(c: Context, folder: str, inventory: str = LAB_INVENTORY, limit: str = "") -> None:
    """Put the models, images and packages of a fleet on a disk, with checksums.

    Goes on where it was cut. Exit codes as of up.
    """
    from ollama_fleet import bundle, cli

    with explained():
        code = bundle.save(inventory_path(inventory), Path(folder).resolve(), limit or None, cli.console())
    raise Exit(code=code)


@task(
    help={
        "folder": "folder that bundle.save made",
        "inventory": INVENTORY,
        "limit": LIMIT,
    }
)
def bundle_load(c: Context, folder: str, inventory: str = LAB_INVENTORY, limit: str = "") -> None:
    """Check a disk that bundle.save made, then bring what is on it to the hosts; up does the rest.

    Exit codes as of up; 1 as well when a file on the disk is missing or damaged: then nothing is loaded.
    """
    from ollama_fleet import bundle, cli

    with explained():
        code = bundle.load(inventory_path(inventory), Path(folder).resolve(), limit or None, cli.console())
    raise Exit(code=code)


# ---------------------------------------------------------------- secrets


@task(help={"inventory": "inventory folder that gets the vault"})
def secrets_init(c: Context, inventory: str = LAB_INVENTORY) -> None:
    """Make what is missing in an inventory's vault."""
    from ollama_fleet import secrets

    with explained():
        result = secrets.init(inventory_path(inventory))
    for name in result.created:
        print(f"made  {name}")
    for name in result.kept:
        print(f"kept  {name}")


@task(
    help={
        "inventory": INVENTORY,
        "only": "admin-password, secret-key, tokens, token:CLIENT, certificates, authority; with commas (default: all)",
        "at-once": "refuse old tokens without waiting for the new ones to be handed out, as after a leak",
        "check": CHECK,
        "yes": "do not ask after saying what it costs",
    }
)
def secrets_rotate(
    c: Context,
    inventory: str = LAB_INVENTORY,
    only: str = "",
    at_once: bool = False,
    check: bool = False,
    yes: bool = False,
) -> None:
    """Change secrets of a fleet that runs, prove the old ones refused; or finish what an earlier run began.

    Exit codes as of up; 1 as well when the answer was no.
    """
    from ollama_fleet import fleet_run, rotation
    from ollama_fleet.playbook import PlaybookOptions

    folder = inventory_path(inventory)
    wish = rotation.Wish(tuple(name.strip() for name in only.split(",") if name.strip()), at_once)

    def apply(step: str) -> int:
        return fleet_run.run("secrets_rotate", folder, PlaybookOptions())

    def agree(costs: str) -> bool:
        print(costs, flush=True)
        return yes or not sys.stdin.isatty() or input("Go on? [y/N] ").strip().lower() in {"y", "yes"}

    with explained():
        if check:
            print("\n".join(rotation.preview(folder, wish)))
            return
        code = rotation.rotate(folder, wish, apply, lambda line: print(line, flush=True), agree)
    raise Exit(code=code)


@task(positional=["name"], help={"name": "variable in the vault", "inventory": INVENTORY})
def secrets_show(c: Context, name: str, inventory: str = LAB_INVENTORY) -> None:
    """Print one secret of an inventory's vault."""
    from ollama_fleet import secrets

    with explained():
        print(secrets.show(inventory_path(inventory), name))


# ---------------------------------------------------------------- the project itself


def run_steps(steps: list[tuple[str, str]]) -> None:
    """Run every step, say how long each took, and fail at the end if any did."""
    from rich.console import Console

    console = Console()
    failed = []
    for name, command in steps:
        console.rule(f"[bold]{name}", align="left")
        started = time.monotonic()
        code = subprocess.run(command, shell=True, cwd=ROOT, check=False).returncode  # noqa: S602 - our own fixed text
        if code:
            failed.append(name)
        console.print(f"{name}: {'failed' if code else 'passed'} in {time.monotonic() - started:.0f} s")
    if failed:
        raise Exit(f"failed: {', '.join(failed)}", code=1)


LINT = [
    ("ruff", "ruff check . && ruff format --check ."),
    ("mypy", "mypy"),
    ("yamllint", "yamllint --strict ."),
    # The default inventory is the lab's, which is there only while a lab is.
    ("ansible-lint", "ANSIBLE_INVENTORY=inventory/sample ansible-lint"),
]
UNIT = [("unit tests", "pytest tests/unit")]
TOOLS = [("tools", "python -m tests.tools")]
INTEGRATION = [("integration tests", "pytest tests/integration --durations=10")]
SYSTEM = [("system tests", "pytest tests/system --durations=10 -m 'not long'")]
LONG = [("long system tests", "pytest tests/system --durations=10 -m long")]


@task
def test_all(c: Context) -> None:
    """Run all tests but the long ones, those on lab hosts included."""
    run_steps(LINT + UNIT + TOOLS + INTEGRATION + SYSTEM)


@task
def test_lint(c: Context) -> None:
    """Run ruff, mypy, yamllint and ansible-lint."""
    run_steps(LINT)


@task
def test_unit(c: Context) -> None:
    """Run the tests that need no network: seconds."""
    run_steps(UNIT)


@task
def test_integration(c: Context) -> None:
    """Run the tests with real programs on this machine."""
    run_steps(TOOLS + INTEGRATION)


@task
def test_system(c: Context) -> None:
    """Run the tests on lab hosts (makes a lab if none is up), but for the long ones."""
    run_steps(TOOLS + SYSTEM)


@task
def test_long(c: Context) -> None:
    """Run the tests on lab hosts that take long: real kernel modules are built, many cuts are tried."""
    run_steps(TOOLS + LONG)


@task
def build(c: Context) -> None:
    """Build the collection and the wheel into dist/."""
    run_steps(
        [
            ("collection", "ansible-galaxy collection build --force --output-path dist"),
            ("wheel", "python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist ."),
        ]
    )


@task
def lock(c: Context) -> None:
    """Renew requirements.lock from pyproject.toml with uv."""
    run_steps(
        [
            (
                "requirements.lock",
                "uv pip compile --quiet --universal --generate-hashes --no-header --group dev pyproject.toml"
                " --output-file requirements.lock --upgrade",
            )
        ]
    )


def family(name: str, default: Any = None, **tasks: Any) -> Collection:
    """A group of tasks, called as name.task; the default one also as name alone."""
    collection = Collection(name)
    for task_name, body in tasks.items():
        collection.add_task(body, name=task_name, default=body is default)
    return collection


ns = Collection(up, plan, prove, down, doors, bench, build, lock)
ns.add_collection(family("bundle", save=bundle_save, load=bundle_load))
ns.add_collection(family("driver", upgrade=driver_upgrade, rollback=driver_rollback, unlock=driver_unlock))
ns.add_collection(family("lab", default=lab_up, up=lab_up, down=lab_down, status=lab_status, ssh=lab_ssh))
ns.add_collection(family("models", plan=models_plan, lock=models_lock, diff=models_diff, prune=models_prune))
ns.add_collection(family("secrets", init=secrets_init, show=secrets_show, rotate=secrets_rotate))
ns.add_collection(
    family(
        "test",
        default=test_all,
        all=test_all,
        lint=test_lint,
        unit=test_unit,
        integration=test_integration,
        system=test_system,
        long=test_long,
    )
)
