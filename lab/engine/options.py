"""The model options of a request: Ollama's names, defaults and checks, and what llama.cpp's server calls them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .wire import ApiError

# Option: (its type in Go, the name in llama.cpp's server); without a name it is checked and ignored here.
_OPTIONS = {
    "num_keep": ("integer", "n_keep"),
    "seed": ("integer", "seed"),
    "num_predict": ("integer", ""),
    "top_k": ("integer", "top_k"),
    "top_p": ("float32", "top_p"),
    "min_p": ("float32", "min_p"),
    "typical_p": ("float32", "typical_p"),
    "repeat_last_n": ("integer", "repeat_last_n"),
    "temperature": ("float32", "temperature"),
    "repeat_penalty": ("float32", "repeat_penalty"),
    "presence_penalty": ("float32", "presence_penalty"),
    "frequency_penalty": ("float32", "frequency_penalty"),
    "stop": ("array", "stop"),
    "num_ctx": ("integer", ""),
    "num_batch": ("integer", ""),
    "num_gpu": ("integer", ""),
    "main_gpu": ("integer", ""),
    "use_mmap": ("boolean", ""),
    "num_thread": ("integer", ""),
}
_DEFAULTS: dict[str, Any] = {"num_keep": 4, "temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "seed": -1}


@dataclass(frozen=True)
class Options:
    """num_ctx: tokens, None for the server's default. num_predict: as asked for. sampling: for llama.cpp's server."""

    num_ctx: int | None
    num_predict: int
    num_keep: int
    sampling: dict[str, Any]

    def limit(self, num_ctx: int) -> int:
        """The most tokens to generate: zero and less mean ten times the context, as in Ollama."""
        return self.num_predict if self.num_predict > 0 else 10 * num_ctx


def read_options(model: Mapping[str, Any], request: Mapping[str, Any]) -> Options:
    """MODEL's own parameters under the REQUEST's options. Raises ApiError."""
    for name, value in [*model.items(), *request.items()]:
        _check(name, value)
    asked = {**_DEFAULTS, **model, **{name: value for name, value in request.items() if value is not None}}
    whole = {name: int(value) for name, value in asked.items() if _OPTIONS.get(name, ("",))[0] == "integer"}
    asked |= whole
    return Options(
        num_ctx=max(4, asked["num_ctx"]) if "num_ctx" in asked else None,
        num_predict=asked.get("num_predict", -1),
        num_keep=asked["num_keep"],
        sampling={theirs: asked[ours] for ours, (_, theirs) in _OPTIONS.items() if theirs and ours in asked},
    )


def _check(name: str, value: object) -> None:
    if value is None or name not in _OPTIONS:
        return
    go_type, _ = _OPTIONS[name]
    right = {
        "array": isinstance(value, list),
        "boolean": isinstance(value, bool),
    }.get(go_type, isinstance(value, int | float) and not isinstance(value, bool))
    if not right:
        raise ApiError(500, f'option "{name}" must be of type {go_type}')
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise ApiError(500, f'option "{name}" must be of an array of strings')
