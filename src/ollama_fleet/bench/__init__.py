"""The benchmark: what an Ollama host really delivers, measured over SSH. docs/benchmark.md tells the method."""

from ollama_fleet.bench.fleet import Choices, run

__all__ = ["Choices", "run"]
