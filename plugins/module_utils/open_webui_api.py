# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Open WebUI's API, as far as it is about who gets in and whether it works. Routes as of version 0.12.4."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request

from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

TIMEOUT = 30
REFUSED = (400, 401, 403)
TOO_MANY = 429
PAUSE = 1
# It counts log-ins by the minute, for three minutes, and those that it refuses for their number as well.
MINUTE, MINUTES = 61, 4


SECOND_FACTOR = "is asked for more than a password"
TOO_MANY_WORDS = f"it has had too many log-ins (HTTP {TOO_MANY})"


class SilentError(Exception):
    """Nothing answers there."""


class Interface:
    """One Open WebUI. base_url: as the host sees it that this runs on."""

    def __init__(self, base_url: str, sleep=time.sleep) -> None:
        self.base_url, self.sleep = base_url.rstrip("/"), sleep
        self.what = f"Open WebUI at {self.base_url}"

    def ask(
        self, path: str, token: str | None = None, body: dict | None = None, timeout: float = TIMEOUT
    ) -> tuple[int, object]:
        """Return (status, JSON or None) of an answer; SilentError when there is none within the seconds."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.base_url + path, data, headers)  # noqa: S310 - the inventory's address
        # A proxy of the environment is for the way out, and would get to see the password.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout) as answer:
                return answer.status, as_json(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, as_json(error.read())
        except (OSError, http.client.HTTPException) as error:
            raise SilentError(str(error)) from None

    def sign_in(self, email: str, password: str, patient: bool = True) -> tuple[int, dict]:
        """Return (status, answer) of a log-in; the answer of a good one has token and role.

        patient: wait where it has had too many log-ins. Replicas count them together, and somebody who guesses
        passwords must not decide over an upgrade.
        """
        for minute in range(MINUTES + 1 if patient else 1):
            if minute:
                self.sleep(MINUTE)
            status, answer = self.ask("/api/v1/auths/signin", body={"email": email, "password": password})
            if status != TOO_MANY:
                break
        return status, answer if isinstance(answer, dict) else {}

    def log_in(self, email: str, password: str) -> str | None:
        """Return a session's token, or None where the password does not count."""
        status, answer = self.sign_in(email, password)
        if status == 200 and answer.get("token"):
            return str(answer["token"])
        if status in REFUSED:
            return None
        why = "it has had too many log-ins" if status == TOO_MANY else f"it answers a log-in with HTTP {status}"
        raise FleetError(self.what, why, "wait three minutes, see docker logs open-webui, then run it again")

    def why_sick(self) -> str:
        """Why it is not healthy, nothing when it and its database answer."""
        try:
            status, answer = self.ask("/health", timeout=5)
            if status != 200 or not (isinstance(answer, dict) and answer.get("status") is True):
                return f"/health answers HTTP {status}"
            # Versions that have no such address answer with the page that people see, which is no failure.
            status, _answer = self.ask("/health/db", timeout=10)
            return "" if status < 400 else f"/health/db answers HTTP {status}"
        except SilentError as error:
            return f"it does not answer ({error})"

    def why_no_log_in(self, email: str, password: str) -> str:
        """Why this person does not get in as administrator, nothing when they do."""
        try:
            status, answer = self.sign_in(email, password)
        except SilentError as error:
            return f"a log-in is not answered ({error})"
        if status == TOO_MANY:
            return TOO_MANY_WORDS
        if status != 200:
            return f"{email} cannot log in (HTTP {status})"
        if not answer.get("token"):
            return f"{email} {SECOND_FACTOR}"
        return "" if answer.get("role") == "admin" else f"{email} logs in as {answer.get('role')}, not as administrator"

    def wait_for_log_in(self, email: str, password: str, seconds: float) -> str:
        """Try until this person gets in as administrator or the seconds are over; return why not."""
        return wait_until(lambda: self.why_no_log_in(email, password), seconds, self.sleep, PAUSE * 5)


def as_json(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None


def wait_until(why_not, seconds: float, sleep=time.sleep, pause: float = PAUSE) -> str:
    """Ask until there is no reason left, too many were asked, or the time is over; return the last reason."""
    end = time.monotonic() + seconds
    while True:
        reason = why_not()
        if reason in ("", TOO_MANY_WORDS) or time.monotonic() >= end:
            return reason
        sleep(pause)
