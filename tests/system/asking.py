"""HTTP requests from one of the lab's hosts, which have Python and no curl."""

import json
from typing import NamedTuple

from tests.system.conftest import Session

# Ends with status 0 where the TLS connection does not come about, as curl does.
PROGRAM = """python3 - <<'END'
import json, ssl, sys
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

asked = json.loads({asked!r})
trust = None
if asked["authority"]:
    trust = ssl.create_default_context(cadata=asked["authority"])
body = asked["body"] and asked["body"].encode()
request = Request(asked["url"], data=body, headers=asked["headers"], method=asked["method"])
try:
    answer = urlopen(request, timeout=30, context=trust)
except HTTPError as error:
    answer = error
except URLError as error:
    if not isinstance(error.reason, ssl.SSLError):
        raise
    sys.exit(print(json.dumps([0, str(error.reason)])))
print(json.dumps([answer.status, answer.read().decode()]))
END
"""


class Answer(NamedTuple):
    """status: of HTTP, 0 when there was no TLS connection."""

    status: int
    text: str


def ask(
    lab: Session,
    host: str,
    url: str,
    *,
    body: object = None,
    headers: dict[str, str] | None = None,
    authority: str = "",
    method: str | None = None,
) -> Answer:
    """Ask from a host of the lab; with a BODY it is a POST of JSON, if no METHOD says otherwise.

    authority: PEM of what it trusts, for https
    """
    asked = {
        "url": url,
        "body": json.dumps(body) if body is not None else None,
        "headers": headers or {},
        "authority": authority,
        "method": method,
    }
    return Answer(*json.loads(lab.ssh(host, PROGRAM.format(asked=json.dumps(asked)))))
