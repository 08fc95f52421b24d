"""What the environment says: Ollama's own variables, and those of the stand-in."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .wire import parse_duration


@dataclass(frozen=True)
class Settings:
    """host, port: where to listen. keep_alive: seconds, negative means forever. threads: of one model."""

    host: str
    port: int
    models: Path
    context_length: int
    keep_alive: float
    parallel: int
    max_loaded: int
    origins: tuple[str, ...]
    threads: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Raises ValueError that names the variable."""
        host, port = _address(environment.get("OLLAMA_HOST", ""))
        models = environment.get("OLLAMA_MODELS")
        return cls(
            host=host,
            port=port,
            models=Path(models) if models else Path.home() / ".ollama" / "models",
            context_length=_number(environment, "OLLAMA_CONTEXT_LENGTH", 4096),
            keep_alive=_keep_alive(environment.get("OLLAMA_KEEP_ALIVE", "")),
            parallel=_number(environment, "OLLAMA_NUM_PARALLEL", 1),
            max_loaded=_number(environment, "OLLAMA_MAX_LOADED_MODELS", 3),
            origins=tuple(filter(None, environment.get("OLLAMA_ORIGINS", "").split(","))),
            threads=_number(environment, "OLLAMA_STAND_IN_THREADS", 1),
        )


def _address(text: str) -> tuple[str, int]:
    text = text.strip().removeprefix("http://").rstrip("/")
    host, _, port = text.rpartition(":") if ":" in text else (text, "", "")
    try:
        return host.strip("[]") or "127.0.0.1", int(port or 11434)
    except ValueError:
        raise ValueError(f"OLLAMA_HOST: {text!r} is no host:port") from None


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if text in {"", "0"}:
        # Zero means "choose for me" to Ollama as well.
        return default
    if not text.isdecimal():
        raise ValueError(f"{name}: {text!r} is no whole number above zero")
    return int(text)


def _keep_alive(text: str) -> float:
    if not text:
        return 300.0
    try:
        return float(int(text))
    except ValueError:
        pass
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ValueError(f"OLLAMA_KEEP_ALIVE: {error}") from None
