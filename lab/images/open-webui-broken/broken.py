"""Open WebUI as an upgrade must not find it: it spoils the database, which no older version then runs over."""

import os
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

# Imported, it migrates. By name, as it is in the image alone.
real = import_module("open_webui.main").app
engine = import_module("open_webui.internal.db").engine

BROKEN = os.environ.get("BROKEN", "log-in")
PATHS = {"log-in": "/api/v1/auths/signin", "health": "/health"}

with engine.begin() as connection:
    connection.exec_driver_sql("ALTER TABLE auth RENAME TO auth_of_the_broken_version")

if BROKEN == "exit":
    sys.exit("broken: this version goes down after its migrations")


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Answer as the real one does, but for one path."""
    if scope["type"] != "http" or scope["path"] != PATHS[BROKEN]:
        await real(scope, receive, send)
        return
    print(f"broken: {scope['path']} cannot be answered", flush=True)
    await send({"type": "http.response.start", "status": 500, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'{"detail": "no such table: auth"}'})
