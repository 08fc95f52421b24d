# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Turns what a failed task says into why it failed and what to do about it."""

from __future__ import annotations

import re

_LONGEST = 400
_NOISE = re.compile(r"^(Task failed: |Action failed: |Module failed: |Failed to connect to the host via ssh: )+")
_CREDENTIALS = re.compile(r"//[^/@\s]+@")
_EMPTY_WORDS = re.compile(r"non-zero return code\.?$|MODULE FAILURE|Module result deserialization failed")
_REMEDY = re.compile(r"\bremedy:\s*", re.IGNORECASE)

# Found in what the task says -> why, remedy. The first that fits wins; {names} are the pattern's groups.
_KNOWN = [
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for \S+ has changed",
        "its SSH host key is another one than known_hosts says",
        "if the host was set up anew, compare the key on its console, drop the old one with "
        "`ssh-keygen -R ADDRESS -f KNOWN_HOSTS` and enter the new one; if it was not, somebody else may be answering",
    ),
    (
        r"Host key verification failed|No \S+ host key is known for",
        "its SSH host key is unknown here",
        "compare the key's fingerprint on the host's console, then enter it into known_hosts (ssh-keyscan prints it)",
    ),
    (
        r"Load key \"(?P<key>[^\"]+)\": (?P<reason>[^\r\n]+)",
        "the private key {key} cannot be used: {reason}",
        "correct ansible_ssh_private_key_file, or the key file itself (mode 0600)",
    ),
    (
        r"[Ii]dentity file (?P<key>\S+) not accessible|no such identity: (?P<key2>\S+): No such file",
        "the private key {key}{key2} is not there",
        "correct ansible_ssh_private_key_file",
    ),
    (
        r"(?P<login>\S+@\S+): Permission denied",
        "SSH refuses {login}: wrong user or wrong key",
        "check ansible_user and ansible_ssh_private_key_file, and that the key is in that user's authorized_keys there",
    ),
    (
        r"connect to host (?P<address>\S+) port (?P<port>\d+): Connection refused",
        "nothing listens at {address} port {port}",
        "start sshd on the host, or correct ansible_host and ansible_port",
    ),
    (
        r"connect to host (?P<address>\S+) port (?P<port>\d+): (?:Connection|Operation) timed out",
        "no answer from {address} port {port}",
        "check that the host is up and no firewall is between, or correct ansible_host and ansible_port",
    ),
    (
        r"connect to host (?P<address>\S+) port (?P<port>\d+): (?:No route to host|Network is unreachable)",
        "there is no route to {address}",
        "check that the host is up and the network between, or correct ansible_host",
    ),
    (
        r"Could not resolve hostname (?P<address>[^\s:]+)",
        "the name {address} has no address",
        "correct ansible_host, or the name service",
    ),
    (
        r"Connection (?:closed|reset) by|kex_exchange_identification|Broken pipe|Shared connection to \S+ closed",
        "the SSH connection was cut",
        "check the network and the host's sshd log (MaxStartups, fail2ban), then run again",
    ),
    (
        r"[Mm]issing \w+ password|a password is required|Incorrect \w+ password|no password was provided"
        r"|Timed? ?out waiting for become|a terminal is required to read the password",
        "sudo asks for a password",
        "allow ansible_user to use sudo without one (NOPASSWD in /etc/sudoers.d), or give ansible_become_password "
        "from a vault",
    ),
    (
        r"is not in the sudoers file|may not run sudo",
        "this user may not use sudo",
        "allow ansible_user to use sudo (/etc/sudoers.d), or log in as another user",
    ),
    (
        r"sudo: (?:command )?not found|Unable to find \w+ executable|sudo: No such file",
        "there is no sudo on the host",
        "install sudo there, or log in as root (ansible_user: root)",
    ),
    (
        r"No space left on device|not enough free space",
        "a disk of the host is full",
        "free space there (df -h shows where), then run again",
    ),
    (
        r"Read-only file system",
        "a file system of the host is read-only",
        "see the host's kernel log (dmesg) for disk errors",
    ),
    (
        r"python3?: (?:not found|No such file)|interpreter was not found|No python interpreters found",
        "there is no Python on the host",
        "install python3 there, or set ansible_python_interpreter",
    ),
    (
        r"Could not get lock (?P<lock>/\S+?)\.?(?:\s|$)|is another process using it",
        "another program is using apt",
        "wait until it has ended (often unattended-upgrades), then run again",
    ),
    (
        r"(?:NO_PUBKEY|EXPKEYSIG|is not signed)[^\r\n]*",
        "apt does not trust a repository: {0}",
        "check the repository's key and the host's clock",
    ),
    (
        r"No package matching '(?P<package>[^']+)' is available|Unable to locate package (?P<package2>\S+)"
        r"|Version '(?P<version>[^']+)' for '(?P<package3>[^']+)' was not found",
        "apt knows no package {package}{package2}{package3} {version}",
        "check the name and version, and the host's apt sources (apt-cache policy)",
    ),
    (
        r"(?:Failed to fetch|Failed to update apt cache|Unable to fetch some archives)[^\r\n]*",
        "apt cannot fetch: {0}",
        "check the host's apt sources, proxy and DNS: `sudo apt-get update` on the host says more",
    ),
    (
        r"<urlopen error (?:\[Errno -?\d+\] )?(?P<reason>[^>]+)>",
        "the host cannot download what it needs: {reason}",
        "check the host's network, proxy and DNS, or name a mirror that it can reach",
    ),
]
_COMPILED = [(re.compile(pattern), why, remedy) for pattern, why, remedy in _KNOWN]


def explain(result, host="the host", own_words=False):
    """Return (why, remedy) of a failed or unreachable task's result.

    own_words: the message is one of this project's: the cause, a full stop, and what to do about it
    """
    if "censored" in result:
        return "its output is hidden, since secrets may be in it", "check the variables that this task is given"
    items = [item for item in result.get("results") or () if isinstance(item, dict) and item.get("failed")]
    if items:
        found = dict.fromkeys(explain(item, host, own_words) for item in items)
        whys, remedies = zip(*found, strict=True)
        return "; ".join(dict.fromkeys(whys)), "; ".join(dict.fromkeys(remedies))
    text = _NOISE.sub("", _said(result)).strip().removeprefix(f"{host}: ")
    return (
        _with_remedy(result, text)
        or (_own_words(text) if own_words else None)
        or _known(result, text)
        or (_short(text), f"see the task's output above; `--limit {host} -vvv` shows more of it")
    )


def _with_remedy(result, text):
    """What comes with a remedy of its own."""
    if result.get("remedy"):
        parts = [str(result[part]) for part in ("what", "reason") if result.get(part)]
        return _clean(": ".join(parts) or _before_remedy(text)), _clean(str(result["remedy"]))
    remedies = len(_REMEDY.findall(text))
    if remedies > 1 or (remedies and "\n" in text):
        # A list of problems stays as it is.
        return _clean(text), ""
    return (_clean(_before_remedy(text)), _clean(_REMEDY.split(text)[-1])) if remedies else None


def _own_words(text):
    why, _, remedy = _clean(" ".join(text.split())).partition(". ")
    return why.rstrip("."), remedy.rstrip(".")


def _known(result, text):
    everything = "\n".join([text, *(str(result.get(key, "")) for key in ("stderr", "module_stderr", "stdout"))])
    for pattern, why, remedy in _COMPILED:
        found = pattern.search(everything)
        if found:
            words = {name: (part or "").strip() for name, part in found.groupdict().items()}
            return _clean(why.format(found.group(0), **words)).strip(" :"), remedy
    return None


def _said(result):
    """The message of a result, or the program's own words where they say more."""
    text = str(result.get("msg") or "")
    if text and not _EMPTY_WORDS.search(text):
        return text
    code = f" (exit code {result['rc']})" if "rc" in result else ""
    if result.get("module_stderr"):
        return _short(str(result["module_stderr"])) + code
    spoken = str(result.get("stderr") or result.get("stdout") or "").strip()
    return (spoken.splitlines()[-1] if spoken else text or "it gave no reason") + code


def _before_remedy(text):
    return _REMEDY.split(text)[0].strip().rstrip(".;,")


def _clean(text):
    return _CREDENTIALS.sub("//<secret>@", text)


def _short(text):
    """The first lines of a text, or the last of a traceback."""
    lines = [line.strip() for line in _clean(text).splitlines() if line.strip()]
    if any(line.startswith("Traceback (most recent") for line in lines):
        lines = lines[-1:]
    words = "; ".join(lines[:3])
    return words if len(words) <= _LONGEST else words[: _LONGEST - 3] + "..."
