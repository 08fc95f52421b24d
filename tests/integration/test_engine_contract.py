"""The stand-in engine against a real Ollama 0.32.15: every recorded request is sent again, in its order.

An answer differs from the recorded one in nothing but what DIFFERENCES says, and all that DIFFERENCES says is so.
"""

import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.engine_support import recording
from tests.engine_support.certificates import Authority
from tests.engine_support.engine import EngineProcess, free_port, models
from tests.engine_support.origin import Origin
from tests.engine_support.recording import Answer, Recording
from tests.engine_support.shape import differences

# What differs on purpose: case, then each difference with its reason.
_NOT_HERE = "the lab does not need it: 501 says so"
_NO_REGISTRY = "the stand-in knows no default registry: nothing leaves the lab by mistake"
_LICENSE = "the lab's model carries its licence"
_NUMERICS = "another build of llama.cpp: the last digits decide between words of like weight"
_OWN_ERROR = (
    "pull model manifest: the llama.cpp stand-in has no default registry: "
    "name one, as in models.lab:5001/library/smollm2:135m"
)
_THEIR_ERROR = (
    'pull model manifest: Get \\"https://registry.ollama.ai/v2/library/{}\\": dial tcp: '
    "lookup registry.ollama.ai on 10.255.255.53:53: dial udp 10.255.255.53:53: connect: network is unreachable"
)


def _not_here(status: int) -> dict[str, str]:
    return {f"status: {status} became 501": _NOT_HERE}


def _no_registry(line: int, manifest: str = "no-such-model-xyz/manifests/1b") -> dict[str, str]:
    return {f'line {line}.error: "{_THEIR_ERROR.format(manifest)}" became "{_OWN_ERROR}"': _NO_REGISTRY}


DIFFERENCES: dict[str, dict[str, str]] = {
    "003-version": {
        'line 0.version: "0.32.15" became "0.32.15-llamacpp-stand-in"': "it is a stand-in, and every report says so"
    },
    "010-pull-nonexistent-stream": _no_registry(1),
    "011-pull-nonexistent-nostream": _no_registry(0),
    "012-pull-name-field-nostream": _no_registry(0),
    "025-show": {"line 0: license is new": _LICENSE, "line 0.modelfile: other text": _LICENSE},
    "036-create-from-unknown": _no_registry(0, "nope/manifests/latest"),
    "056-gen-stopword": {"line 0.eval_count: 8 became 9": _NUMERICS},
    "111-v1-responses": _not_here(200),
    "112-v1-messages": _not_here(200),
    "127-push-noregistry": _not_here(500),
    "001-reg-push-no-insecure": _not_here(500),
    "002-reg-push-stream": _not_here(200),
    "003-reg-push-again": _not_here(200),
    "015-reg-show-after-pull": {"line 0: license is new": _LICENSE, "line 0.modelfile: other text": _LICENSE},
}

# Recorded, but not sent again.
NOT_REPLAYED = {
    "053-gen-np-minus2": "45 s of text; the limit of ten contexts has a unit test",
}

_MAIN = recording.load("v0.32.15")
_REGISTRY = recording.load("v0.32.15-registry")
_ALL = {**_MAIN, **_REGISTRY}
_REPLAYED = [name for name in _ALL if name not in NOT_REPLAYED]


@dataclass
class World:
    """What the requests meet. ports: of the recording, and what stands there now."""

    engine: EngineProcess
    origin: Origin
    trusted: Origin
    untrusted: Origin
    closed: int
    answers: dict[str, Answer] = field(default_factory=dict)

    def ports(self, name: str) -> dict[str, int]:
        if name in _MAIN:
            return dict.fromkeys(("5005", "5999"), self.closed)
        tls = self.untrusted if name == "033-reg-tls-untrusted" else self.trusted
        origin = dict.fromkeys(("5004", "5005", "5007", "5010", "5011", "5012"), self.origin.port)
        # A TLS port of Go's says in plain HTTP that it is one; the origin says it here.
        return origin | {"5008": self.origin.port if name == "034-reg-tls-insecure" else tls.port}

    def empty(self) -> None:
        for model in self.engine.get("/api/tags")["models"]:
            self.engine.ask("/api/delete", {"model": model["name"]}, "DELETE")

    def restart(self, how: int) -> None:
        self.engine.stop(how)
        self.engine.start()

    def copy(self, source: str, *names: str) -> None:
        for name in names:
            self.engine.ask("/api/copy", {"source": source, "destination": name})


def _fresh(**behaviour: Any) -> Callable[[World], None]:
    def prepare(world: World) -> None:
        world.empty()
        world.origin.become(**behaviour)

    return prepare


def _pull(world: World) -> None:
    world.origin.become()
    world.engine.pull(world.origin.port, "gemma3:270m")


def _another_second(_world: World) -> None:
    # Models of one second are listed by name.
    time.sleep(1)


def _behave(**behaviour: Any) -> Callable[[World], None]:
    return lambda world: world.origin.become(**behaviour)


# A link that lets a client leave in mid-pull.
_slow = _fresh(location="elsewhere", rate=300_000_000)
# What happened between the recorded requests.
_BEFORE: dict[str, Callable[[World], None]] = {
    "020-tags": _pull,
    "034-create-api-files-stream": _another_second,
    "001-reg-push-no-insecure": lambda world: world.copy(
        "gemma3:270m", f"localhost:{world.origin.port}/library/gemma3:270m", "gemma3:270m"
    ),
    "009-reg-PLAIN-pull-fails": _fresh(location="none"),
    "011-reg-pull-stream-1st": _slow,
    "024-reg-pull-interrupted-by-client": _slow,
    "027-reg-pull-network-cut-8s": _fresh(cut_after=60_000_000),
    "029-reg-pull-resume-after-cut": _slow,
    "030-reg-pull-then-kill9": _slow,
    "032-reg-pull-resume-after-kill9-restart": lambda world: world.restart(signal.SIGKILL),
    "035-reg-auth-pull": _behave(answer=(401, {"WWW-Authenticate": 'Basic realm="Registry"'}, b"")),
    "034-reg-tls-insecure": _behave(answer=(400, {}, b"Client sent an HTTP request to an HTTPS server.\n")),
    "036-static-pull": _fresh(location="elsewhere"),
    "038-static-pull-samehost-redirect": _fresh(location="redirect"),
    "039-static-pull-200-location": _fresh(location="header"),
    "040-static-pull-ipname": _fresh(location="elsewhere"),
    "041-reg-tls-trusted": lambda world: world.empty(),
    "043-reg-pull-then-sigterm": _slow,
    "044-reg-pull-after-sigterm": lambda world: world.restart(signal.SIGTERM),
    "045-reg-pull-client-drop-then-old-partials": _slow,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All recorded requests, sent to the engine one after the other."""
    folder = tmp_path_factory.mktemp("contract")
    tree = models()
    known, unknown = Authority(folder, "known"), Authority(folder, "unknown")
    origins = [Origin(tree).start()]
    for authority in (known, unknown):
        context = authority.server_context("localhost")
        origins.append(Origin(tree).start(lambda sock, context=context: context.wrap_socket(sock, server_side=True)))
    engine = EngineProcess(folder / "store", SSL_CERT_FILE=str(known.certificate))
    world = World(engine, *origins, closed=free_port())
    try:
        for name in _REPLAYED:
            _BEFORE.get(name, lambda _world: None)(world)
            world.answers[name] = _replay(world, _ALL[name])
        yield world
    finally:
        engine.stop()
        for origin in origins:
            origin.stop()


def _replay(world: World, recorded: Recording) -> Answer:
    ports = world.ports(recorded.name)
    body = re.sub(r"(?<=:)\d{4}(?=/)", lambda match: str(ports.get(match[0], match[0])), recorded.body)
    # A server that did not answer in 45 s may be let off in less.
    timeout = 1.5 if recorded.answer.status == 0 else 120
    return world.engine.replay(recorded, body, timeout, lines=3 if recorded.early else None)


def _expected(world: World, recorded: Recording) -> Answer:
    answer = recorded.answer
    lines = answer.lines[:3] if recorded.early else answer.lines
    for old, new in world.ports(recorded.name).items():
        lines = tuple(re.sub(rf":{old}\b", f":{new}", line) for line in lines)
    lines = tuple(line.replace("/srv/ollama/models", str(world.engine.store)) for line in lines)
    return Answer(answer.status, answer.content_type, lines)


def _is_sampled(recorded: Recording) -> bool:
    return '"temperature": 0' not in recorded.body


@pytest.mark.parametrize("name", _REPLAYED)
def test_answers_as_the_recorded_server(world: World, name: str) -> None:
    recorded = _ALL[name]
    found = set(differences(_expected(world, recorded), world.answers[name], _is_sampled(recorded)))
    assert found == set(DIFFERENCES.get(name, {}))


def test_every_listed_case_is_recorded() -> None:
    assert {*DIFFERENCES, *NOT_REPLAYED} <= set(_ALL)
    assert not set(DIFFERENCES) & set(NOT_REPLAYED)
