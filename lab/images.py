"""The lab's images: what each is made of, and building what is not there yet.

An image's tag is a digest of everything it is made from, so one that is there is right, and a change makes a new one.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lab import rootfs, wheels
from lab.apt_sources import AptSetup
from lab.docker import Docker
from lab.paths import Paths
from lab.progress import megabytes, step
from lab.releases import Base
from lab.system import remove_tree

SOURCES = Path(__file__).parent
Fill = Callable[[Path], None]


@dataclass(frozen=True)
class Image:
    """What an image is made of.

    folder: holds Dockerfile and what it copies
    setup, packages: the Debian packages of its base
    inputs: further files and folders whose content decides it
    fill: puts what was not in FOLDER into the build context
    arguments: build arguments, as "NAME=value"
    parent: an image of the lab that it is built on, in place of a base of its own
    """

    name: str
    folder: Path
    setup: AptSetup
    packages: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    fill: Fill = field(default=lambda _context: None)
    arguments: tuple[str, ...] = ()
    parent: "Image | None" = None

    @property
    def base_key(self) -> str:
        """Digest of what the base is made from."""
        if self.parent:
            return self.parent.key
        return _digest([rootfs.inputs(self.setup, self.packages)])

    @property
    def key(self) -> str:
        """Digest of what the image is made from."""
        texts = [self.name, self.base_key, *self.arguments]
        return _digest(texts + [part for source in (self.folder, *self.inputs) for part in content(source)])


def host(base: Base) -> Image:
    """A bare server: systemd, sshd, Python, sudo; no Docker."""
    packages = ("systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "python3", "ca-certificates", "iproute2")
    return Image("host", SOURCES / "images/host", base.apt, packages)


def services(base: Base) -> Image:
    """The container registry and the web server with the models."""
    return Image("services", SOURCES / "images/services", base.apt, ("docker-registry", "nginx-light"))


def stand_in(base: Base) -> Image:
    """The model engine that answers Ollama's API with llama.cpp."""
    lock = SOURCES / "engine/requirements.lock"

    def fill(context: Path) -> None:
        wheels.install(lock, context / "site", base.python)
        shutil.copytree(SOURCES / "engine", context / "engine", ignore=shutil.ignore_patterns("__pycache__"))

    return Image(
        "llamacpp-stand-in",
        SOURCES / "images/llamacpp-stand-in",
        base.apt,
        ("python3", "libgomp1"),
        inputs=(SOURCES / "engine",),
        fill=fill,
        arguments=(f"PYTHON={base.python}",),
    )


def open_webui(base: Base) -> Image:
    """The real Open WebUI."""
    folder = SOURCES / "images/open-webui"

    def fill(context: Path) -> None:
        wheels.install(folder / "app.lock", context / "app", base.python)
        wheels.install(folder / "requirements.lock", context / "packages", base.python)

    packages = ("python3", "ca-certificates")
    return Image("open-webui", folder, base.apt, packages, fill=fill, arguments=(f"PYTHON={base.python}",))


def open_webui_before(base: Base) -> Image:
    """An older real Open WebUI, from which an upgrade begins."""
    parent = open_webui(base)
    folder = SOURCES / "images/open-webui-before"

    def fill(context: Path) -> None:
        wheels.install(folder / "app.lock", context / "app", base.python)

    return replace(parent, name="open-webui-before", folder=folder, fill=fill, parent=parent)


def open_webui_broken(base: Base) -> Image:
    """An Open WebUI that goes wrong after its migrations."""
    parent = open_webui(base)
    folder = SOURCES / "images/open-webui-broken"
    return replace(parent, name="open-webui-broken", folder=folder, fill=lambda _context: None, parent=parent)


def database(base: Base) -> Image:
    """PostgreSQL and Redis, for several Open WebUIs."""
    return Image("database", SOURCES / "images/database", base.apt, ("postgresql", "redis-server"))


def build(docker: Docker, paths: Paths, image: Image) -> str:
    """Build the image and its base unless they are there; return its tag."""
    name, base = tag(paths, image), base_tag(paths, image)
    if docker.ok("image", "inspect", name):
        return name
    if image.parent:
        base = build(docker, paths, image.parent)
    with step(f"image {image.name}") as running:
        if not docker.ok("image", "inspect", base):
            with step(f"image {image.name}: Debian packages"):
                rootfs.make(docker, base, image.setup, image.packages, [paths.label])
        context = paths.home / "build" / image.name
        remove_tree(context)
        shutil.copytree(image.folder, context)
        image.fill(context)
        arguments = [f"--build-arg={argument}" for argument in (f"BASE={base}", *image.arguments)]
        docker.run(
            "build", "--quiet", "--network=none", f"--label={paths.label}", *arguments, f"--tag={name}", str(context)
        )
        shutil.rmtree(context)
        running.note(megabytes(int(docker.inspect("image", [name])[0]["Size"])))
    return name


def prune(docker: Docker, paths: Paths, needed: Sequence[Image]) -> None:
    """Remove the lab's images beside those NEEDED: what earlier states of their inputs made."""
    listed = docker.run("image", "ls", f"--filter=label={paths.label}", "--format={{.Repository}}:{{.Tag}}").split()
    kept = {name for image in needed for name in (tag(paths, image), base_tag(paths, image))}
    for name in set(listed) - kept:
        docker.ok("image", "rm", name)


def tag(paths: Paths, image: Image) -> str:
    """What the engine calls the image."""
    return f"{paths.project}/{image.name}:{image.key}"


def base_tag(paths: Paths, image: Image) -> str:
    """What the engine calls the image's base."""
    return f"{paths.project}/base-{image.name}:{image.base_key}"


def content(source: Path) -> list[str]:
    """Names and contents of the files in a folder (or of a file), in a fixed order, for a content key."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    return [
        f"{file.relative_to(source.parent)} {hashlib.sha256(file.read_bytes()).hexdigest()}"
        for file in files
        if "__pycache__" not in file.parts
    ]


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
