# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""The ways in which a host is read: files, programs, and HTTP on sockets. Nothing here writes or waits for ever.

HTTP is spoken by hand: importing http.client costs more processor time than all that it would be used for.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess

PATHS = ":/usr/sbin:/sbin:/usr/local/bin:/usr/lib/wsl/lib"


def run(command, timeout=5):
    """Return a program's output, or None where it is not there, fails or takes more than ``timeout`` seconds."""
    environment = dict(os.environ, LC_ALL="C", PATH=os.environ.get("PATH", "") + PATHS)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    except OSError:
        return None
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        # A program that hangs in a driver cannot be killed: it is left behind, not waited for.
        try:
            process.communicate(timeout=0.2)
        except subprocess.TimeoutExpired:
            process.stdout.close()
        return None
    return output.decode("utf-8", "replace") if process.returncode == 0 else None


def fetch(url):
    """Return the JSON at a URL, or None where nothing answers within two seconds. Proxies are not asked."""
    scheme, _, rest = url.partition("://")
    if scheme != "http":
        return fetch_encrypted(url)
    host, slash, path = rest.partition("/")
    name, colon, port = host.rpartition(":")
    address = (name if colon else host).strip("[]"), int(port) if colon and port.isdigit() else 80
    try:
        return json_of(socket.create_connection(address, timeout=2), host, slash + path or "/")
    except OSError:
        return None


def fetch_encrypted(url):
    import http.client  # noqa: PLC0415 - slow, and hardly ever needed
    import urllib.request  # noqa: PLC0415

    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as answer:
            return json.load(answer)
    except (OSError, ValueError, http.client.HTTPException):
        return None


def fetch_from_socket(path, url):
    """Return the JSON that a Unix socket answers, or None where nothing does within five seconds."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5)
    try:
        connection.connect(path)
        return json_of(connection, "localhost", url)
    except OSError:
        connection.close()
        return None


def json_of(connection, host, path):
    """Return the JSON that a connection answers, or None. HTTP/1.0: whoever answers closes, and sends no chunks."""
    with connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n".encode())
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split()
    if len(status) < 2 or status[1] != b"200":
        return None
    try:
        return json.loads(body)
    except ValueError:
        return None


def read(path):
    """Return a text file without its last line end, or None."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return None


def read_bytes(path, size=-1):
    """Return a file's content, or its first ``size`` bytes, or None."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return None
