"""The part of OpenAI's API that Ollama has as well: /v1/..."""

import contextlib
import itertools
import secrets
import time
from collections.abc import Callable
from typing import Any

from .generation import Engine, Generation
from .names import BadNameError, Name
from .native import NO_EMBEDDINGS
from .serve import JSON, PLAIN_JSON, Exchange, Route, guarded
from .store import Model
from .wire import ApiError, dumps, read_request

_OPTIONS = {
    "temperature": "temperature",
    "seed": "seed",
    "top_p": "top_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
}
_FIELDS = {"model": "string", "stream": "bool", "messages": "[]openai.Message"}
# Makes the "choices" of an answer or of a part of it: (text, whether it is the first, the reason of the end or "").
_Choices = Callable[[str, bool, str], list[dict[str, Any]]]


def routes(engine: Engine) -> dict[tuple[str, str], Route]:
    """Every route of /v1."""
    api = _OpenAI(engine)
    table: dict[tuple[str, str], Route] = {
        ("GET", "/v1/models"): api.models,
        ("GET", "/v1/models/"): api.model,
        ("POST", "/v1/chat/completions"): api.chat,
        ("POST", "/v1/completions"): api.completion,
        ("POST", "/v1/embeddings"): api.embeddings,
        ("POST", "/v1/responses"): api.not_here,
        ("POST", "/v1/messages"): api.not_here,
    }
    return {key: guarded(route, _refuse) for key, route in table.items()}


def _refuse(exchange: Exchange, error: ApiError) -> None:
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(error.status, "api_error")
    body = {"error": {"message": error.message, "type": kind, "param": None, "code": None}}
    exchange.reply_json(body, error.status, JSON if error.in_body else PLAIN_JSON)


def _entry(model: Model) -> dict[str, Any]:
    created = int(model.modified)
    return {"id": model.name.short, "object": "model", "created": created, "owned_by": model.name.namespace}


class _OpenAI:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def models(self, exchange: Exchange, _argument: str) -> None:
        entries = [_entry(model) for model in self._engine.store.models()]
        exchange.reply_json({"object": "list", "data": entries or None}, content_type=PLAIN_JSON)

    def model(self, exchange: Exchange, text: str) -> None:
        try:
            name = Name.parse(text)
        except BadNameError:
            raise ApiError(400, "invalid model name") from None
        model = self._engine.store.find(name)
        if not model:
            raise ApiError(404, f"model '{name.short}' not found")
        exchange.reply_json(_entry(model), content_type=PLAIN_JSON)

    def chat(self, exchange: Exchange, _argument: str) -> None:
        request = read_request(exchange.raw, "ChatCompletionRequest", _FIELDS)
        if not request.get("messages"):
            raise ApiError(400, "[] is too short - 'messages'", in_body=True)
        messages = [{**message, "content": _text(message.get("content"))} for message in request["messages"]]
        generation = Generation(self._engine, _native(request) | {"messages": messages})
        kind = "chat.completion.chunk" if request.get("stream") else "chat.completion"

        def choices(text: str, first: bool, reason: str) -> list[dict[str, Any]]:
            if not request.get("stream"):
                message = {"role": "assistant", "content": text}
                return [{"index": 0, "message": message, "finish_reason": reason}]
            delta = ({"role": "assistant"} if first else {}) | ({"content": text} if text else {})
            return [{"index": 0, "delta": delta, "finish_reason": reason or None}]

        _answer(exchange, request, generation, _head(f"chatcmpl-{secrets.randbelow(1000)}", kind, request), choices)

    def completion(self, exchange: Exchange, _argument: str) -> None:
        request = read_request(exchange.raw, "CompletionRequest", _FIELDS | {"prompt": "string"})
        generation = Generation(self._engine, _native(request) | {"prompt": request.get("prompt", "")})

        def choices(text: str, _first: bool, reason: str) -> list[dict[str, Any]]:
            return [{"text": text, "index": 0, "finish_reason": reason or None}]

        _answer(
            exchange, request, generation, _head(f"cmpl-{secrets.randbelow(1000)}", "text_completion", request), choices
        )

    def embeddings(self, exchange: Exchange, _argument: str) -> None:
        request = read_request(exchange.raw, "EmbedRequest", {"model": "string"})
        if not self._engine.find(request.get("model", "")):
            raise ApiError(404, f"model '{request.get('model', '')}' not found")
        raise ApiError(501, NO_EMBEDDINGS)

    def not_here(self, exchange: Exchange, _argument: str) -> None:
        raise ApiError(501, f"the llama.cpp stand-in has no {exchange.path}")


def _native(request: dict[str, Any]) -> dict[str, Any]:
    """The request in the words of /api, but for what is asked."""
    options: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0}
    options |= {native: request[theirs] for theirs, native in _OPTIONS.items() if theirs in request}
    if stop := request.get("stop"):
        options["stop"] = stop if isinstance(stop, list) else [stop]
    native = {"model": request.get("model", ""), "options": options}
    kept = ("tools", "suffix", "keep_alive")
    native |= {name: request[name] for name in kept if name in request}
    wanted = request.get("response_format") or {}
    if wanted.get("type") == "json_object":
        native["format"] = "json"
    elif wanted.get("type") == "json_schema":
        native["format"] = wanted["json_schema"]["schema"]
    return native


def _text(content: object) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return str(content or "")


def _head(name: str, kind: str, request: dict[str, Any]) -> dict[str, Any]:
    """What every part of an answer begins with."""
    now = int(time.time())
    return {"id": name, "object": kind, "created": now, "model": request["model"], "system_fingerprint": "fp_ollama"}


def _part(head: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    """One part of a stream. Ollama puts the choices of a text completion before the model, those of a chat after it."""
    if head["object"] == "text_completion":
        first = {name: head[name] for name in ("id", "object", "created")}
        return first | {"choices": choices} | head
    return head | {"choices": choices}


def _answer(
    exchange: Exchange,
    request: dict[str, Any],
    generation: Generation,
    head: dict[str, Any],
    choices: _Choices,
) -> None:
    with exchange.watch() as on_leave, contextlib.closing(generation.run(on_leave)) as pieces:
        if not request.get("stream"):
            every = list(pieces)
            text = "".join(piece.text for piece in every)
            answer = head | {"choices": choices(text, True, every[-1].done_reason), "usage": _usage(generation)}
            exchange.reply_json(answer, content_type=PLAIN_JSON)
            return
        first = next(pieces)
        with_usage = (request.get("stream_options") or {}).get("include_usage", False)
        # Ollama's text completions carry an empty usage in each part once it is asked for; its chat does not.
        empty = {"usage": dict.fromkeys(_usage(generation), 0)} if with_usage and "prompt" in request else {}
        with exchange.stream("text/event-stream") as send:
            for piece in itertools.chain([first], pieces):
                part = choices(piece.text, piece is first, piece.done_reason)
                send(_event(_part(head, part) | empty))
            if with_usage:
                send(_event(_part(head, []) | {"usage": _usage(generation)}))
            send(b"data: [DONE]\n\n")


def _usage(generation: Generation) -> dict[str, int]:
    prompt, completion = generation.counts.prompt_tokens, generation.counts.tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _event(value: object) -> bytes:
    return b"data: " + dumps(value) + b"\n\n"
