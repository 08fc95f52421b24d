# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Verdicts as sentences, for a person who has to decide."""

from __future__ import annotations

VERDICTS = {
    "gpu": "on the GPU",
    "partly": "partly on the GPU",
    "cpu": "on the CPU",
    "memory": "too big for the memory",
    "disk": "too big for the disk",
    "unknown": "not known",
}


def instead(model):
    """Return what would fit instead of a model, in words; nothing where it fits. model: of fit.judge"""
    would_fit = model["would_fit"]
    if would_fit is None:
        return ""
    ways = []
    if would_fit["quantisation"]:
        ways.append(f"the model in {would_fit['quantisation']}")
    if would_fit["context"]:
        setting = "num_ctx in its parameters" if model["own_context"] else "ollama_context_length"
        ways.append(f"{setting}: {would_fit['context']}")
    if would_fit["kv_cache_type"]:
        ways.append(f"ollama_kv_cache_type: {would_fit['kv_cache_type']}")
    return " or ".join(ways) or "nothing of this model that is in the tables: choose a smaller one"


def refusal(result):
    """Return (reason, remedy) of what does not fit. result: of fit.judge"""
    reasons, remedies = [], []
    for model in result["models"]:
        if model["fits"]:
            continue
        reasons.append(f"{model['name']} is {VERDICTS[model['verdict']]}: {model['why']}")
        if model["verdict"] == "disk":
            remedies.append("free disk space, point ollama_data_dir to a bigger disk, or list fewer models")
        else:
            remedies.append(f"{model['name']}: would fit: {instead(model)}")
    if not result["together"]["fits"]:
        reasons.append(result["together"]["why"])
        remedies.append("lower ollama_max_loaded_models")
    if any(not model["fits"] and model["verdict"] in ("partly", "cpu") for model in result["models"]):
        remedies.append("set ollama_models_fit: memory where a model may lie in RAM and be slow")
    return "; ".join(reasons), "; ".join(dict.fromkeys(remedies))
