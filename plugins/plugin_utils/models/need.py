# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""How much memory a model needs when it is loaded. Pure: sizes and metadata in, bytes out.

Each formula names its source; docs/models.md holds them together with what real servers reported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MIB = 1024**2

# Bytes of one value in the cache. ggml's block_q8_0 is 32 values and a 16-bit scale, block_q4_0 the same at 4 bits.
# Ollama's own estimate (fs/ggml/ggml.go, kvCacheBytesPerElement) leaves the scales out.
CACHE_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
QUANTISED = ("q8_0", "q4_0")
# Tokens of a prompt that are computed at once, as -b and -ub. Above 4096 tokens of context Ollama takes 1024 or 2048,
# but only where that leaves a quarter or more of the memory free (server/, automaticGenerationBatch): what fits with
# 512 fits.
BATCH = 512
# llama.cpp rounds the cells of a cache up to this (src/llama-kv-cache-iswa.cpp, src/llama-context.cpp).
PADDING = 256

# Every n-th layer attends to the whole context, the others to a window (llama.cpp, src/llama-model.cpp and src/models/,
# set_swa_pattern). A file that says it itself (attention.sliding_window_pattern) is believed.
WINDOW_PERIODS = {
    "gemma2": 2,
    "gpt-oss": 2,
    "gptoss": 2,
    "llama4": 4,
    "cohere2": 4,
    "olmo2": 4,
    "exaone4": 4,
    "exaone-moe": 4,
    "afmoe": 4,
    "gemma3n": 5,
    "gemma3": 6,
    "gemma-embedding": 6,
}
# Windows that llama.cpp knows and the file does not say (llama4: chunks of 8192).
WINDOWS = {"llama4": 8192}
# Ollama's own engine keeps more of a window than the model needs (fs/ggml/ggml.go, GraphSize, case gpt-oss).
OWN_ENGINE_WINDOWS = {"gpt-oss": 4096, "gptoss": 4096}
# Ollama runs models by llama.cpp's llama-server from this version on, before by an engine of its own, which keeps the
# token embeddings twice where they also serve as the output.
LLAMA_SERVER_SINCE = (0, 30)

MODEL, PROJECTOR, ADAPTER = (f"application/vnd.ollama.image.{kind}" for kind in ("model", "projector", "adapter"))


@dataclass(frozen=True)
class Settings:
    """What the need depends on besides the model: the server's settings, by the names of the role ollama.

    context_length: tokens for each request. num_parallel: requests at once.
    own_engine: the server is older than its use of llama-server
    """

    context_length: int
    num_parallel: int = 1
    kv_cache_type: str = "f16"
    flash_attention: bool = True
    own_engine: bool = False


@dataclass(frozen=True)
class Need:
    """Bytes that a loaded model takes.

    weights, projector, adapters: as big as their files
    cache: keys and values of the context. state: of recurrent layers
    compute: working memory, once for each device that computes. output: the probabilities of the next token
    twice: weights that an old server holds twice in RAM
    predicted: what the server itself expects before it loads the model; it decides by that whether others must go
    layers: how many pieces the weights can be divided into between devices
    context: tokens for each request that the model really gets
    notes: what could not be told exactly, in words
    """

    weights: int
    projector: int
    adapters: int
    cache: int
    state: int
    compute: int
    output: int
    twice: int
    predicted: int
    layers: int
    context: int
    notes: tuple[str, ...] = field(default=())

    @property
    def divisible(self):
        """Bytes that layers on several devices share."""
        return self.weights + self.adapters + self.cache + self.state

    @property
    def gpu(self):
        """Bytes on one GPU that holds all of it."""
        return self.divisible + self.projector + self.compute + self.output

    @property
    def ram(self):
        """Bytes in RAM when no GPU helps."""
        return self.gpu + self.twice


class Unreadable(Exception):  # noqa: N818 - an answer, not an accident
    """The metadata lack what the need is computed from; the text says what."""


def own_engine(version):
    """Say whether a server of this version ("0.24.0") has an engine of its own. One that is not there yet has not."""
    found = re.match(r"v?(\d+)\.(\d+)", version or "")
    return bool(found) and (int(found[1]), int(found[2])) < LLAMA_SERVER_SINCE


def need_of(layers, pairs, settings, tensors=None):
    """Return the Need of a model.

    layers:  [{media_type, size}] of its manifest, sizes in bytes
    pairs:   {key: value} of its GGUF header; a long array is {"count": n}
    tensors: {name: bytes} of its GGUF header, or None where they were not read
    Raises Unreadable where the metadata lack what is needed.
    """
    model = Metadata(pairs)
    notes = []
    context = settings.context_length
    if model.trained and context > model.trained:
        # llm/server.go: "requested context size too large for model".
        context = model.trained
        notes.append(f"the model was trained on {context} tokens, and the server gives it no more")
    kind = settings.kv_cache_type
    if kind in QUANTISED and not settings.flash_attention:
        kind = "f16"
        notes.append(f"{settings.kv_cache_type} needs flash attention, so the cache is f16")
    cache, state, masks = caches(model, context, settings, CACHE_BYTES[kind], notes)
    output = 4 * model.vocabulary * settings.num_parallel
    weights = of_kind(layers, MODEL)
    return Need(
        weights=weights,
        projector=of_kind(layers, PROJECTOR),
        adapters=of_kind(layers, ADAPTER),
        cache=cache,
        state=state,
        compute=compute(model, context, masks, settings),
        output=output,
        twice=held_twice(tensors, notes) if settings.own_engine else 0,
        predicted=weights + model.predicted_width * context * settings.num_parallel,
        layers=model.layers + 1,
        context=context,
        notes=tuple(notes),
    )


def of_kind(layers, media_type):
    return sum(layer["size"] for layer in layers if layer["media_type"] == media_type)


def caches(model, context, settings, element, notes):
    """Return (bytes of keys and values, bytes of recurrent state, cells that the attention masks cover).

    llama.cpp, src/llama-kv-cache.cpp: for each layer cells x (key + value length) x KV heads x bytes of the type.
    src/llama-kv-cache-iswa.cpp: a layer with a window has PAD(min(context, window + batch)) cells, for each request.
    fs/ggml/ggml.go, GraphSize: a layer without KV heads is recurrent; its state is 32-bit, whatever the context.
    """
    whole = padded(context) * settings.num_parallel
    window = model.window
    if settings.own_engine and window:
        window = max(window, OWN_ENGINE_WINDOWS.get(model.architecture, 0))
    windowed = min(padded(min(context, window + BATCH)) * settings.num_parallel, whole) if window else whole
    in_window = model.layers_in_window(notes)
    recurrent = model.recurrent_layers()
    cache = state = 0
    kinds = set()
    for layer in range(model.layers - model.shared_layers):
        if recurrent[layer]:
            state += model.recurrent_state(notes) * settings.num_parallel
            continue
        cells = windowed if in_window[layer] else whole
        kinds.add(cells)
        cache += int(cells * model.cache_width(layer, in_window[layer]) * element)
    return cache, state, sum(kinds)


def compute(model, context, masks, settings):
    """Return the bytes of the working memory of one device.

    Four tensors of the model's width (fs/ggml/ggml.go, GraphSize: "4*embedding") and three of the feed-forward block
    (gate, up and their product live at once), 32-bit, for each token of a batch; a 16-bit mask of each kind of cache.
    Without flash attention also the scores of all heads (GraphSize: context*(1+heads)). Logits are kept for one token
    of each request only (llama.cpp pull request 23861), which is Need.output.
    """
    batch = min(BATCH, context)
    values = 4 * model.width + 3 * model.feed_forward
    total = 4 * batch * values + 2 * batch * masks
    if not settings.flash_attention:
        total += 4 * batch * padded(context) * settings.num_parallel * (1 + max(model.heads))
    return total


def held_twice(tensors, notes):
    """Return the bytes of the token embeddings where they are the output as well: a file without output.weight."""
    if tensors is None:
        notes.append("whether the token embeddings are held twice in RAM could not be read")
        return 0
    if "output.weight" in tensors:
        return 0
    return tensors.get("token_embd.weight") or 0


def padded(cells):
    return -(-cells // PADDING) * PADDING


class Metadata:
    """The numbers of a model, by the names of the GGUF specification, with llama.cpp's defaults."""

    def __init__(self, pairs):
        self._pairs = pairs
        self.architecture = str(self._required("general.architecture", ""))
        self.layers = self._number("block_count")
        self.width = self._number("embedding_length")
        self.heads = self._each("attention.head_count", None)
        self.kv_heads = self._each("attention.head_count_kv", self.heads)
        self.trained = int(self._get("context_length") or 0)
        self.shared_layers = int(self._get("attention.shared_kv_layers") or 0)
        self.vocabulary = self._words()

    def _get(self, key):
        return self._pairs.get(f"{self.architecture}.{key}")

    def _required(self, key, prefix):
        value = self._pairs.get(prefix + key)
        if value is None:
            raise Unreadable(f"its header does not say {prefix + key}")
        return value

    def _number(self, key):
        return int(self._required(key, f"{self.architecture}."))

    def _each(self, key, default):
        """One number for each layer: the specification allows a number for all or an array."""
        value = self._get(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise Unreadable(f"its header does not say {self.architecture}.{key}")
        if isinstance(value, list):
            if len(value) < self.layers:
                raise Unreadable(f"{self.architecture}.{key} has {len(value)} numbers for {self.layers} layers")
            return [int(number) for number in value]
        return [int(value)] * self.layers

    def _words(self):
        tokens = self._pairs.get("tokenizer.ggml.tokens")
        if isinstance(tokens, dict):
            return int(tokens["count"])
        if isinstance(tokens, list):
            return len(tokens)
        return int(self._get("vocab_size") or 0)

    @property
    def predicted_width(self):
        """Bytes for each token in the server's own estimate (Ollama, llm/llama_server.go, PredictServerVRAM).

        It knows neither windows nor types of the cache, and takes all heads to be as wide as the widest share.
        """
        width = self.width // (max(self.heads) or 1)
        return 2 * self.layers * (min(self.kv_heads) or 1) * width * 2

    @property
    def feed_forward(self):
        """Values of the feed-forward block for one token; of a mixture of experts, those that are asked at once."""
        value = self._get("feed_forward_length") or 0
        dense = max(value) if isinstance(value, list) else int(value)
        expert = int(self._get("expert_feed_forward_length") or 0) * int(self._get("expert_used_count") or 0)
        return max(dense, expert)

    @property
    def window(self):
        """Tokens of the sliding window, 0 where there is none."""
        return int(self._get("attention.sliding_window") or 0) or WINDOWS.get(self.architecture, 0)

    def layers_in_window(self, notes):
        """Say of each layer whether it attends to the window only."""
        if not self.window:
            return [False] * self.layers
        pattern = self._get("attention.sliding_window_pattern")
        if isinstance(pattern, list) and len(pattern) >= self.layers:
            return [bool(item) for item in pattern]
        period = pattern if isinstance(pattern, int) and pattern else WINDOW_PERIODS.get(self.architecture, 0)
        if not period:
            notes.append(f"which layers of {self.architecture} have a window is not known here: all count in full")
            return [False] * self.layers
        return [layer % period < period - 1 for layer in range(self.layers)]

    def recurrent_layers(self):
        """Say of each layer whether it is recurrent: it has no KV heads, or is none of every n-th that attend."""
        interval = int(self._get("full_attention_interval") or 0)
        if interval:
            return [(layer + 1) % interval != 0 for layer in range(self.layers)]
        return [not kv for kv in self.kv_heads]

    def recurrent_state(self, notes):
        """Bytes of one recurrent layer for one request (fs/ggml/ggml.go, GraphSize; always 32-bit)."""
        kernel, inner = int(self._get("ssm.conv_kernel") or 0), int(self._get("ssm.inner_size") or 0)
        size, groups = int(self._get("ssm.state_size") or 0), int(self._get("ssm.group_count") or 0)
        if not inner or not size:
            text = f"the state of {self.architecture}'s recurrent layers is not told by its header and not counted"
            if text not in notes:
                notes.append(text)
            return 0
        convolution = (kernel - 1) * (inner + 2 * groups * size) if kernel else 0
        return 4 * (convolution + size * inner)

    def cache_width(self, layer, in_window):
        """Values that one token puts into a layer's cache: keys and values of all KV heads."""
        heads = self.heads[layer] or max(self.heads)
        if not heads:
            raise Unreadable(f"its header gives {self.architecture} no attention heads")
        length = self.width // heads
        suffix = "_swa" if in_window else ""
        key = self._get(f"attention.key_length{suffix}") or self._get("attention.key_length") or length
        value = self._get(f"attention.value_length{suffix}") or self._get("attention.value_length") or length
        return self.kv_heads[layer] * (int(key) + int(value))
