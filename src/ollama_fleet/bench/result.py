"""What a benchmark found: plain data, the same in memory and in report.json. Names carry the units."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

SCHEMA = "ollama-fleet/bench-report/1"

FailureKind = Literal["tunnel", "server", "model", "samples", "internal"]


@dataclass(frozen=True)
class Spread:
    """A median and how far the values lie around it; `mad` is the median distance from the median."""

    n: int
    median: float
    minimum: float
    maximum: float
    mad: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Self | None:
        """The spread of the values that are there; None when there is none."""
        there = [value for value in values if value is not None and math.isfinite(value)]
        if not there:
            return None
        median = statistics.median(there)
        mad = statistics.median(abs(value - median) for value in there)
        return cls(n=len(there), median=median, minimum=min(there), maximum=max(there), mad=mad)


@dataclass(frozen=True)
class Sample:
    """One request. `rejected` is the reason why it does not count; rates are None where they cannot be told.

    `server` is the last object of the answer as it came, less its text: the source of every rate here.
    """

    number: int
    warm_up: bool
    prompt: int
    nonce: str
    rejected: str | None
    output_tokens: int | None
    prompt_tokens: int | None
    cached_tokens: int | None
    decode_tokens_per_second: float | None
    prefill_tokens_per_second: float | None
    first_token_ms: float | None
    first_token_less_round_trip_ms: float | None
    wall_ms: float
    unaccounted_ms: float | None
    server: Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """Why a host has no result. `kind` tells the way (tunnel) from the server, its model and its samples."""

    kind: FailureKind
    what: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Machine:
    """What the host says of itself, over the same SSH connection."""

    os: str | None = None
    kernel: str | None = None
    cpu: str | None = None
    cpus: int | None = None
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """The model that answered, as /api/tags has it."""

    name: str
    digest: str
    size_bytes: int
    quantization: str
    parameters: str
    family: str


@dataclass(frozen=True)
class Placement:
    """Where the model lies, as /api/ps has it."""

    verdict: Literal["CPU", "GPU", "partial"]
    size_bytes: int
    vram_bytes: int
    context_length: int | None


@dataclass(frozen=True)
class Load:
    """How long it took to have the model ready; warm means that it was loaded already, with the same context."""

    state: Literal["cold", "warm"]
    seconds: float


@dataclass
class HostResult:
    """One host: a row of the report, whether it was measured or failed."""

    name: str
    address: str
    failure: Failure | None = None
    server_version: str | None = None
    model: Model | None = None
    machine: Machine = field(default_factory=Machine)
    placement: Placement | None = None
    load: Load | None = None
    round_trip_ms: Spread | None = None
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def measured(self) -> list[Sample]:
        """All samples but those of the warm-up."""
        return [sample for sample in self.samples if not sample.warm_up]

    @property
    def accepted(self) -> list[Sample]:
        """The samples that count."""
        return [sample for sample in self.measured if sample.rejected is None]

    @property
    def rejected(self) -> int:
        """How many of the measured samples do not count."""
        return len(self.measured) - len(self.accepted)

    @property
    def decode(self) -> Spread | None:
        """Tokens per second, by the server's clock."""
        return Spread.of(sample.decode_tokens_per_second for sample in self.accepted)

    @property
    def prefill(self) -> Spread | None:
        """Prompt tokens per second, by the server's clock."""
        return Spread.of(sample.prefill_tokens_per_second for sample in self.accepted)

    @property
    def first_token(self) -> Spread | None:
        """Milliseconds to the first token, by the client's clock, as measured."""
        return Spread.of(sample.first_token_ms for sample in self.accepted)

    @property
    def first_token_less_round_trip(self) -> Spread | None:
        """The same less the tunnel's round trip."""
        return Spread.of(sample.first_token_less_round_trip_ms for sample in self.accepted)


@dataclass
class BenchReport:
    """A whole run. `created` is UTC, ISO 8601; `forks` is how many hosts were measured at once."""

    created: str
    tool: str
    inventory: str
    limit: str | None
    forks: int
    model: str
    workload: Mapping[str, Any]
    hosts: list[HostResult]
    seconds: float

    @property
    def exit_code(self) -> int:
        """0: every host was measured; 2: at least one failed."""
        return 2 if any(host.failure for host in self.hosts) else 0

    def to_json(self) -> dict[str, Any]:
        """The report as JSON has it; derived figures are in it too, for readers that are no program of ours."""
        value = {"schema": SCHEMA, "exit_code": self.exit_code, **asdict(self)}
        for host, entry in zip(self.hosts, value["hosts"], strict=True):
            entry["status"] = "failed" if host.failure else "measured"
            entry["samples_measured"] = len(host.measured)
            entry["samples_rejected"] = host.rejected
            for key, spread in summary(host).items():
                entry[key] = asdict(spread) if spread else None
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; derived figures are worked out anew. Raises KeyError, TypeError or ValueError."""
        if value["schema"] != SCHEMA:
            raise ValueError(f"its schema is {value['schema']!r}, this program reads {SCHEMA!r}")
        return cls(
            created=value["created"],
            tool=value["tool"],
            inventory=value["inventory"],
            limit=value["limit"],
            forks=value["forks"],
            model=value["model"],
            workload=value["workload"],
            hosts=[_host(entry) for entry in value["hosts"]],
            seconds=value["seconds"],
        )


def summary(host: HostResult) -> dict[str, Spread | None]:
    """The figures of a row, by the names they have in JSON and CSV."""
    return {
        "decode_tokens_per_second": host.decode,
        "prefill_tokens_per_second": host.prefill,
        "first_token_ms": host.first_token,
        "first_token_less_round_trip_ms": host.first_token_less_round_trip,
    }


def _host(value: Mapping[str, Any]) -> HostResult:
    machine = {**value["machine"], "gpus": tuple(value["machine"]["gpus"])}
    return HostResult(
        name=value["name"],
        address=value["address"],
        failure=Failure(**value["failure"]) if value["failure"] else None,
        server_version=value["server_version"],
        model=Model(**value["model"]) if value["model"] else None,
        machine=Machine(**machine),
        placement=Placement(**value["placement"]) if value["placement"] else None,
        load=Load(**value["load"]) if value["load"] else None,
        round_trip_ms=Spread(**value["round_trip_ms"]) if value["round_trip_ms"] else None,
        samples=[Sample(**sample) for sample in value["samples"]],
        notes=list(value["notes"]),
    )
