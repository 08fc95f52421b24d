"""A program for the web host: knocks at each gateway that Open WebUI knows, in every way, and prints what came back.

Standard library only; it is sent to the host as text. Prints {address: {case: status or reason}} as JSON.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
import urllib.parse
from pathlib import Path

PROJECT = Path("/opt/ollama-fleet/open-webui")
MANAGEMENT = [
    ("POST", "/api/pull"),
    ("POST", "/api/push"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
    ("HEAD", "/api/blobs/sha256:" + "0" * 64),
    ("POST", "/api/blobs/sha256:" + "0" * 64),
]
# Other spellings of /api/pull. The last but one is how a proxy is asked.
TRICKS = [
    "/api//pull",
    "/api/%70ull",
    "/api/tags/../pull",
    "/api/version/..%2fpull",
    "/./api/pull",
    "/api/pull?x=/api/tags",
    "/API/PULL",
    "http://127.0.0.1:11434/api/pull",
    "/api/tags%0d%0aX:y",
]


def settings() -> dict[str, str]:
    """Open WebUI's own settings, unescaped as Compose does it."""
    lines = (PROJECT / "open-webui.env").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))
    return {name: json.loads(value.replace("\\$", "$")) for name, value in pairs}


class Gateway:
    """One gateway, seen from here."""

    def __init__(self, address: str, token: str) -> None:
        self.place = urllib.parse.urlsplit(address)
        self.token = token
        self.trust = ssl.create_default_context(cafile=str(PROJECT / "ca-bundle.pem"))

    def ask(self, method: str, path: str, token: str | None, body: object = None) -> http.client.HTTPResponse:
        host, port = str(self.place.hostname), self.place.port
        connection = http.client.HTTPSConnection(host, port, timeout=60, context=self.trust)
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        connection.request(method, path, json.dumps(body or {}), headers)
        return connection.getresponse()

    def status(self, method: str, path: str, token: str | None) -> int:
        return self.ask(method, path, token).status

    def stream(self) -> dict[str, object]:
        """How an answer of several words came in: lines, seconds from the first to the last, and those the engine took.

        A small model may end at once, so it is asked again with another seed.
        """
        models = json.load(self.ask("GET", "/api/tags", self.token))["models"]
        for seed in range(1, 11):
            options = {"num_predict": 24, "seed": seed}
            body = {"model": models[0]["name"], "prompt": "Tell a story of a fox.", "options": options}
            answer = self.ask("POST", "/api/generate", self.token, body)
            lines = [(time.monotonic(), line) for line in answer if line.strip()]
            if len(lines) > 6:
                break
        return {
            "status": answer.status,
            "lines": len(lines),
            "seconds": round(lines[-1][0] - lines[0][0], 3),
            "engine seconds": json.loads(lines[-1][1])["eval_duration"] / 1e9,
        }

    def without_authority(self) -> str:
        try:
            host, port = str(self.place.hostname), self.place.port
            http.client.HTTPSConnection(host, port, timeout=10).request("GET", "/")
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        return "accepted"

    def in_plain_http(self) -> int:
        connection = http.client.HTTPConnection(str(self.place.hostname), self.place.port, timeout=10)
        connection.request("GET", "/api/version", headers={"Authorization": f"Bearer {self.token}"})
        return connection.getresponse().status

    def report(self) -> dict[str, object]:
        swapped = self.token.swapcase()
        return {
            "no token": self.status("GET", "/api/version", None),
            "wrong token": self.status("GET", "/api/version", "wrong"),
            "token in other case": self.status("GET", "/api/version", swapped),
            "longer token": self.status("GET", "/api/version", self.token + "x"),
            "good token": self.status("GET", "/api/version", self.token),
            "models": self.status("GET", "/v1/models", self.token),
            "root": self.status("HEAD", "/", self.token),
            "management": {f"{method} {path}": self.status(method, path, self.token) for method, path in MANAGEMENT},
            "tricks": {path: self.status("POST", path, self.token) for path in TRICKS},
            "stream": self.stream(),
            "without authority": self.without_authority(),
            "in plain http": self.in_plain_http(),
        }


if __name__ == "__main__":
    known = settings()
    keys = json.loads(known["OLLAMA_API_CONFIGS"])
    urls = known["OLLAMA_BASE_URLS"].split(";")
    reports = {url: Gateway(url, keys[str(index)]["key"]).report() for index, url in enumerate(urls)}
    print(json.dumps(reports, indent=2))  # noqa: T201 - its output is what it is for
