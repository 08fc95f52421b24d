"""The state that the project's roles bring a host to, as one who uses pyinfra would describe it.

What is wanted comes from benchmarks/converge: it reads on the converged hosts what the roles' records say is managed.
Contents are ready-made files, so that this deploy need not render any template.
"""

import json
import shlex

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation
from pyinfra.facts.docker import DockerContainer
from pyinfra.operations import apt, files, server, systemd


class OllamaModels(FactBase):
    """{name: digest} of the models that an Ollama serves."""

    def requires_command(self, base_url):
        return "python3"

    def command(self, base_url):
        program = f"import urllib.request as r; print(r.urlopen('{base_url}/api/tags', timeout=5).read().decode())"
        return f'python3 -c "{program}"'

    def process(self, output):
        return {model["name"]: model["digest"] for model in json.loads("\n".join(output))["models"]}


class PackageHolds(FactBase):
    """The packages that apt may not move."""

    def command(self):
        return "apt-mark showhold"

    def process(self, output):
        return list(output)


@operation()
def compose_project(container, image_id, project_dir):
    """Have a Compose project's container run, with this image."""
    found = host.get_fact(DockerContainer, object_id=container)
    running = bool(found) and found[0]["State"]["Status"] == "running" and found[0]["Image"] == image_id
    if not running:
        yield StringCommand("docker", "compose", "--project-directory", shlex.quote(project_dir), "up", "--detach")


@operation()
def model(model_name, digest, base_url):
    """Have a model at its digest."""
    if host.get_fact(OllamaModels, base_url=base_url).get(model_name) != digest:
        yield StringCommand("docker", "exec", "ollama", "ollama", "pull", shlex.quote(model_name))


@operation()
def hold(package):
    """Keep a package at its version."""
    if package not in host.get_fact(PackageHolds):
        yield StringCommand("apt-mark", "hold", shlex.quote(package))


wanted = host.data.wanted

if wanted["packages"]:
    apt.packages(
        name="Packages at their versions",
        packages=[f"{name}={version}" for name, version in wanted["packages"].items()],
    )
for package in wanted["holds"]:
    hold(name=f"Hold {package}", package=package)
for path, folder in wanted["directories"].items():
    files.directory(name=f"Folder {path}", path=path, user=folder["owner"], mode=folder["mode"])
for path, file in wanted["files"].items():
    files.put(name=f"File {path}", src=file["content"], dest=path, user=file["owner"], mode=file["mode"])
for group, users in wanted["members"].items():
    for user in users:
        server.user(name=f"{user} in {group}", user=user, groups=[group], append=True)
for unit, state in wanted["services"].items():
    enabled = state["enabled"] == "enabled"
    systemd.service(name=f"Service {unit}", service=unit, running=state["active"], enabled=enabled)
for name, container in wanted["containers"].items():
    compose_project(
        name=f"Container {name}",
        container=name,
        image_id=container["image_id"],
        project_dir=container["project_dir"],
    )
for name, served in wanted["models"].items():
    model(name=f"Model {name}", model_name=name, digest=served["digest"], base_url=served["base_url"])
