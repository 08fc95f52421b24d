# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""What models need and whether a host has it. Pure: sizes, metadata and observation in, verdicts out."""
