"""Ollama's own API: /api/..."""

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

from . import VERSION
from .create import FIELDS as CREATE
from .create import create
from .generation import Engine, Generation, Piece
from .names import BadNameError, Name
from .registry import PullError, pull
from .serve import PLAIN_JSON, Exchange, Route, guarded
from .store import Model, blob_path, is_digest
from .wire import ApiError, disk_error, dumps, number, quote, read_request, syntax, timestamp

NO_EMBEDDINGS = "This server does not support embeddings. Start it with `--embeddings`"
_LINES = "application/x-ndjson"
# Makes a line of an answer from its text and further fields.
Line = Callable[..., dict[str, Any]]
_COMMON = {"model": "string", "stream": "bool", "options": "map[string]interface {}"}
_GENERATE = {
    **_COMMON,
    **dict.fromkeys(("prompt", "suffix", "system", "template"), "string"),
    "context": "[]int",
    "raw": "bool",
    "images": "[]api.ImageData",
    "truncate": "bool",
    "logprobs": "bool",
    "top_logprobs": "int",
}
_CHAT = {**_COMMON, "messages": "[]api.Message", "tools": "api.Tools", "truncate": "bool", "logprobs": "bool"}


def routes(engine: Engine) -> dict[tuple[str, str], Route]:
    """Every route of /api and of /."""
    api = _Native(engine)
    table: dict[tuple[str, str], Callable[[Exchange, str], None]] = {
        ("GET", "/"): lambda exchange, _: exchange.reply(200, b"Ollama is running", "text/plain; charset=utf-8"),
        ("GET", "/api/version"): lambda exchange, _: exchange.reply_json({"version": VERSION}),
        ("GET", "/api/tags"): api.tags,
        ("GET", "/api/ps"): api.ps,
        ("POST", "/api/show"): api.show,
        ("POST", "/api/generate"): api.generate,
        ("POST", "/api/chat"): api.chat,
        ("POST", "/api/pull"): api.pull,
        ("POST", "/api/create"): api.create,
        ("POST", "/api/copy"): api.copy,
        ("DELETE", "/api/delete"): api.delete,
        ("POST", "/api/embed"): api.embed,
        ("POST", "/api/embeddings"): api.embeddings,
        ("HEAD", "/api/blobs/"): api.blob,
        ("POST", "/api/blobs/"): api.add_blob,
        ("POST", "/api/push"): _not_here,
    }
    return {key: guarded(route, _refuse) for key, route in table.items()}


def _refuse(exchange: Exchange, error: ApiError) -> None:
    exchange.reply_json({"error": error.message}, error.status)


def _not_here(exchange: Exchange, _argument: str) -> None:
    raise ApiError(501, f"the llama.cpp stand-in has no {exchange.path}")


class _Native:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def tags(self, exchange: Exchange, _argument: str) -> None:
        exchange.reply_json({"models": [self._tag(model) for model in self._engine.store.models()]})

    def _tag(self, model: Model) -> dict[str, Any]:
        sizes = {name: model.header.of_architecture(name) for name in ("context_length", "embedding_length")}
        return {
            "name": model.name.short,
            "model": model.name.short,
            "modified_at": timestamp(model.modified),
            "size": model.size,
            "digest": model.digest,
            "details": model.details | sizes,
            "capabilities": ["completion"],
        }

    def ps(self, exchange: Exchange, _argument: str) -> None:
        models = [
            {
                "name": loaded.model.name.short,
                "model": loaded.model.name.short,
                "size": memory,
                "digest": loaded.model.digest,
                "details": loaded.details,
                "expires_at": timestamp(loaded.expires),
                "size_vram": 0,
                "context_length": loaded.num_ctx,
            }
            for loaded, memory in self._engine.scheduler.running()
        ]
        exchange.reply_json({"models": models})

    def show(self, exchange: Exchange, _argument: str) -> None:
        request = read_request(exchange.raw, "ShowRequest", {"model": "string", "name": "string", "verbose": "bool"})
        text = request.get("model") or request.get("name")
        if not text:
            raise ApiError(400, "model is required")
        try:
            name = Name.parse(text)
        except BadNameError:
            raise ApiError(400, "invalid model name") from None
        model = self._engine.store.find(name)
        if not model:
            raise ApiError(404, f"model '{name.short}' not found")
        exchange.reply_json(_description(model, request.get("verbose", False)))

    def generate(self, exchange: Exchange, _argument: str) -> None:
        request = read_request(exchange.raw, "GenerateRequest", _GENERATE)
        generation = Generation(self._engine, request)
        name = request["model"]

        def line(text: str, **fields: object) -> dict[str, Any]:
            return {"model": name, "created_at": timestamp(time.time()), "response": text, **fields}

        if not request.get("prompt"):
            _load_or_unload(exchange, generation, line)
        else:
            _answer(exchange, generation, line, request.get("stream", True))

    def chat(self, exchange: Exchange, _argument: str) -> None:
        request = read_request(exchange.raw, "ChatRequest", _CHAT)
        request.setdefault("messages", [])
        generation = Generation(self._engine, request)
        name = request["model"]

        def line(text: str, **fields: object) -> dict[str, Any]:
            message = {"role": "assistant", "content": text}
            return {"model": name, "created_at": timestamp(time.time()), "message": message, **fields}

        if not request["messages"]:
            _load_or_unload(exchange, generation, line)
        else:
            _answer(exchange, generation, line, request.get("stream", True))

    def pull(self, exchange: Exchange, _argument: str) -> None:
        fields = {"model": "string", "name": "string", "insecure": "bool", "stream": "bool"}
        request = read_request(exchange.raw, "PullRequest", fields)
        try:
            name = Name.parse(request.get("model") or request.get("name", ""))
        except BadNameError:
            raise ApiError(400, "invalid model name") from None
        _report(exchange, pull(self._engine.store, name, request.get("insecure", False)), request.get("stream", True))

    def create(self, exchange: Exchange, _argument: str) -> None:
        request = read_request(exchange.raw, "CreateRequest", CREATE)
        _report(exchange, create(self._engine.store, request), request.get("stream", True))

    def copy(self, exchange: Exchange, _argument: str) -> None:
        request = read_request(exchange.raw, "CopyRequest", {"source": "string", "destination": "string"})
        names = {}
        for side in ("source", "destination"):
            text = request.get(side, "")
            try:
                names[side] = Name.parse(text)
            except BadNameError:
                raise ApiError(400, f"{side} {quote(text)} is invalid") from None
        model = self._engine.store.find(names["source"])
        if not model:
            raise ApiError(404, f"model {quote(request['source'])} not found")
        self._engine.store.copy(model, names["destination"])
        exchange.reply(200, b"", None)

    def delete(self, exchange: Exchange, _argument: str) -> None:
        request = read_request(exchange.raw, "DeleteRequest", {"model": "string", "name": "string"})
        text = request.get("model") or request.get("name")
        if not text:
            raise ApiError(400, "model is required")
        model = self._engine.find(text)
        if not model:
            raise ApiError(404, f"model '{text}' not found")
        self._engine.store.remove(model)
        exchange.reply(200, b"", None)

    def embed(self, exchange: Exchange, _argument: str) -> None:
        request = read_request(exchange.raw, "EmbedRequest", {"model": "string"})
        wanted = request.get("input", "")
        if not isinstance(wanted, str | list):
            raise ApiError(400, "invalid input type")
        if not self._engine.find(request.get("model", "")):
            raise ApiError(404, f"model {quote(request.get('model', ''))} not found, try pulling it first")
        if wanted:
            raise ApiError(501, NO_EMBEDDINGS)
        exchange.reply_json({"model": request["model"], "embeddings": []})

    def embeddings(self, exchange: Exchange, _argument: str) -> None:
        request = read_request(exchange.raw, "EmbeddingRequest", {"model": "string", "prompt": "string"})
        if not self._engine.find(request.get("model", "")):
            raise ApiError(404, f"model {quote(request.get('model', ''))} not found, try pulling it first")
        raise ApiError(500, NO_EMBEDDINGS)

    def blob(self, exchange: Exchange, digest: str) -> None:
        if not self._has(digest):
            raise ApiError(404, f"blob {quote(digest)} not found")
        exchange.reply(200, b"", None)

    def add_blob(self, exchange: Exchange, digest: str) -> None:
        if self._has(digest):
            exchange.reply(200, b"", None)
            return
        try:
            blob = self._engine.store.put(exchange.body)
        except ConnectionError:
            raise
        except OSError as error:
            raise disk_error("write", error) from None
        if blob.digest != digest:
            # As in Ollama, the blob stays, under the digest that it has.
            raise ApiError(400, f"digest mismatch, expected {quote(digest)}, got {quote(blob.digest)}")
        exchange.reply(201, b"", None)

    def _has(self, digest: str) -> bool:
        if not is_digest(digest):
            raise ApiError(400, "invalid digest format")
        return blob_path(self._engine.store.blobs, digest).exists()


def _report(exchange: Exchange, steps: Generator[dict[str, Any], None, None], stream: bool) -> None:
    """The lines of what takes a while, as they come or the last alone.

    An error has a status of its own where it is the whole answer, and is a line where others came before.
    """
    with contextlib.closing(steps):
        answers = _until_error(steps)
        last = next(answers)
        if stream and last[0] == 200:
            with exchange.stream(_LINES) as send:
                for _, line in itertools.chain([last], answers):
                    send(dumps(line) + b"\n")
                    _stop_if_left(exchange)
            return
        for last in answers:  # noqa: B007 - the last one is the answer
            _stop_if_left(exchange)
        exchange.reply(last[0], dumps(last[1]), PLAIN_JSON)


def _until_error(steps: Iterator[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line with the status of the answer that it would be."""
    try:
        for line in steps:
            yield 200, line
    except PullError as error:
        yield 500, {"error": str(error)}
    except ApiError as error:
        yield error.status, {"error": error.message}


def _stop_if_left(exchange: Exchange) -> None:
    if exchange.client_left():
        raise ConnectionAbortedError("the client has gone")


def _load_or_unload(exchange: Exchange, generation: Generation, line: Line) -> None:
    if generation.unloads:
        generation.unload()
    else:
        generation.load()
    exchange.reply_json(line("", done=True, done_reason="unload" if generation.unloads else "load"))


def _answer(exchange: Exchange, generation: Generation, line: Line, stream: bool) -> None:
    """The pieces as lines as they come, or all in one."""
    with exchange.watch() as on_leave, contextlib.closing(generation.run(on_leave)) as pieces:
        if not stream:
            every = list(pieces)
            logprobs = [item for piece in every for item in piece.logprobs]
            text = "".join(piece.text for piece in every)
            exchange.reply_json(_last(line, generation, Piece(text, every[-1].done_reason, logprobs)))
            return
        # What goes wrong before the first piece is an error with a status of its own.
        first = next(pieces)
        with exchange.stream(_LINES) as send:
            try:
                for piece in itertools.chain([first], pieces):
                    done = piece.done_reason and _last(line, generation, piece)
                    send(dumps(done or line(piece.text, done=False, **_logprobs(piece))) + b"\n")
            except ApiError as error:
                send(dumps({"error": error.message}) + b"\n")


def _last(line: Line, generation: Generation, piece: Piece) -> dict[str, Any]:
    return line(piece.text, done=True, done_reason=piece.done_reason, **generation.summary(), **_logprobs(piece))


def _logprobs(piece: Piece) -> dict[str, Any]:
    return {"logprobs": piece.logprobs} if piece.logprobs else {}


def _description(model: Model, verbose: bool) -> dict[str, Any]:
    """What /api/show says; parts that a model lacks are left out."""
    texts = {kind: model.text(kind) for kind in ("license", "template", "system")}
    template = texts["template"] or "{{ .Prompt }}"
    options = [
        (name, item)
        for name, value in model.parameters.items()
        for item in (value if isinstance(value, list) else [value])
    ]
    modelfile = [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        f"# FROM {model.name.short}\n",
        f"FROM {model.gguf}",
        f"TEMPLATE {_quoted(template)}",
        *([f"SYSTEM {_quoted(texts['system'])}"] if texts["system"] else []),
        *(f"PARAMETER {name} {_quoted(value if isinstance(value, str) else syntax(value))}" for name, value in options),
        *([f"LICENSE {_quoted(texts['license'])}"] if texts["license"] else []),
        *(f"MESSAGE {message['role']} {_quoted(message['content'])}" for message in model.messages),
    ]
    header = model.header
    pairs = {**header.pairs, "general.parameter_count": header.parameters}
    shown = {
        name: None if isinstance(value, list) and not verbose else number(value)
        for name, value in sorted(pairs.items())
        if name not in {"general.name", "tokenizer.chat_template"}
    }
    described = {
        "license": texts["license"],
        "modelfile": "\n".join(modelfile) + "\n",
        "parameters": "\n".join(f"{name:<30} {syntax(value)}" for name, value in options),
        "template": template,
        "system": texts["system"],
        "details": model.details,
        "messages": model.messages,
        "model_info": shown,
        "tensors": header.tensors,
        "capabilities": ["completion"],
        "modified_at": timestamp(model.modified),
    }
    return {name: value for name, value in described.items() if value}


def _quoted(text: str) -> str:
    """As in a Modelfile: quotes where the text would not keep its lines or its ends."""
    if "\n" not in text and text == text.strip(" "):
        return text
    return f'"""{text}"""' if '"' in text else f'"{text}"'
