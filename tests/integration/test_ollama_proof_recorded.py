"""The GPU proof over what two real Ollama versions answered without a GPU: recorded bodies, over real HTTP."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.ollama_fleet.stack.plugins.module_utils.ollama_api import OllamaServer
from ansible_collections.ollama_fleet.stack.plugins.modules.ollama_proof import Unit, look

from tests.serving_support.proof_double import Programs

DATA = Path(__file__).parents[1] / "data"
VERSIONS = {"0.24.0": DATA / "proof" / "v0.24.0", "0.32.15": DATA / "ollama-api" / "v0.32.15"}
# In the order in which the proof asks: the model is in /api/ps from the first answer on, and unloaded last.
CASES = {
    "/api/tags": ["020-tags"],
    "/api/show": ["025-show"],
    "/api/ps": ["021-ps-unloaded", "039-ps-loaded"],
    "/api/generate": ["042-gen-nostream-1st", "087-gen-unload"],
}


def body_of(path: Path) -> bytes:
    """The recorded JSON, without the framing of chunks."""
    response = path.read_text().partition("<<< RESPONSE")[2].rpartition("\n--- META")[0]
    found = re.search(r"^\{.*\}$", response.partition("\n\n")[2], re.MULTILINE)
    assert found, path
    return found[0].encode()


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    told = {
        path: [body_of(VERSIONS[request.param] / f"{name}.http") for name in names] for path, names in CASES.items()
    }

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            answers = told[self.path]
            data = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(200)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


@pytest.mark.parametrize("expected", ["cpu", "gpu"])
def test_real_answers_from_a_cpu_prove_a_cpu_and_no_gpu(
    server: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Programs(tmp_path)
    programs.smi(apps="")
    monkeypatch.setenv("PATH", programs.path())
    asked = {"expect": expected, "gpus": [], "model": "", "floor": 0.0, "tokens": 16, "attempts": 3}
    record = look(OllamaServer(server), Unit("ollama.service"), asked | {"proc_root": str(programs.proc)})
    assert record["model"]["name"] == "gemma3:270m"
    assert record["model"]["size"] == pytest.approx(253_113_200, abs=200)
    assert record["answer"]["tokens"] == 16
    assert record["answer"]["text"].startswith("in a")
    assert record["proved"] is (expected == "cpu")
    agrees = [record["signals"][name]["agrees"] for name in ("memory", "process")]
    assert agrees == [expected == "cpu"] * 2
    assert record["signals"]["rate"]["tokens_per_second"] > 20
