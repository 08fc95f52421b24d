"""What /api/create makes of a request: its lines, the layers on disk, and the words for what cannot be."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from lab.engine.create import create
from lab.engine.names import Name
from lab.engine.registry import PullError
from lab.engine.store import MEDIA, Model, Store
from lab.engine.wire import ApiError
from tests.unit.plugins.gguf_bytes import gguf

KEYS = {"general.architecture": "llama", "general.quantization_version": 2, "general.file_type": 15}
TENSORS = [("token_embd.weight", [1000, 268], 0)]


def file_of(keys: dict[str, Any]) -> bytes:
    head = gguf(keys, TENSORS)
    return head + bytes(-len(head) % 32) + b"data" * 8


WEIGHTS = file_of(KEYS)
CONFIG = (
    b'{"model_format":"gguf","model_family":"llama","model_families":["llama"],"model_type":"268.0K",'
    b'"file_type":"Q4_K_M","architecture":"amd64","os":"linux"}\n'
)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


FROM_FILE = {"files": {"m.gguf": digest_of(WEIGHTS)}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that has a model base:1, made of a file."""
    store = Store(tmp_path)
    store.put([WEIGHTS])
    make(store, model="base:1", **FROM_FILE)
    return store


def make(store: Store, **request: Any) -> list[str]:
    """The lines of status."""
    return [line["status"] for line in create(store, {"model": "made:1", **request})]


def made(store: Store, name: str = "made:1") -> Model:
    model = store.find(Name.parse(name))
    assert model
    return model


def layers(model: Model) -> list[tuple[str, bytes, str]]:
    """(kind, content, where it comes from) of each."""
    return [
        (
            entry["mediaType"].removeprefix(MEDIA),
            (model.blobs / entry["digest"].replace(":", "-")).read_bytes(),
            entry.get("from", ""),
        )
        for entry in model.manifest["layers"]
    ]


def test_a_model_of_a_file(store: Store) -> None:
    lines = make(store, **FROM_FILE, system="Be brief.")
    assert lines == [
        "parsing GGUF",
        "verifying conversion",
        f"using existing layer {digest_of(WEIGHTS)}",
        f"creating new layer {digest_of(b'Be brief.')}",
        "writing manifest",
        "success",
    ]
    model = made(store)
    assert layers(model) == [("model", WEIGHTS, ""), ("system", b"Be brief.", "")]
    assert (model.blobs / model.manifest["config"]["digest"].replace(":", "-")).read_bytes() == CONFIG
    assert model.parent == ""


def test_a_file_that_llama_cpp_would_write_otherwise_becomes_another(store: Store) -> None:
    other = file_of(dict(reversed(KEYS.items())))
    store.put([other])
    assert make(store, files={"m.gguf": digest_of(other)})[2] == f"using existing layer {digest_of(WEIGHTS)}"
    assert layers(made(store)) == [("model", WEIGHTS, "")]


def test_a_model_of_a_model(store: Store) -> None:
    asked = {"template": "{{ .Prompt }}", "system": "S", "license": ["L1", "L2"]}
    lines = make(store, **{"from": "base:1"}, **asked, parameters={"top_k": 2.0, "stop": ["<"]})
    assert lines[0] == f"using existing layer {digest_of(WEIGHTS)}"
    assert [line.split()[0] for line in lines[1:-2]] == ["creating"] * 5
    assert layers(made(store)) == [
        ("model", WEIGHTS, "base:1"),
        ("template", b"{{ .Prompt }}", ""),
        ("system", b"S", ""),
        ("license", b"L1", ""),
        ("license", b"L2", ""),
        ("params", b'{"stop":["\\u003c"],"top_k":2}\n', ""),
    ]
    assert made(store).parent == "base:1"


def test_what_is_given_takes_the_place_of_what_was_there(store: Store) -> None:
    before = {"system": "old", "parameters": {"seed": 1, "top_k": 2}, "messages": [{"role": "user", "content": "a"}]}
    make(store, model="first:1", **{"from": "base:1"}, license="L1", **before)
    make(store, **{"from": "first:1"}, system="new", license="L2", parameters={"seed": 3}, messages=[])
    model = made(store)
    assert [kind for kind, _, _ in layers(model)] == ["model", "license", "messages", "system", "license", "params"]
    assert (model.text("system"), model.text("license")) == ("new", "L1\nL2")
    assert model.parameters == {"seed": 3, "top_k": 2}
    assert model.messages == [{"role": "user", "content": "a"}]
    make(store, **{"from": "first:1"}, messages=[{"role": "assistant", "content": "b", "thinking": "no"}])
    assert made(store).messages == [{"role": "assistant", "content": "b"}]


def test_a_model_that_is_made_anew_leaves_no_blob(store: Store) -> None:
    make(store, **{"from": "base:1"}, system="old", parameters={"seed": 1})
    make(store, **{"from": "base:1"}, system="new")
    kept = {path.name for path in store.blobs.iterdir()}
    assert kept == {digest_of(data).replace(":", "-") for data in (WEIGHTS, CONFIG, b"new")}


def test_a_model_can_be_made_of_itself(store: Store) -> None:
    make(store, model="base:1", **{"from": "base:1"}, system="S")
    assert layers(made(store, "base:1")) == [("model", WEIGHTS, "base:1"), ("system", b"S", "")]


def test_a_config_keeps_what_ollama_keeps(store: Store) -> None:
    base = made(store, "base:1")
    older = json.loads(CONFIG) | {"rootfs": {"type": "layers", "diff_ids": []}, "renderer": "r"}
    manifest = {**base.manifest, "config": {"digest": store.put([json.dumps(older).encode()]).digest, "size": 1}}
    store.add(Name.parse("older:1"), json.dumps(manifest).encode())
    make(store, **{"from": "older:1"})
    assert list(made(store).config) == [*list(json.loads(CONFIG))[:5], "renderer", "architecture", "os"]


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        ({}, 400, "neither 'from' or 'files' was specified"),
        ({"model": "bad name"}, 400, "invalid model name"),
        ({"from": "bad name"}, 400, "invalid model name"),
        ({"files": {}}, 400, "unknown type"),
        ({"files": {"notes.txt": digest_of(b"x")}}, 400, "unknown type"),
        ({"files": {"../m.gguf": "sha256:0"}}, 400, "file path must be relative"),
        ({"files": {"m.gguf": ""}}, 400, "invalid digest format"),
        ({"files": {"m.gguf": 5}}, 400, "json: cannot unmarshal a digest"),
        ({"files": {"m.gguf": "sha256:0"}}, 500, "invalid digest format"),
        (
            {"files": {"m.gguf": digest_of(b"x")}},
            500,
            f"open .*/sha256-{digest_of(b'x')[7:]}: no such file or directory",
        ),
        ({"files": {"m.gguf": digest_of(CONFIG)}}, 400, "supplied file was not in GGUF format"),
        ({"files": {"m.gguf": digest_of(WEIGHTS[:60])}}, 500, "cannot read the file"),
        ({"files": {"m.gguf": digest_of(WEIGHTS[:-32])}}, 500, "failed to validate GGUF .* corrupted or incomplete"),
        ({"files": {"m.safetensors": digest_of(b"x")}}, 501, "one GGUF file"),
        (
            {"from": "base:1", "template": "{{ range .Messages }}"},
            400,
            "template: the llama.cpp stand-in does not know",
        ),
        ({"from": "base:1", "messages": ["x"]}, 400, "json: cannot unmarshal a message"),
        ({"from": "base:1", "license": [5]}, 500, "json: cannot unmarshal a licence"),
        ({"from": "base:1", "quantize": "q4_0"}, 501, "does not know quantize"),
    ],
)
def test_what_cannot_be_made(store: Store, asked: dict[str, Any], status: int, message: str) -> None:
    for part in (WEIGHTS[:60], WEIGHTS[:-32]):
        store.put([part])
    with pytest.raises(ApiError, match=message) as caught:
        make(store, **asked)
    assert caught.value.status == status
    assert not store.find(Name.parse("made:1"))


def test_a_file_without_a_name_of_its_kind_is_known_by_its_beginning(store: Store) -> None:
    assert make(store, files={"weights": digest_of(WEIGHTS)})[-1] == "success"


def test_a_model_that_is_not_here_is_pulled(store: Store) -> None:
    lines = create(store, {"model": "made:1", "from": "nope"})
    assert next(lines) == {"status": "pulling manifest"}
    with pytest.raises(PullError, match="has no default registry"):
        next(lines)
