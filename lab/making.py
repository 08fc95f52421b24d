"""Makes what is missing of the lab, all at once: images, registry, models, hosts. What is there costs nothing."""

import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from lab import hosts, images, services
from lab.containers import Container, Containers
from lab.hosts import Host
from lab.images import Image
from lab.inventory import Images
from lab.progress import say
from lab.releases import Releases
from lab.state import State


def make(lab: Containers, state: State, releases: Releases, fleet: list[Host]) -> Images:
    """Have the lab's services and hosts running and its images in its registry. Raises FleetError.

    state: its network and engine are set; what was pushed is noted there.
    """
    there = lab.all()
    network = state.subnet or ""
    with_stand_in = state.engine == "stand-in"
    needed = {
        "open-webui": images.open_webui(releases.open_webui),
        "services": images.services(releases.hosts),
        "host": images.host(releases.hosts),
    }
    if with_stand_in:
        needed["stand-in"] = images.stand_in(releases.hosts)
    elif "models" in there:
        lab.remove("models")
    hosts.prepare_ssh(lab.paths, [*fleet, *(host for host in hosts.fleet(there) if host not in fleet)])
    # Builds keep a core busy each: more of them at once would only hold up the longest. Whoever waits for another
    # does so in a thread of its own.
    with (
        ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2)) as builders,
        ThreadPoolExecutor(max_workers=4 + len(fleet)) as pool,
    ):

        def build(image: Image) -> Future[str]:
            return builders.submit(images.build, lab.docker, lab.paths, image)

        def publish(tag: Future[str]) -> str:
            return services.push(lab.docker, registry.result(), tag.result(), state.pushed.get(tag.result()))

        def registry_up() -> int:
            return services.ensure_registry(lab, service_image.result(), network, there)

        def models_up() -> None:
            services.make_models(lab.paths)
            services.ensure_models(lab, service_image.result(), network, there)

        def host_up(host: Host) -> None:
            if hosts.ensure(lab, host_image.result(), host, there):
                say(f"  host {host.name} ({host.address}): started")
            hosts.wait_for_ssh(lab, host)

        # The longest first.
        web_image = build(needed["open-webui"])
        service_image = build(needed["services"])
        host_image = build(needed["host"])
        engine_image = build(needed["stand-in"]) if with_stand_in else None
        registry = pool.submit(registry_up)
        web = pool.submit(publish, web_image)
        stand_in = pool.submit(publish, engine_image) if engine_image else None
        models = pool.submit(models_up) if with_stand_in else None
        running = [pool.submit(host_up, host) for host in fleet]
        try:
            parts: list[Future[str] | Future[int] | Future[None] | None] = [service_image, host_image, registry]
            for future in [*parts, web, stand_in, models, *running]:
                if future:
                    future.result()
        except BaseException:
            for executor in (builders, pool):
                executor.shutdown(wait=False, cancel_futures=True)
            raise
    state.pushed = {web_image.result(): web.result()}
    if engine_image and stand_in:
        state.pushed[engine_image.result()] = stand_in.result()
    images.prune(lab.docker, lab.paths, list(needed.values()))
    return Images(open_webui=web.result(), stand_in=stand_in.result() if stand_in else None)


def surplus(there: Mapping[str, Container], fleet: list[Host]) -> list[str]:
    """Hosts of an earlier, bigger fleet. Hosts beside the fleet stay."""
    wanted = {host.name for host in fleet}
    return sorted(host.name for host in hosts.fleet(there) if host.group and host.name not in wanted)
