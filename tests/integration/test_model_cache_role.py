"""What the role model_cache refuses and writes, in one check run over hosts that are told rather than had."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine_support.origin import Origin
from tests.integration.foundation import Playground, of_host
from tests.serving_support.registry_tree import add_model
from tests.unit.plugins.host_trees import HostTree

KEY = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----"
SETTINGS = {
    "model_cache_models": [{"name": "tiny:1"}],
    "model_cache_allowed_sources": ["10.0.0.0/24", "fd00::/64"],
    "model_cache_certificate": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----",
    "model_cache_certificate_key": KEY,
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no-tag": ({"model_cache_models": [{"name": "tiny"}]}, "'tiny' in model_cache_models names no tag"),
    "same-name": (
        {"model_cache_models": [{"name": "Tiny:1"}, {"name": "hf.co/library/tiny:1"}]},
        "two models that hosts would ask for by the same name",
    ),
    "no-source": ({"model_cache_allowed_sources": []}, "model_cache_allowed_sources must name who may pull"),
    "odd-source": ({"model_cache_allowed_sources": ["gpu1"]}, "gpu1 in model_cache_allowed_sources is neither"),
    "no-certificate": ({"model_cache_certificate": ""}, "must hold PEM"),
    "no-key": ({"model_cache_certificate_key": "x"}, "must hold PEM"),
}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    root = tmp_path_factory.mktemp("registry")
    add_model(root, "tiny:1", b"weights")
    origin = Origin(root).start()
    yield origin
    origin.stop()


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> str:
    """What one check run over all of these hosts said."""
    folder = tmp_path_factory.mktemp("hosts")
    facts = HostTree(folder / "server").system("debian", "13", "6.12.48+deb13-amd64").observe().everything()
    (folder / "facts.json").write_text(json.dumps({**facts, "ports": []}))
    source = f"127.0.0.1:{origin.port}/library/tiny:1"
    good = [{"name": "tiny:1", "source": source, "insecure": True}, {"name": "old:1", "state": "absent"}]
    lost = [{"name": "nope:1", "source": source.replace("tiny", "nope"), "insecure": True}]
    hosts: dict[str, dict[str, Any]] = {
        "closed": {},
        "open": {**SETTINGS, "model_cache_models": good},
        "unknown": {**SETTINGS, "model_cache_models": lost + good},
    }
    hosts |= {name: {**SETTINGS, **change} for name, (change, _says) in REFUSED.items()}
    for name, variables in hosts.items():
        variables["model_cache_dir"] = f"{folder}/{name}-store"
    told = f"{{{{ lookup('ansible.builtin.file', '{folder}/facts.json') | from_json }}}}"
    tasks = [
        {"name": "Tell", "ansible.builtin.set_fact": {"ollama_fleet": told, "cacheable": True}},
        {"name": "Apply", "ansible.builtin.include_role": {"name": "ollama_fleet.stack.model_cache"}},
    ]
    done = Playground(folder).run_on(hosts, tasks, "--check", "--diff")
    return done.stdout + done.stderr


def site_of(output: str, name: str) -> str:
    """The site that would be written, as nginx reads it."""
    said = of_host(output, name)
    site = said[said.index("+++ after: ") :] if "ollama-fleet-model-cache.conf" in said else ""
    return "\n".join(line[1:] for line in site.splitlines() if line.startswith("+"))


def test_host_without_models_gets_nothing(output: str) -> None:
    said = of_host(output, "closed")
    assert "failed=0" in said, said
    assert re.search(r"changed=[01] ", said), said


def test_cache_would_fetch_its_models_and_open(output: str) -> None:
    said = of_host(output, "open")
    assert "failed=0" in said, said
    for words in (
        "=> (item=tiny:1)",
        "Would install nginx",
        "listen 0.0.0.0:11436 ssl;",
        "allow 10.0.0.0/24;",
        "deny all;",
    ):
        assert words in said
    assert "allow fd00::/64;" in said


def test_model_that_fails_is_named_and_the_others_are_asked_for(output: str) -> None:
    said = of_host(output, "unknown")
    assert "failed=1" in said
    assert "Model 127.0.0.1" in said
    assert "check the spelling" in said
    assert "=> (item=tiny:1)" in said


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_host_variable_and_remedy(output: str, name: str) -> None:
    said = of_host(output, name)
    assert "failed=1" in said, said
    assert REFUSED[name][1] in said


def test_key_is_not_said(output: str) -> None:
    assert "BEGIN PRIVATE KEY" not in output


# ---------------------------------------------------------------- the site


@pytest.fixture(scope="module")
def site(output: str) -> str:
    text = site_of(output, "open")
    assert text.count("{") == text.count("}") > 4
    return text


def places(site: str) -> list[str]:
    """nginx's locations, as Python reads their expressions."""
    return [found.replace("(?<", "(?P<") for found in re.findall(r'location ~ "(.*)" \{', site)]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/v2/library/llama3.2/manifests/3b", 0),
        ("/v2/some-one/Model_1.5/manifests/q4_K_M", 0),
        ("/v2/library/llama3.2/blobs/sha256:" + "a" * 64, 1),
        ("/v2/library/../manifests/3b", None),
        ("/v2/library/x/manifests/../../secret", None),
        ("/v2/library/x/manifests/.hidden", None),
        ("/v2/library/x/blobs/sha256:" + "A" * 64, None),
        ("/v2/library/x/blobs/sha256-" + "a" * 64, None),
        ("/manifests/registry.ollama.ai/library/x/1", None),
        ("/blobs/", None),
    ],
)
def test_site_answers_what_a_server_asks_and_nothing_else(site: str, path: str, place: int | None) -> None:
    matches = [number for number, expression in enumerate(places(site)) if re.search(expression, path)]
    assert matches == ([] if place is None else [place])


def test_site_answers_a_blob_with_its_own_address(site: str) -> None:
    blob = site[site.index("blobs/sha256:") :]
    for words in (
        "add_header Location $scheme://$http_host$request_uri;",
        "immutable",
        "try_files /blobs/sha256-$digest",
    ):
        assert words in blob
