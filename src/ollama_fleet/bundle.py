"""A fleet on a disk, for networks without the internet: models, images and packages, each file by its SHA-256.

The playbooks bundle_save and bundle_load carry the files; what is here says whether a bundle is whole.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ollama_fleet import fleet_run
from ollama_fleet.errors import FleetError
from ollama_fleet.playbook import PlaybookOptions

SCHEMA = "ollama-fleet/bundle/1"
LIST = "bundle.json"
_CHUNK = 1 << 20
_NAMED = 5


@dataclass(frozen=True)
class Entry:
    """One file. path: below the bundle's folder, with slashes. size: bytes."""

    path: str
    size: int
    sha256: str


class Watcher(Protocol):
    """Told how many bytes were read."""

    def __call__(self, count: int) -> None: ...


def save(inventory: Path, folder: Path, limit: str | None, console: Console) -> int:
    """Put what the inventory's hosts have into the folder; go on where an earlier save was cut. Ansible's exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    # A folder that is being filled is no bundle: nobody loads half of one.
    (folder / LIST).unlink(missing_ok=True)
    code = fleet_run.run("bundle_save", inventory, _options(folder, limit))
    if code == 0:
        with _watched(console, "writing checksums", folder) as watcher:
            entries = seal(folder, watcher)
        console.print(f"{folder}: {len(entries)} files, {sum(entry.size for entry in entries) / 1e9:.2f} GB")
    return code


def load(inventory: Path, folder: Path, limit: str | None, console: Console) -> int:
    """Bring a bundle to the inventory's hosts, once it was found whole. Ansible's exit code.

    Raises FleetError when a file is missing, damaged or not of this bundle; then nothing is loaded.
    """
    with _watched(console, "checking the bundle", folder) as watcher:
        verify(folder, watcher)
    return fleet_run.run("bundle_load", inventory, _options(folder, limit))


def seal(folder: Path, watcher: Watcher = lambda count: None) -> list[Entry]:
    """Write down every file of the folder with its SHA-256, as the last thing of a save."""
    entries = [Entry(name, path.stat().st_size, _sha256(path, watcher)) for name, path in _files(folder)]
    new = folder / f"{LIST}.new"
    new.write_text(json.dumps({"schema": SCHEMA, "files": [asdict(entry) for entry in entries]}, indent=1) + "\n")
    new.replace(folder / LIST)
    return entries


def verify(folder: Path, watcher: Watcher = lambda count: None) -> list[Entry]:
    """The bundle's files, each of which is as it was saved; FleetError that names those that are not."""
    entries = _read(folder)
    there = dict(_files(folder))
    wanted = {entry.path: entry for entry in entries}
    wrong = [f"{name} is missing" for name in wanted if name not in there]
    wrong += [f"{name} is not of this bundle" for name in there if name not in wanted]
    for name, path in there.items():
        entry = wanted.get(name)
        if entry is None:
            continue
        size = path.stat().st_size
        if size != entry.size:
            wrong.append(f"{name} has {size} bytes, not {entry.size}")
        elif _sha256(path, watcher) != entry.sha256:
            wrong.append(f"{name} has other bytes than were saved")
    if wrong:
        more = f"; and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise FleetError(
            f"bundle {folder}",
            "; ".join(wrong[:_NAMED]) + more,
            "nothing was loaded. Copy these files anew from the original, or run bundle.save again where it was made",
        )
    return entries


def _read(folder: Path) -> list[Entry]:
    try:
        content = json.loads((folder / LIST).read_text())
        if content["schema"] != SCHEMA:
            raise FleetError(
                f"bundle {folder}",
                f"its schema is {content['schema']}",
                f"load it with the version that knows {SCHEMA}",
            )
        return [Entry(str(item["path"]), int(item["size"]), str(item["sha256"])) for item in content["files"]]
    except FileNotFoundError as error:
        raise FleetError(
            f"bundle {folder}", f"it has no {LIST}: it was not saved to its end", "run bundle.save again: it goes on"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FleetError(
            f"bundle {folder}", f"{LIST} cannot be read: {error}", "copy it anew, or run bundle.save again"
        ) from error


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # A link would lead out of the disk, or to what nobody summed up.
        if path.is_symlink():
            raise FleetError(f"bundle {folder}", f"{name} is a link", "replace it by the file itself, or remove it")
        if path.is_file() and name not in {LIST, f"{LIST}.new"}:
            yield name, path


def _sha256(path: Path, watcher: Watcher) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            watcher(len(chunk))
    return digest.hexdigest()


def _options(folder: Path, limit: str | None) -> PlaybookOptions:
    extra_vars: Sequence[str] = [json.dumps({"bundle_folder": str(folder.resolve())})]
    return PlaybookOptions(limit=limit, extra_vars=extra_vars)


@contextmanager
def _watched(console: Console, what: str, folder: Path) -> Iterator[Watcher]:
    """Bytes, rate and time left of reading the whole bundle; on a terminal only."""
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))

        def watcher(count: int) -> None:
            progress.advance(task, count)

        yield watcher
