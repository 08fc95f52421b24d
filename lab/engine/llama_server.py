"""One model in a process of its own: llama.cpp's server, by xllamacpp, on a loopback port that the parent asks for.

Reads its settings as one line of JSON from standard input, writes its address to standard output, and ends when
standard input does: with its parent, however that ends.
"""

import json
import os
import sys

import xllamacpp  # type: ignore[import-not-found,unused-ignore]


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.n_parallel = settings["parallel"]
    params.n_ctx = settings["num_ctx"] * settings["parallel"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.api_keys = [settings["key"]]
    # A request that waits for a slot holds a thread.
    params.n_threads_http = settings["parallel"] + 32
    # As Ollama runs it: a generation goes on beyond the context; the size asked for is the size; no warm-up run.
    # Between two batches the server sees that a client has left.
    params.n_batch = 512
    params.ctx_shift = True
    params.fit_params = False
    params.warmup = False
    params.cache_ram_mib = 0
    params.ui = False
    params.verbosity = 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
