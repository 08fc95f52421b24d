# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The decisions about NVIDIA's software, for roles."""

from __future__ import annotations

from ansible_collections.ollama_fleet.stack.plugins.plugin_utils import nvidia


def gpu_names(gpus):
    """Return how a person calls each GPU of host_info."""
    return [nvidia.card(gpu) for gpu in gpus]


def gpu_refusals(host):
    """Return why no setting can make this host serve models on its cards, each as one text with its remedy."""
    return [refusal["said"] for refusal in nvidia.refusals(host)]


class FilterModule:
    def filters(self):
        return {
            "gpu_names": gpu_names,
            "gpu_refusals": gpu_refusals,
            "nvidia_driver_plan": nvidia.driver_plan,
            "nvidia_toolkit_plan": nvidia.toolkit_plan,
        }
