"""A double of Open WebUI's API, as 0.12.4 answers, that can be sick, open, slow or wrong on purpose."""

import json
import time
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tests.serving_support.secrets_doubles import InterfaceDouble

MODEL = {"name": "small:1", "size": 100}


class WebuiDouble(InterfaceDouble):
    """Open WebUI with one user and Ollama back ends, each in `backends` with its models or (status, words)."""

    backends: ClassVar[list[Any]] = []
    role = "admin"
    # Ways to be wrong.
    sick = 0
    log_in_status = 0
    sign_up_open = False
    onboarding = False
    takes_any_password = False
    second_factor = False
    list_seconds = 0.0
    answer_words: str | None = "Paris is the capital of France"
    answer_status = 200
    # As the proxy in front of it hands it on.
    cookie = ""
    upgrades = False

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        path = urlsplit(self.path).path
        if path.startswith("/ws/"):
            self.answer(101 if self.upgrades and self.headers["Upgrade"] == "websocket" else 400, {})
        elif path.startswith("/health"):
            self.answer(self.sick or 200, {"status": True})
        elif path == "/api/config":
            features = {"enable_signup": self.sign_up_open}
            onboarding = {"onboarding": True} if self.onboarding else {}
            self.answer(200, {"version": "0.12.4", "features": features, **onboarding})
        elif not self.known():
            self.answer(401, {"detail": "Not authenticated"})
        elif path.startswith("/ollama/api/tags/"):
            told = self.backends[int(path.rpartition("/")[2])]
            if isinstance(told, tuple):
                self.answer(told[0], {"detail": told[1]})
            else:
                self.answer(200, {"models": told})
        elif path == "/api/models":
            time.sleep(self.list_seconds)
            names = {model["name"] for told in self.backends if isinstance(told, list) for model in told}
            self.answer(200, {"data": [{"id": name} for name in sorted(names)]})
        else:
            self.answer(404, {"detail": "Not Found"})

    def end_headers(self) -> None:
        if self.cookie and self.command == "POST":
            self.send_header("Set-Cookie", self.cookie)
        super().end_headers()

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/v1/auths/signin":
            right = body["email"] == self.email and (self.takes_any_password or body["password"] == self.password)
            if self.log_in_status:
                self.answer(self.log_in_status, {"detail": "no"})
            elif right and self.second_factor:
                self.answer(200, {"next_step": "verify", "challenge_token": "x", "expires_in": 300})
            elif right:
                self.answer(200, {"token": self.session(), "role": self.role})
            else:
                self.answer(400, {"detail": "The email or password provided is incorrect."})
        elif self.path == "/api/v1/auths/signup":
            assert "@" not in body["email"], "this would make an account where sign-up is open"
            self.answer(400 if self.sign_up_open else 403, {"detail": "no"})
        elif self.path == "/api/chat/completions" and self.known():
            message = {"role": "assistant", "content": self.answer_words}
            told = {"choices": [{"message": message}], "detail": "model requires more system memory"}
            self.answer(self.answer_status, told)
        else:
            self.answer(401, {"detail": "no"})
