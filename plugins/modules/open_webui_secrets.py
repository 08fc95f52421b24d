#!/usr/bin/python
# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Has Open WebUI take new secrets, and proves that the old ones are refused."""

from __future__ import annotations

DOCUMENTATION = r"""
module: open_webui_secrets
short_description: Change Open WebUI's administrator password, prove old secrets refused
version_added: "0.3.0"
author: The ollama-fleet authors
description:
  - Open WebUI takes the administrator's password from its environment only while it has no user at all. Afterwards its
    own API changes it, for who knows the old one. This module does that when the new one does not log in yet.
  - Then proves that the new one logs in and the old one does not.
  - With O(secret_key) it proves which key signs sessions. A session that the server gave out must carry that key's
    signature; the same session signed with O(old_secret_key) must be refused.
  - Logs in four times at most; Open WebUI itself allows fifteen in three minutes for one address.
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
    description: The password that shall count.
    type: str
    required: true
  old_password:
    description: The password that shall not count any more.
    type: str
  secret_key:
    description: The key that shall sign sessions.
    type: str
  old_secret_key:
    description: The key whose sessions shall be refused.
    type: str
  required:
    description: Whether an Open WebUI that does not answer is a failure. If not, RV(answered) says so.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Logs in to see whether the password would be changed, and proves nothing.
  diff_mode:
    support: none
    description: There is nothing that may be shown.
"""

EXAMPLES = r"""
- name: Have a new administrator's password
  ollama_fleet.stack.open_webui_secrets:
    email: admin@example.com
    password: "{{ vault_open_webui_admin_password }}"
    old_password: "{{ vault_rotation.old.vault_open_webui_admin_password }}"
  no_log: true
"""

RETURN = r"""
answered:
  description: Whether Open WebUI answered.
  type: bool
  returned: success
proved:
  description: Whether the new secrets count and the old ones do not.
  type: bool
  returned: success
reason:
  description: Why it did not work.
  type: str
  returned: failure
remedy:
  description: What to do about it.
  type: str
  returned: failure
"""

import base64
import hashlib
import hmac

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.ollama_fleet.stack.plugins.module_utils.errors import FleetError
from ansible_collections.ollama_fleet.stack.plugins.module_utils.open_webui_api import Interface, SilentError


def signature(token: str, key: str) -> str:
    """Return the signature that a key makes of a session's token (JSON Web Signature, HS256: RFC 7515, 7518)."""
    signed = token.rpartition(".")[0].encode()
    digest = hmac.new(key.encode(), signed, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def signed_with(token: str, key: str) -> str:
    """Return the same session, signed with another key."""
    return f"{token.rpartition('.')[0]}.{signature(token, key)}"


def change_password(interface, params):
    """Have the new password count, which does not yet; return a session of it."""
    what = interface.what
    old = params["old_password"]
    session = interface.log_in(params["email"], old) if old else None
    if not session:
        raise FleetError(
            what,
            f"{params['email']} logs in with neither the new password nor the old one",
            "somebody changed it in the interface: set it there to the vault's "
            "(./inv secrets.show vault_open_webui_admin_password)",
        )
    body = {"password": old, "new_password": params["password"]}
    status, answer = interface.ask("/api/v1/auths/update/password", session, body)
    session = interface.log_in(params["email"], params["password"]) if status == 200 else None
    if not session:
        words = answer.get("detail") if isinstance(answer, dict) else None
        # It may quote what it was given.
        safe = "" if not isinstance(words, str) or old in words or params["password"] in words else f" ({words})"
        raise FleetError(what, f"it did not take the new password: HTTP {status}{safe}", "see docker logs open-webui")
    return session


def prove_key(interface, session, params):
    """FleetError unless the new key signs sessions and the old one's are refused."""
    what = interface.what
    restart = "its container did not get the new key: ./inv up --full --tags open_webui"
    if not hmac.compare_digest(session.rpartition(".")[2], signature(session, params["secret_key"])):
        raise FleetError(what, "it signs sessions with another key than the vault's", restart)
    if interface.ask("/api/v1/auths/", session)[0] != 200:
        raise FleetError(what, "it refuses a session that it has just given out", "see docker logs open-webui")
    old = params["old_secret_key"]
    if old and old != params["secret_key"] and interface.ask("/api/v1/auths/", signed_with(session, old))[0] == 200:
        raise FleetError(what, "it still takes sessions of the old key", restart)


def ensure(params, check_mode):
    """Return the module's result; FleetError when the new secrets do not count or the old ones do."""
    interface = Interface(params["base_url"])
    try:
        session = interface.log_in(params["email"], params["password"])
        changed = session is None
        if check_mode:
            return {"changed": changed, "answered": True, "proved": False}
        session = session or change_password(interface, params)
        old = params["old_password"]
        if old and old != params["password"] and interface.log_in(params["email"], old):
            raise FleetError(interface.what, "the old password still logs in", "see docker logs open-webui")
        if params["secret_key"]:
            prove_key(interface, session, params)
    except SilentError as error:
        if not params["required"]:
            return {"changed": False, "answered": False, "proved": False}
        raise FleetError(
            interface.what,
            f"it does not answer ({error})",
            "start it: docker start open-webui; its log: docker logs open-webui. Then run it again",
        ) from None
    return {"changed": changed, "answered": True, "proved": True}


def main() -> None:
    module = AnsibleModule(
        {
            "base_url": {"type": "str", "default": "http://127.0.0.1:3000"},
            "email": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "old_password": {"type": "str", "no_log": True},
            "secret_key": {"type": "str", "no_log": True},
            "old_secret_key": {"type": "str", "no_log": True},
            "required": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    try:
        result = ensure(module.params, module.check_mode)
    except FleetError as problem:
        module.fail_json(**problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
