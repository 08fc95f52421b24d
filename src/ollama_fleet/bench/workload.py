"""A workload: what every host is asked to do, read from a YAML file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ollama_fleet.errors import FleetError

FOLDER = Path(__file__).parent / "workloads"


@dataclass(frozen=True)
class Attempt:
    """One request of a run: its number from 1, which prompt it sends, and the word that no request had before."""

    number: int
    warm_up: bool
    prompt: int
    nonce: str


@dataclass(frozen=True)
class Workload:
    """The same work for every host. `runs` counts accepted samples, `warm_up` requests that are not counted."""

    name: str
    purpose: str
    model: str
    num_ctx: int
    num_predict: int
    seed: int
    temperature: float
    warm_up: int
    runs: int
    prompts: tuple[str, ...]

    @property
    def load_options(self) -> dict[str, Any]:
        """The options that decide how a model is loaded: another value would load it anew."""
        return {"num_ctx": self.num_ctx}

    def request(self, model: str, attempt: Attempt) -> dict[str, Any]:
        """The body of one request. `raw` leaves out the chat template, whose first tokens would always be cached."""
        options = {**self.load_options, "num_predict": self.num_predict, "seed": self.seed}
        return {
            "model": model,
            "prompt": f"{attempt.nonce} {self.prompts[attempt.prompt]}",
            "raw": True,
            "options": {**options, "temperature": self.temperature},
        }


def load(name: str) -> Workload:
    """Read a workload that comes along (by its name) or one of your own (by its path). Raises FleetError."""
    own = Path(name)
    path = own if own.suffix in {".yml", ".yaml"} else FOLDER / f"{name}.yml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        there = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yml")))
        raise FleetError(
            f"workload {name}", f"{path} cannot be read", f"name one of: {there}; or the path of a YAML file"
        ) from error
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FleetError(f"workload {path}", f"it is no YAML: {error}", "correct the file") from error
    return parse(value, path.stem, str(path))


def parse(value: Any, name: str, where: str) -> Workload:
    """Check a workload, key by key; the first thing that is wrong is named in a FleetError."""
    keys = {"purpose", "model", "options", "warm_up", "runs", "prompts"}
    top = _mapping(value, keys, where, "")
    options = _mapping(top["options"], {"num_ctx", "num_predict", "seed", "temperature"}, where, "options.")
    prompts = top["prompts"]
    if not isinstance(prompts, list) or not prompts or not all(isinstance(p, str) and p.strip() for p in prompts):
        raise _wrong(where, "prompts", "must be a list of texts, at least one")
    temperature = options["temperature"]
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or temperature < 0:
        raise _wrong(where, "options.temperature", "must be a number, 0 or more")
    return Workload(
        name=name,
        purpose=_text(top, "purpose", where),
        model=_text(top, "model", where),
        num_ctx=_whole(options, "num_ctx", where, 64, "options."),
        # Below 2 no rate can be told, and Ollama takes 0 and less for "without end".
        num_predict=_whole(options, "num_predict", where, 2, "options."),
        # Ollama takes 0 for "another seed each time".
        seed=_whole(options, "seed", where, 1, "options."),
        temperature=float(temperature),
        warm_up=_whole(top, "warm_up", where, 0),
        runs=_whole(top, "runs", where, 1),
        prompts=tuple(prompts),
    )


def _mapping(value: Any, keys: set[str], where: str, prefix: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, prefix.rstrip(".") or "the file", "must be a mapping")
    for key in sorted(keys - value.keys()):
        raise _wrong(where, prefix + key, "is missing")
    for key in sorted(map(str, value.keys() - keys)):
        raise _wrong(where, prefix + key, "is not known here; known are " + ", ".join(sorted(keys)))
    return value


def _text(value: Mapping[str, Any], key: str, where: str) -> str:
    if not isinstance(value[key], str) or not value[key].strip():
        raise _wrong(where, key, f"must be a text, not {value[key]!r}")
    return str(value[key])


def _whole(value: Mapping[str, Any], key: str, where: str, least: int, prefix: str = "") -> int:
    number = value[key]
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise _wrong(where, prefix + key, f"must be a whole number, {least} or more, not {number!r}")
    return number


def _wrong(where: str, key: str, why: str) -> FleetError:
    return FleetError(f"workload {where}", f"{key} {why}", "correct the file; docs/benchmark.md explains every key")
