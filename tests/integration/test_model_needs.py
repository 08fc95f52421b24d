"""What is read of models that nobody pulls: from a registry over real HTTP, and from a server's store."""

import datetime
import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.modules.model_needs import look
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.serving_support.model_registry import MEDIA, ModelRegistry, digest_of
from tests.unit.plugins.gguf_bytes import gguf

PAIRS = {
    "general.architecture": "llama",
    "general.name": "not worth sending",
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "llama.vocab": ["a", "b"],
}
WORDS = {"tokenizer.ggml.tokens": [f"word{number:06}" for number in range(30_000)]}
TENSORS = [("token_embd.weight", [64, 100], 0), ("blk.0.attn_q.weight", [64, 64], 0)]
HEADER = gguf({**PAIRS, **WORDS, "tokenizer.ggml.model": "llama"}, TENSORS)
WEIGHTS = HEADER + bytes(1 << 21)
TOLD = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "llama.vocab": {"count": 2},
    "tokenizer.ggml.tokens": {"count": 30_000},
}


@pytest.fixture
def registry() -> Iterator[ModelRegistry]:
    with ModelRegistry() as double:
        yield double


def run(tmp_path: Path, *models: dict[str, Any], **params: Any) -> list[dict[str, Any]]:
    defaults = {
        "models_dir": str(tmp_path / "models"),
        "registry": "missing",
        "tensors": False,
        "ca_file": None,
        "timeout": 1,
    }
    asked = [{"source": None, "insecure": True, **model} for model in models]
    result = look({**defaults, **params, "models": asked})
    assert result["disk"]["free_bytes"] > 0
    return list(result["models"])


def store(folder: Path, name: str, layers: list[dict[str, Any]], blobs: list[bytes]) -> None:
    """Put a model into a server's store."""
    path = folder / "models" / "manifests" / "registry.ollama.ai" / "library" / name.replace(":", "/")
    path.parent.mkdir(parents=True)
    config = {"mediaType": "x", "digest": digest_of(b"{}"), "size": 2}
    path.write_text(json.dumps({"config": config, "layers": layers}))
    (folder / "models" / "blobs").mkdir(exist_ok=True)
    for blob in [*blobs, b"{}"]:
        (folder / "models" / "blobs" / digest_of(blob).replace(":", "-")).write_bytes(blob)


@pytest.mark.parametrize("way", ["redirect", "plain", "whole"])
def test_a_model_is_looked_at_by_its_first_bytes(registry: ModelRegistry, tmp_path: Path, way: str) -> None:
    registry.way = way
    registry.add("big:1", WEIGHTS, size=40_000_000_000, license=b"free")
    [found] = run(tmp_path, {"name": "big:1", "source": f"{registry.address}/library/big:1"})
    assert (found["origin"], found["pairs"], found["why"]) == ("registry", TOLD, "")
    assert [layer["media_type"] for layer in found["layers"][:2]] == [MEDIA + "model", MEDIA + "license"]
    assert found["missing"] == {digest_of(WEIGHTS): 40_000_000_000, digest_of(b"free"): 4, digest_of(b"{}"): 2}
    assert found["tensors"] is None
    if way != "whole":
        assert registry.sent == 1 << 18


def test_more_is_asked_for_where_the_beginning_does_not_tell(registry: ModelRegistry, tmp_path: Path) -> None:
    # The words first, and what is wanted behind them.
    registry.add("odd:1", gguf({"general.architecture": "llama", **WORDS, **PAIRS}) + bytes(1 << 21))
    [found] = run(tmp_path, {"name": "odd:1", "source": f"{registry.address}/library/odd:1"})
    assert found["pairs"] == TOLD
    assert registry.sent == (1 << 18) + (1 << 21)


def test_tensors_take_the_whole_header(registry: ModelRegistry, tmp_path: Path) -> None:
    registry.add("big:1", WEIGHTS)
    [found] = run(tmp_path, {"name": "big:1", "source": f"{registry.address}/library/big:1"}, tensors=True)
    assert found["tensors"] == {"token_embd.weight": 64 * 100 * 4}


@pytest.mark.parametrize(
    ("parameters", "context"),
    [(b'{"num_ctx": 16384, "stop": ["x"]}', 16384), (b'{"stop": []}', None), (b"no JSON", None)],
)
def test_a_context_of_its_own(registry: ModelRegistry, tmp_path: Path, parameters: bytes, context: int | None) -> None:
    registry.add("own:1", WEIGHTS, params=parameters)
    [found] = run(tmp_path, {"name": "own:1", "source": f"{registry.address}/library/own:1"})
    assert (found["context"], found["pairs"]) == (context, TOLD)


def test_what_is_there_is_read_there(registry: ModelRegistry, tmp_path: Path) -> None:
    layers = registry.add("big:1", WEIGHTS)
    store(tmp_path, "big:1", layers, [WEIGHTS])
    [found] = run(tmp_path, {"name": "big:1", "source": f"{registry.address}/library/big:1"})
    assert (found["origin"], found["pairs"], found["missing"]) == ("store", TOLD, {})
    assert (registry.asked, found["registry_layers"]) == ([], None)


def test_the_registry_may_have_something_else_by_now(registry: ModelRegistry, tmp_path: Path) -> None:
    store(tmp_path, "big:1", registry.add("big:1", WEIGHTS), [WEIGHTS])
    newer = registry.add("big:1", WEIGHTS + b"newer")
    model = {"name": "big:1", "source": f"{registry.address}/library/big:1"}
    [found] = run(tmp_path, model, registry="all")
    assert found["layers"][0]["digest"] == digest_of(WEIGHTS)
    assert found["registry_layers"][0]["digest"] == newer[0]["digest"]
    gone = {"name": "big:1", "source": f"{registry.address}/library/gone:1"}
    [found] = run(tmp_path, gone, registry="all")
    assert (found["origin"], found["registry_layers"]) == ("store", None)
    assert "no such model" in found["registry_why"]


def test_half_a_model_is_not_there(registry: ModelRegistry, tmp_path: Path) -> None:
    layers = registry.add("big:1", WEIGHTS, license=b"free")
    store(tmp_path, "big:1", layers, [b"free"])
    [found] = run(tmp_path, {"name": "big:1", "source": f"{registry.address}/library/big:1"})
    assert found["origin"] == "registry"
    assert found["missing"] == {digest_of(WEIGHTS): len(WEIGHTS)}


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ({"name": "gone:1"}, "its registry has no such model"),
        ({"name": "zip:1"}, "does not begin as"),
        ({"name": "empty:1"}, "is shorter than"),
        ({"name": "bad name!!/../x"}, "is no model name"),
        ({"name": "big:1", "insecure": False}, "cannot be asked"),
    ],
)
def test_what_cannot_be_read_is_said(registry: ModelRegistry, tmp_path: Path, model: dict[str, Any], why: str) -> None:
    registry.add("big:1", WEIGHTS)
    registry.add("zip:1", b"PK\3\4" + bytes(1000))
    registry.add("empty:1", b"GG")
    asked = {"source": f"{registry.address}/library/{model['name']}", **model}
    [found, good] = run(tmp_path, asked, {"name": "big:1", "source": f"{registry.address}/library/big:1"})
    assert why in found["why"]
    assert found["remedy"]
    assert found["pairs"] is None
    assert good["pairs"] == TOLD


def test_a_registry_that_is_not_there(tmp_path: Path) -> None:
    [found] = run(tmp_path, {"name": "a:1", "source": "127.0.0.1:9/library/a:1"})
    assert "127.0.0.1:9 cannot be asked" in found["why"]
    [found] = run(tmp_path, {"name": "a:1", "source": "127.0.0.1:9/library/a:1"}, registry="none")
    assert "was not to be asked" in found["why"]


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "md5:1", ""])
def test_a_manifest_cannot_name_files_outside_the_store(tmp_path: Path, digest: str) -> None:
    layer = {"mediaType": MEDIA + "model", "digest": digest, "size": 5}
    store(tmp_path, "evil:1", [layer], [])
    [found] = run(tmp_path, {"name": "evil:1"}, registry="none")
    assert found["layers"] == []


def test_a_private_authority(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    with ModelRegistry("plain", certificate) as registry:
        registry.add("big:1", WEIGHTS)
        model = {"name": "big:1", "source": f"{registry.address}/library/big:1", "insecure": False}
        [refused] = run(tmp_path, model)
        assert "certificate" in refused["why"].lower()
        [found] = run(tmp_path, model, ca_file=str(certificate[0]))
        assert found["pairs"] == TOLD


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test registry")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
