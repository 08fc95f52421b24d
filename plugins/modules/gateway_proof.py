#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Proves what the gateway in front of Ollama lets in and what it refuses."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_proof
short_description: Prove whom the gateway in front of Ollama lets in
version_added: "0.3.0"
author: The ollama-fleet authors
description:
  - Knocks at the gateway over TLS, without a token, with a wrong one, with every token that shall count and every one
    that shall not, and where no client may go. Compares the certificate that is shown with the one that it should be.
  - A web server that was told to reload answers with its old settings for a moment, so a wrong answer is asked again
    until O(timeout) is over.
  - No token shows in the result, which names clients.
options:
  address:
    description: Address of the gateway, as seen from the host that the module runs on.
    type: str
    default: 127.0.0.1
  port:
    description: Port of the gateway.
    type: int
    default: 11435
  certificate:
    description: The certificate that it must show, PEM; of a chain the first. Empty does not look at it.
    type: str
    default: ""
  accepted:
    description: Tokens that must count, by the client's name.
    type: dict
    default: {}
  refused:
    description: Tokens that must not count, by the client's name.
    type: dict
    default: {}
  timeout:
    description: Seconds until the answers must be right.
    type: int
    default: 10
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: none
    description: There is nothing to show.
"""

EXAMPLES = r"""
- name: Prove that the gateway knows its clients, and an old token no more
  ollama_fleet.stack.gateway_proof:
    certificate: "{{ ollama_gateway_certificate }}"
    accepted:
      open_webui: "{{ vault_ollama_gateway_tokens.open_webui }}"
    refused:
      open_webui: "{{ vault_rotation.old.vault_ollama_gateway_tokens.open_webui }}"
  no_log: true
"""

RETURN = r"""
proved:
  description: Whether everything was as it shall be.
  type: bool
  returned: success
reason:
  description: What was not as it shall be, each as a sentence.
  type: str
  returned: failure
remedy:
  description: What to do about it.
  type: str
  returned: failure
"""

import http.client
import ssl
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError

PAUSE = 0.5
NO_ANSWER = 0
READ = ("GET", "/api/version")
# Where no client may go, whatever its rights: this is no name of a layer.
NOWHERE = ("POST", "/api/blobs/nowhere")
UNKNOWN = "this-token-is-known-to-nobody-at-all"


class Gateway:
    """One gateway. The certificate is compared, not trusted: on loopback none would fit."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.trust = ssl.create_default_context()
        self.trust.check_hostname = False
        self.trust.verify_mode = ssl.CERT_NONE

    def status(self, request: tuple[str, str], token: str | None) -> int:
        """Return the HTTP status of an answer, 0 when there is none."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        connection = http.client.HTTPSConnection(self.address, self.port, timeout=10, context=self.trust)
        try:
            connection.request(*request, headers=headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return NO_ANSWER
        finally:
            connection.close()

    def certificate(self) -> bytes:
        """Return the certificate that is shown, DER; nothing when there is no answer."""
        connection = http.client.HTTPSConnection(self.address, self.port, timeout=10, context=self.trust)
        try:
            connection.connect()
            return connection.sock.getpeercert(binary_form=True) or b""
        except OSError:
            return b""
        finally:
            connection.close()


def first_of(pem: str) -> bytes:
    """Return the first certificate of a PEM text, DER."""
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(pem.strip().partition(end)[0] + end)


def words(status: int) -> str:
    return f"answers {status}" if status else "does not answer"


def problems(gateway, certificate, accepted, refused):
    """Return what is not as it shall be, as sentences that name clients and no token."""
    found = []
    knocks = [
        ("no token", READ, None, 401),
        ("an unknown token", READ, UNKNOWN, 401),
        *((f"the token of {name}", READ, token, 200) for name, token in sorted(accepted.items())),
        *((f"the old token of {name}", READ, token, 401) for name, token in sorted(refused.items())),
        *(
            (f"the token of {name}, where no client may go,", NOWHERE, token, 403)
            for name, token in sorted(accepted.items())[:1]
        ),
    ]
    for who, request, token, expected in knocks:
        status = gateway.status(request, token)
        if status != expected:
            found.append(f"to {who} it should answer {expected} and {words(status)}")
            if status == NO_ANSWER:
                return found
    if certificate and gateway.certificate() != first_of(certificate):
        found.append("it shows another certificate than the one that it was given")
    return found


def prove(params: dict) -> dict:
    """Return the module's result; FleetError with what is wrong once the time is over."""
    gateway = Gateway(params["address"], params["port"])
    end = time.monotonic() + params["timeout"]
    while True:
        found = problems(gateway, params["certificate"], params["accepted"], params["refused"])
        if not found:
            return {"changed": False, "proved": True}
        if time.monotonic() >= end:
            raise FleetError(
                f"the gateway on port {params['port']}",
                "; ".join(found),
                "see journalctl -u nginx and /var/log/nginx/error.log; 502 means that Ollama does not answer behind it",
            )
        time.sleep(PAUSE)


def main() -> None:
    module = AnsibleModule(
        {
            "address": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int", "default": 11435},
            "certificate": {"type": "str", "default": ""},
            "accepted": {"type": "dict", "default": {}, "no_log": True},
            "refused": {"type": "dict", "default": {}, "no_log": True},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    try:
        result = prove(module.params)
    except FleetError as problem:
        module.fail_json(**problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
