#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Proves that Open WebUI lets in whom it should, reaches its back ends, and gives a real answer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: open_webui_check
short_description: Prove that Open WebUI serves whom it should, and nobody else
version_added: "0.4.0"
author: The ollama-fleet authors
description:
  - Through Open WebUI's own API. The administrator logs in; a wrong password is refused; nobody can sign up; every back
    end lists its models; the list of all comes in time; one model gives an answer.
  - Sign-up is tried with what is no address. Where it is closed that is answered by 403; where it is open, by another
    error. No account is made either way.
  - With O(tls_port) it also knocks at the proxy in front. It has to show its certificate, hand on the upgrade to a
    WebSocket, and give out its cookies for HTTPS alone.
  - A back end that is down is its own host's failure, and is reported in RV(down). One that refuses, or none at all
    that serves, fails.
  - Logs in twice; Open WebUI allows fifteen log-ins in three minutes for one address.
options:
  base_url:
    description: Where Open WebUI listens, as seen from the host that the module runs on.
    type: str
    default: http://127.0.0.1:3000
  email:
    description: Log-in of the administrator.
    type: str
    required: true
  password:
    description: Password of the administrator.
    type: str
    required: true
  backends:
    description: Names of the back ends, in the order of OLLAMA_BASE_URLS.
    type: list
    elements: str
    default: []
  list_timeout:
    description: Seconds that Open WebUI gives a back end to list its models. The list of all may take three more.
    type: int
    default: 3
  answer:
    description: Whether to ask a model for an answer.
    type: bool
    default: true
  model:
    description: The model to ask. By default the smallest one that a back end lists, of those that chat.
    type: str
    default: ""
  answer_timeout:
    description: Seconds that the answer may take, loading the model included.
    type: int
    default: 300
  tls_address:
    description: Where the proxy in front listens, as seen from the host.
    type: str
    default: 127.0.0.1
  tls_port:
    description: Port of the proxy in front. 0 means that there is none.
    type: int
    default: 0
  tls_certificate:
    description: The certificate that the proxy must show, PEM; of a chain the first.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Changes nothing either way.
  diff_mode:
    support: none
    description: There is nothing to show.
"""

EXAMPLES = r"""
- name: Prove that Open WebUI works
  ollama_fleet.stack.open_webui_check:
    email: admin@example.com
    password: "{{ vault_open_webui_admin_password }}"
    backends: [gpu1, gpu2]
"""

RETURN = r"""
proved:
  description: Whether everything was as it shall be.
  type: bool
  returned: always
version:
  description: Open WebUI's version, as it says.
  type: str
  returned: when it answers
backends:
  description: Each back end, in order.
  type: list
  elements: dict
  returned: when the administrator got in
  sample: [{"name": "gpu1", "state": "serving", "models": ["llama3.2:3b"], "words": "", "seconds": 0.1}]
down:
  description: Names of the back ends that do not answer.
  type: list
  elements: str
  returned: when the administrator got in
list_seconds:
  description: Seconds that the list of all models took.
  type: float
  returned: when the administrator got in
answer:
  description: What a model answered.
  type: dict
  returned: when one was asked
  sample: {"model": "llama3.2:3b", "words": "Paris.", "seconds": 1.2}
reason:
  description: What is not as it shall be, each as a sentence.
  type: str
  returned: failure
remedy:
  description: What to do about it.
  type: str
  returned: failure
"""

import base64
import http.client
import json
import os
import re
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.open_webui_api import (
    REFUSED,
    SECOND_FACTOR,
    TOO_MANY,
    Interface,
    SilentError,
    wait_until,
)

RELOAD_SECONDS = 10
OTHER = "another certificate"
# What a list of all may take beyond the time of the slowest back end.
SLACK = 3
NO_ADDRESS = "stranger"
QUESTION = "What is the capital of France? Answer in one sentence."
# They list their models beside the others, and answer no chat.
NO_CHAT = re.compile(r"embed|bge-|minilm|rerank", re.IGNORECASE)
# A back end that is not there, in the words of the HTTP client that Open WebUI uses.
UNREACHABLE = re.compile(r"connect call failed|timeout|timed out|name or service|no route|disconnected", re.IGNORECASE)
LOOK = "see docker logs open-webui, then run it again"
LOG_IN_REMEDY = (
    "the password in the vault counts at the first start only: if it was changed in the interface, write that one into "
    "the vault; if it was changed in the vault, change it in the interface too"
)
SIGN_UP_REMEDY = (
    "look for ENABLE_SIGNUP in open_webui_environment, and for what docker logs open-webui says of the admin"
)
BACKEND_REMEDY = (
    "check token, open_webui_ca_certificate and url in open_webui_backends, and that the gateway's "
    "ollama_gateway_allowed_sources names this host"
)


def state_of(status, answer, silent=""):
    """Return (state, words) of a back end, by what Open WebUI says of it: serving, refusing or down."""
    if status == 200:
        return "serving", ""
    words = answer.get("detail") if isinstance(answer, dict) else None
    words = str(words or silent or f"HTTP {status}")
    unreachable = UNREACHABLE.search(words) and "certificate" not in words.lower()
    answered = status in (400, 401, 403, 404, 500)
    return ("down" if unreachable or not answered else "refusing"), words


def smallest(models):
    """The name of the smallest model that chats, of entries {name, size}; nothing without one."""
    chatting = [model for model in models if not NO_CHAT.search(model["name"])]
    return min(chatting, key=lambda model: (model.get("size") or 0, model["name"]))["name"] if chatting else ""


def words_of_answer(answer):
    """What a model said, of an answer in OpenAI's form; nothing when there is none."""
    try:
        message = answer["choices"][0]["message"]
    except (KeyError, IndexError, TypeError):
        return ""
    return str(message.get("content") or message.get("reasoning_content") or message.get("reasoning") or "").strip()


class Check:
    """One look at Open WebUI. What is wrong is collected, so that one run says all of it."""

    def __init__(self, params):
        self.params = params
        self.interface = Interface(params["base_url"])
        self.report = {}
        self.problems = []

    def wrong(self, sentence, remedy):
        self.problems.append((sentence, remedy))

    def run(self):
        """Return the report; FleetError when something is not as it shall be."""
        try:
            self._doors()
            token = self._log_in()
            self._wrong_password()
            if token:
                models = self._backends(token)
                if self.params["answer"] and models:
                    self._answer(token, models)
        except SilentError as error:
            self.wrong(f"it does not answer ({error})", f"start it: docker start open-webui; {LOOK}")
        if self.params["tls_port"]:
            self._front()
        if self.problems:
            remedies = list(dict.fromkeys(remedy for _sentence, remedy in self.problems))
            sentences = "; ".join(sentence for sentence, _remedy in self.problems)
            raise FleetError(self.interface.what, sentences, "; ".join(remedies))
        return {**self.report, "proved": True}

    def _doors(self):
        _status, config = self.interface.ask("/api/config")
        config = config if isinstance(config, dict) else {}
        self.report["version"] = str(config.get("version", ""))
        if config.get("onboarding"):
            self.wrong("the first stranger becomes its administrator", SIGN_UP_REMEDY)
            return
        if (config.get("features") or {}).get("enable_signup", True):
            self.wrong("it offers strangers to sign up", SIGN_UP_REMEDY)
        stranger = {"name": "Stranger", "email": NO_ADDRESS, "password": base64.b64encode(os.urandom(18)).decode()}
        status, _answer = self.interface.ask("/api/v1/auths/signup", body=stranger)
        if status != 403:
            self.wrong(f"it answers a stranger's sign-up with HTTP {status} and not with 403", SIGN_UP_REMEDY)

    def _log_in(self):
        email = self.params["email"]
        status, answer = self.interface.sign_in(email, self.params["password"])
        if status == 200 and answer.get("token") and answer.get("role") == "admin":
            return str(answer["token"])
        if status == 200 and not answer.get("token"):
            self.wrong(
                f"{email} {SECOND_FACTOR}",
                "give the role an administrator of its own without a second factor (open_webui_admin_email)",
            )
        elif status == 200:
            self.wrong(f"{email} logs in as {answer.get('role')}, not as administrator", LOOK)
        elif status == TOO_MANY:
            self.wrong("it has had too many log-ins", f"wait three minutes; {LOOK}")
        else:
            remedy = LOG_IN_REMEDY if status in REFUSED else LOOK
            self.wrong(f"{email} cannot log in as administrator (HTTP {status})", remedy)
        return None

    def _wrong_password(self):
        guess = base64.b64encode(os.urandom(18)).decode()
        status, _answer = self.interface.sign_in(self.params["email"], guess, patient=False)
        if status not in (*REFUSED, TOO_MANY):
            self.wrong(f"it answers a wrong password with HTTP {status}", LOOK)

    def _backends(self, token):
        """Look at each back end and at the list of all; return the models that are served."""
        names = self.params["backends"]
        # At the same time: each that is down takes the whole time.
        with ThreadPoolExecutor(max_workers=max(1, min(len(names), 16))) as together:
            looks = list(together.map(lambda index: self._backend(token, index), range(len(names))))
        found = [look for look, _models in looks]
        models = [model for _look, served in looks for model in served]
        self.report["backends"] = found
        self.report["down"] = [one["name"] for one in found if one["state"] == "down"]
        for one in found:
            if one["state"] == "refusing":
                self.wrong(f"{one['name']} refuses: {one['words']}", BACKEND_REMEDY)
        if found and all(one["state"] == "down" for one in found):
            self.wrong(f"no back end answers: {', '.join(self.report['down'])}", BACKEND_REMEDY)
        self._list(token, models)
        return models

    def _backend(self, token, index):
        """Return (report, models) of one back end."""
        started, status, answer, silent = time.monotonic(), 0, None, ""
        try:
            limit = self.params["list_timeout"] + SLACK
            status, answer = self.interface.ask(f"/ollama/api/tags/{index}", token, timeout=limit)
        except SilentError as error:
            silent = str(error)
        state, words = state_of(status, answer, silent)
        served = (answer.get("models") or []) if state == "serving" and isinstance(answer, dict) else []
        seconds = round(time.monotonic() - started, 2)
        names = sorted(model["name"] for model in served)
        name = self.params["backends"][index]
        return {"name": name, "state": state, "models": names, "words": words, "seconds": seconds}, served

    def _list(self, token, models):
        started = time.monotonic()
        status, answer = self.interface.ask("/api/models", token)
        self.report["list_seconds"] = round(time.monotonic() - started, 2)
        listed = {model.get("id") for model in (answer.get("data") or [])} if isinstance(answer, dict) else set()
        missing = sorted({model["name"] for model in models} - listed)
        if status != 200 or missing:
            self.wrong(f"its list of models (HTTP {status}) lacks {', '.join(missing) or 'everything'}", LOOK)
        limit = self.params["list_timeout"] + SLACK
        if self.report["list_seconds"] > limit:
            self.wrong(
                f"the list of models takes {self.report['list_seconds']} s, and everybody waits for it",
                "lower open_webui_model_list_timeout, or take the dead back end out of open_webui_backends",
            )

    def _answer(self, token, models):
        model = self.params["model"] or smallest(models)
        if not model:
            return
        question = {"role": "user", "content": QUESTION}
        body = {"model": model, "stream": False, "max_tokens": 64, "messages": [question]}
        started, words = time.monotonic(), ""
        try:
            status, answer = self.interface.ask("/api/chat/completions", token, body, self.params["answer_timeout"])
            words = words_of_answer(answer) if status == 200 else ""
            said = answer.get("detail") or answer.get("error") if isinstance(answer, dict) else None
            why = f"HTTP {status}" + (f", {said}" if said and not words else "")
        except SilentError as error:
            why = str(error)
        seconds = round(time.monotonic() - started, 2)
        self.report["answer"] = {"model": model, "words": words, "seconds": seconds}
        if not words:
            self.wrong(
                f"{model} gives no answer within {self.params['answer_timeout']} s ({why})",
                f"see what its host's Ollama says (docker logs ollama); {LOOK}",
            )

    def _front(self):
        address, port = self.params["tls_address"], self.params["tls_port"]
        remedy = "see journalctl -u nginx and /var/log/nginx/error.log, then run it again"
        try:
            for sentence in Front(address, port).problems(self.params):
                self.wrong(f"its proxy on port {port} {sentence}", remedy)
        except (OSError, http.client.HTTPException) as error:
            self.wrong(f"its proxy on port {port} does not answer ({error})", remedy)


class Front:
    """The proxy in front. Its certificate is compared, not trusted: on loopback none would fit."""

    def __init__(self, address, port):
        self.address, self.port = address, port
        self.trust = ssl.create_default_context()
        self.trust.check_hostname = False
        self.trust.verify_mode = ssl.CERT_NONE

    def problems(self, params):
        """Yield what is not as it shall be, as the end of a sentence."""
        if wait_until(lambda: self._why_other(params["tls_certificate"]), RELOAD_SECONDS) == OTHER:
            yield "shows another certificate than the one that it was given"
        with closing(self._connect()) as connection:
            body = json.dumps({"email": params["email"], "password": params["password"]})
            connection.request("POST", "/api/v1/auths/signin", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            cookies = answer.headers.get_all("Set-Cookie") or []
            if answer.status != 200:
                yield f"answers a log-in with HTTP {answer.status}"
            elif not cookies or not all("; secure" in cookie.lower() for cookie in cookies):
                yield "hands out cookies that a browser would send without TLS as well"
        with closing(self._connect()) as connection:
            key = base64.b64encode(os.urandom(16)).decode()
            upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": key}
            upgrade["Sec-WebSocket-Version"] = "13"
            connection.request("GET", "/ws/socket.io/?EIO=4&transport=websocket", headers=upgrade)
            status = connection.getresponse().status
            if status != 101:
                yield f"does not hand on WebSockets (HTTP {status})"

    def _why_other(self, certificate):
        """Whether it shows another certificate. A web server that was told to reload shows its old one for a moment."""
        try:
            with closing(self._connect()) as connection:
                return OTHER if certificate and shown(connection) != first_of(certificate) else ""
        except OSError as error:
            return str(error)

    def _connect(self):
        connection = http.client.HTTPSConnection(self.address, self.port, timeout=30, context=self.trust)
        connection.connect()
        return connection


def shown(connection):
    """The certificate that the other side shows, DER."""
    return connection.sock.getpeercert(binary_form=True) or b""


def first_of(pem):
    """The first certificate of a PEM text, DER."""
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(pem.strip().partition(end)[0] + end)


def main():
    module = AnsibleModule(
        argument_spec={
            "base_url": {"type": "str", "default": "http://127.0.0.1:3000"},
            "email": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "backends": {"type": "list", "elements": "str", "default": []},
            "list_timeout": {"type": "int", "default": 3},
            "answer": {"type": "bool", "default": True},
            "model": {"type": "str", "default": ""},
            "answer_timeout": {"type": "int", "default": 300},
            "tls_address": {"type": "str", "default": "127.0.0.1"},
            "tls_port": {"type": "int", "default": 0},
            "tls_certificate": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    check = Check(module.params)
    try:
        report = check.run()
    except FleetError as problem:
        module.fail_json(**{**check.report, "proved": False, **problem.as_result()})
    module.exit_json(changed=False, **report)


if __name__ == "__main__":
    main()
