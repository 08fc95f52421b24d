"""Measures one host: what to ask in which order, and what to make of it. A `Client` is all it knows of the host."""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ollama_fleet.bench import sample
from ollama_fleet.bench.result import HostResult, Load, Model, Placement, Spread
from ollama_fleet.bench.workload import Attempt, Workload
from ollama_fleet.errors import FleetError
from ollama_fleet.ollama import ApiError, Client, UnreachableError

# Round trips to take the median of, after a first one that also opens the way.
_PROBES = 9

# Told after each step: the step in words, and how many of the requests are done.
Progress = Callable[[str, int], None]


class ModelError(FleetError):
    """The model is not there, or not this host's own."""


class SamplesError(FleetError):
    """Too few answers could be used."""


def requests_planned(workload: Workload) -> int:
    """How many requests a host gets when all goes well."""
    return workload.warm_up + workload.runs


@dataclass(frozen=True)
class Measurement:
    """One host's run. It fills in `result` step by step, so that what was found before a failure stays."""

    client: Client
    workload: Workload
    model: str
    result: HostResult
    progress: Progress

    def run(self) -> None:
        """Take all samples. Raises FleetError when the host cannot be measured."""
        self.progress("asking for its version", 0)
        self.result.server_version = self.client.version()
        self.result.model = _find_model(self.client, self.result.name, self.model)
        before = self.client.ps()
        try:
            self._prepare(before)
            self._take_samples()
        finally:
            self._restore(before)

    def _prepare(self, before: list[dict[str, Any]]) -> None:
        """Load the model, look where it went, and time the way there and back."""
        loaded = _entry(before, self.model)
        context = self.workload.num_ctx
        warm = loaded is not None and loaded.get("context_length", context) == context
        self.progress("loading the model", 0)
        started = time.perf_counter()
        self.client.preload(self.model, self.workload.load_options)
        self.result.load = Load(state="warm" if warm else "cold", seconds=time.perf_counter() - started)
        self.result.placement = _placement(_entry(self.client.ps(), self.model))
        self.result.notes += _doubts(self.result, context)
        self.progress("timing the tunnel", 0)
        self.result.round_trip_ms = _round_trip(self.client)

    def _take_samples(self) -> None:
        """Warm up, then ask until `runs` answers count, at most twice as often. Raises SamplesError for fewer."""
        workload, result = self.workload, self.result
        most = workload.warm_up + 2 * workload.runs
        for number in range(1, most + 1):
            warm_up = number <= workload.warm_up
            done = min(number - 1, workload.warm_up) + len(result.accepted)
            self.progress("warming up" if warm_up else f"run {len(result.accepted) + 1} of {workload.runs}", done)
            self._sample(Attempt(number, warm_up, (number - 1) % len(workload.prompts), secrets.token_hex(8)))
            if len(result.accepted) == workload.runs:
                return
        reasons = Counter(taken.rejected for taken in result.measured if taken.rejected is not None)
        raise SamplesError(
            f"host {result.name}",
            f"only {len(result.accepted)} of {len(result.measured)} answers count, {workload.runs} are needed: "
            + "; ".join(f"{count} x {reason}" for reason, count in reasons.items()),
            "see the server's log on that host; a model that likes short answers needs a workload with other prompts",
        )

    def _sample(self, attempt: Attempt) -> None:
        sent = time.perf_counter_ns()
        try:
            answer = self.client.generate(self.workload.request(self.model, attempt))
        except ApiError as error:
            # Refused before an answer began: it counts as a request that failed, and the next may go well.
            answer = sample.refused(sent, time.perf_counter_ns(), error.why)
        round_trip = self.result.round_trip_ms.median if self.result.round_trip_ms else 0.0
        self.result.samples.append(sample.make(answer, self.workload, attempt, round_trip))
        if answer.fault is not None and answer.fault.kind == "cut":
            # Whether the way or the server broke is the caller's to find out; a new request would blur it.
            raise UnreachableError(
                f"host {self.result.name}",
                answer.fault.message,
                "see the server's log on that host: `docker logs ollama`",
            )

    def _restore(self, before: list[dict[str, Any]]) -> None:
        """Load again what was loaded before and is not now, or not in the same way. Never the reason of a failure."""
        if not before:
            return
        try:
            now = self.client.ps()
            for entry in before:
                name, context = str(entry.get("name")), entry.get("context_length")
                there = _entry(now, name)
                forever = _pinned(entry)
                same = there is not None and there.get("context_length") == context and _pinned(there) >= forever
                if same or _expired(entry):
                    continue
                options = {"num_ctx": context} if isinstance(context, int) else {}
                self.client.preload(name, options, keep_alive=-1 if forever else None)
                if there is None:
                    self.result.notes.append(f"{name} had to make room and was loaded again afterwards")
        except FleetError as error:
            names = ", ".join(str(entry.get("name")) for entry in before)
            self.result.notes.append(f"what was loaded before ({names}) may not be loaded now: {error.why}")


def _find_model(client: Client, host: str, name: str) -> Model:
    models = client.tags()
    entry = next((entry for entry in models if _same_model(str(entry.get("name")), name)), None)
    if entry is None:
        there = ", ".join(sorted(str(entry.get("name")) for entry in models)) or "none at all"
        raise ModelError(
            f"host {host}",
            f"the model {name} is not there; it has: {there}",
            "name another with --model, or add it to ollama_models_list and run ./inv up",
        )
    if entry.get("remote_host") or entry.get("remote_model"):
        raise ModelError(
            f"host {host}", f"the model {name} is answered elsewhere, in a cloud", "name a model of the host's own"
        )
    details = entry.get("details")
    details = details if isinstance(details, Mapping) else {}
    return Model(
        name=str(entry.get("name")),
        digest=str(entry.get("digest", "")),
        size_bytes=_whole(entry.get("size")),
        quantization=str(details.get("quantization_level", "")),
        parameters=str(details.get("parameter_size", "")),
        family=str(details.get("family", "")),
    )


def _same_model(there: str, asked: str) -> bool:
    # A name without a tag has one all the same. It is the server's rule, not a choice of ours.
    return there == asked or (":" not in asked.rsplit("/", 1)[-1] and there.rpartition(":")[0] == asked)


def _placement(entry: Mapping[str, Any] | None) -> Placement | None:
    if entry is None:
        return None
    size, vram = _whole(entry.get("size")), _whole(entry.get("size_vram"))
    context = entry.get("context_length")
    return Placement(
        verdict="CPU" if vram == 0 else "GPU" if vram >= size else "partial",
        size_bytes=size,
        vram_bytes=vram,
        context_length=context if isinstance(context, int) else None,
    )


def _doubts(result: HostResult, context: int) -> list[str]:
    """What a reader should know before believing or comparing this host's figures."""
    placement = result.placement
    if placement is None:
        return ["/api/ps does not list the model right after it was loaded: where it runs is not known"]
    notes = []
    if placement.context_length not in {None, context}:
        notes.append(
            f"the model runs with a context of {placement.context_length}, not the {context} asked for: "
            "do not compare it with other hosts"
        )
    if placement.verdict != "GPU" and result.machine.gpus:
        where = "on the CPU alone" if placement.verdict == "CPU" else "partly on the CPU"
        notes.append(f"the host has {', '.join(result.machine.gpus)}, but the model runs {where}")
    return notes


def _round_trip(client: Client) -> Spread | None:
    times = []
    for _ in range(_PROBES + 1):
        started = time.perf_counter_ns()
        client.version()
        times.append((time.perf_counter_ns() - started) / 1e6)
    return Spread.of(times[1:])


def _entry(models: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((entry for entry in models if _same_model(str(entry.get("name")), name)), None)


def _pinned(entry: Mapping[str, Any]) -> bool:
    """Kept for ever: the server writes that as a time centuries away."""
    expires = _expires(entry)
    return expires is not None and expires > datetime.now(UTC) + timedelta(days=3650)


def _expired(entry: Mapping[str, Any]) -> bool:
    """Its time was up anyway. The clocks of two machines are compared here, and a minute does not matter."""
    expires = _expires(entry)
    return expires is not None and expires < datetime.now(UTC)


def _expires(entry: Mapping[str, Any]) -> datetime | None:
    try:
        # Go writes nanoseconds; Python reads them and drops what is too fine.
        value = datetime.fromisoformat(str(entry.get("expires_at")))
    except ValueError:
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
