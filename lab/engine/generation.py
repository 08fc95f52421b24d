"""Generation of text with one model: what /api and /v1 have in common."""

import base64
import binascii
import json
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from . import template
from .names import BadNameError, Name
from .options import read_options
from .runner import Llama, Scheduler
from .store import Model, Store
from .wire import ApiError, check_messages, keep_alive, quote

OnLeave = Callable[[Callable[[], None]], None]
_TOO_LONG = "exceed_context_size_error"
# What "format": "json" means: one object.
_JSON_GRAMMAR = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? ws "}"
array  ::= "[" ws ( value ("," ws value)* )? ws "]"
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]*)) ("." [0-9]+)? ([eE] [-+]? [0-9]+)? ws
ws     ::= ([ \t\n] ws)?
"""


@dataclass(frozen=True)
class Engine:
    """The store, the scheduler, and how long a model stays loaded when nobody says."""

    store: Store
    scheduler: Scheduler
    default_keep_alive: float

    def find(self, text: str) -> Model | None:
        try:
            return self.store.find(Name.parse(text))
        except BadNameError:
            return None


@dataclass(frozen=True)
class Piece:
    """Text as it comes. done_reason: set in the last one. logprobs: as Ollama shows them, if they were asked for."""

    text: str
    done_reason: str = ""
    logprobs: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Counts:
    """What llama.cpp counted and measured. Durations are in nanoseconds."""

    started: int = field(default_factory=time.monotonic_ns)
    load: int = 0
    prompt_tokens: int = 0
    prompt: int = 0
    tokens: int = 0
    eval: int = 0

    def fields(self) -> dict[str, int]:
        """As the last line of an answer has them; a zero is left out, as in Ollama."""
        fields = {
            "total_duration": time.monotonic_ns() - self.started,
            "load_duration": self.load,
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": self.prompt,
            "eval_count": self.tokens,
            "eval_duration": self.eval,
        }
        return {name: value for name, value in fields.items() if value}


class Generation:
    """One request of /api/generate or, where it has messages, of /api/chat: read and checked. run() does it."""

    def __init__(self, engine: Engine, request: dict[str, Any]) -> None:
        """Raises ApiError."""
        self.counts = Counts()
        # The tokens of prompt and answer, for a request that goes on from here.
        self.context: list[int] = []
        self._request = request
        self._scheduler = engine.scheduler
        self._keep_alive = keep_alive(request.get("keep_alive"), engine.default_keep_alive)
        name = request.get("model", "")
        model = engine.find(name)
        if not model:
            raise ApiError(404, f"model '{name}' not found")
        self._model = model
        self._options = read_options(model.parameters, request.get("options", {}))
        self._num_ctx = engine.scheduler.context_of(model, self._options.num_ctx)
        self._refuse_what_no_model_here_can()

    @property
    def unloads(self) -> bool:
        """Whether a request without a prompt means: let go of the model."""
        return self._keep_alive == 0 and "keep_alive" in self._request

    def summary(self) -> dict[str, Any]:
        """What the last line of an answer has beside its text."""
        return ({"context": self.context} if self.context else {}) | self.counts.fields()

    def load(self) -> None:
        """Load the model, and keep it as long as asked."""
        with self._scheduler.use(self._model, self._num_ctx, self._keep_alive):
            pass

    def unload(self) -> None:
        self._scheduler.unload(self._model)

    def run(self, on_leave: OnLeave) -> Generator[Piece, None, None]:
        """The pieces of the answer; ON_LEAVE takes what is to be called when nobody wants them any more.

        Raises ApiError, ConnectionError when it was called.
        """
        with self._scheduler.use(self._model, self._num_ctx, self._keep_alive) as llama:
            self.counts.load = time.monotonic_ns() - self.counts.started
            prompt = self._prompt(llama)
            texts = []
            for piece in self._complete(llama, prompt, on_leave):
                texts.append(piece.text)
                if piece.done_reason:
                    last = piece
                else:
                    yield piece
            if "messages" not in self._request and not self._request.get("raw"):
                self.context = llama.tokens(prompt + "".join(texts))
        yield last

    def _refuse_what_no_model_here_can(self) -> None:
        if self._request.get("suffix"):
            raise ApiError(400, f"{self._model.name.full} does not support insert")
        if self._request.get("tools"):
            raise ApiError(400, f"{self._model.name.full} does not support tools")
        if self._request.get("think"):
            raise ApiError(400, f"{quote(self._request['model'])} does not support thinking")
        messages = self._request.get("messages", [])
        check_messages(messages, "ChatRequest")
        images = [*self._request.get("images", []), *(image for item in messages for image in item.get("images") or [])]
        for image in images:
            try:
                base64.b64decode(image, validate=True)
            except (binascii.Error, ValueError, TypeError):
                raise ApiError(400, "illegal base64 data at input byte 0") from None
        if images:
            message = "Multimodal data provided, but model does not support multimodal requests."
            error = {"error": {"code": 400, "message": message, "type": "invalid_request_error"}}
            raise ApiError(400, json.dumps(error, separators=(",", ":")))

    def _prompt(self, llama: Llama) -> str:
        request = self._request
        if "messages" in request:
            return self._dialogue(llama, request["messages"])
        prompt: str = request.get("prompt", "")
        if request.get("raw"):
            return prompt
        system = request.get("system") or self._model.text("system")
        has_template = self._template or "tokenizer.chat_template" in self._model.header.pairs
        earlier: list[int] = request.get("context", [])
        if has_template:
            begin = [{"role": "system", "content": system}] if system else []
            # A dialogue that goes on has heard them.
            begin += [] if earlier else self._model.messages
            prompt = self._rendered(llama, [*begin, {"role": "user", "content": prompt}])
        return llama.text(earlier) + prompt if earlier else prompt

    def _dialogue(self, llama: Llama, messages: list[dict[str, Any]]) -> str:
        """The messages in the model's template; the oldest are left out where they are more than the context holds."""
        system = self._model.text("system")
        is_silent = not system or messages[0].get("role") == "system"
        messages = [*([] if is_silent else [{"role": "system", "content": system}]), *self._model.messages, *messages]
        messages = [{"role": message.get("role", ""), "content": message.get("content") or ""} for message in messages]
        while True:
            prompt = self._rendered(llama, messages)
            oldest = next((i for i, item in enumerate(messages[:-1]) if item["role"] != "system"), None)
            # A token is never more than a handful of characters: most prompts need no count.
            if oldest is None or len(prompt) < self._num_ctx or len(llama.tokens(prompt)) < self._num_ctx:
                return prompt
            if self._request.get("truncate") is False:
                return prompt
            del messages[oldest]

    @property
    def _template(self) -> str:
        return self._request.get("template") or self._model.text("template")

    def _rendered(self, llama: Llama, messages: list[dict[str, str]]) -> str:
        if self._template:
            return template.render(self._template, template.turns_of(messages))
        prompt: str = llama.ask("/apply-template", {"messages": messages})["prompt"]
        return prompt

    def _complete(self, llama: Llama, prompt: str, on_leave: OnLeave) -> Iterator[Piece]:
        ask = {"prompt": prompt, "n_predict": self._options.limit(self._num_ctx), **self._options.sampling}
        ask |= self._format()
        if self._request.get("logprobs"):
            ask["n_probs"] = max(1, self._request.get("top_logprobs", 0))
        try:
            events = llama.stream("/completion", ask, on_leave)
        except ApiError as error:
            if _TOO_LONG not in error.message or self._request.get("truncate") is False:
                raise
            events = llama.stream("/completion", ask | {"prompt": self._shortened(llama, prompt)}, on_leave)
        for event in events:
            logprobs = [self._logprob(item) for item in event.get("completion_probabilities", [])]
            if not event["stop"]:
                yield Piece(event["content"], logprobs=logprobs)
                continue
            timings = event["timings"]
            self.counts.prompt_tokens = event["tokens_evaluated"]
            self.counts.prompt = round(timings["prompt_ms"] * 1e6)
            self.counts.tokens = event["tokens_predicted"]
            self.counts.eval = round(timings["predicted_ms"] * 1e6)
            reason = "length" if event["stop_type"] == "limit" else "stop"
            yield Piece(event["content"], reason, logprobs)
            return
        raise llama.broken_off()

    def _format(self) -> dict[str, Any]:
        wanted = self._request.get("format", "")
        if isinstance(wanted, dict):
            return {"json_schema": wanted}
        if wanted == "json":
            return {"grammar": _JSON_GRAMMAR}
        if not wanted:
            return {}
        raise ApiError(500, f'invalid format: {quote(str(wanted))}; expected "json" or a valid JSON Schema object')

    def _shortened(self, llama: Llama, prompt: str) -> list[int]:
        """The tokens to keep at the start, and as many of the end as leave half of the context for the answer."""
        tokens = llama.tokens(prompt)
        keep = max(0, min(self._options.num_keep, self._num_ctx // 2))
        begin_of_text = llama.tokens("", add_special=True)
        return [*begin_of_text, *tokens[:keep], *tokens[-((self._num_ctx - keep) // 2) :]]

    def _logprob(self, item: dict[str, Any]) -> dict[str, Any]:
        shown = {name: item[name] for name in ("token", "logprob", "bytes")}
        top = item["top_logprobs"][: self._request.get("top_logprobs", 0)]
        others = [{name: other[name] for name in ("token", "logprob", "bytes")} for other in top]
        return shown | {"top_logprobs": others} if others else shown
