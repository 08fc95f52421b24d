"""Changes the secrets of a fleet that runs, and proves that the old ones are worth nothing before it forgets them.

A change has up to three steps, each one write of the vault and one run of playbooks/secrets_rotate.yml:

    widen   the old ones are used, the new ones count already
    switch  the new ones are used, the old ones still count
    narrow  the new ones are used, the old ones are refused

so that hosts may be reached in any order and nobody is locked out in between. What cannot count twice (the
administrator's password, the key that signs sessions) changes in the step "switch". The vault itself holds the journal,
`vault_rotation`, with both values and the step; a run that was cut is taken up from there by the next.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ollama_fleet import secrets
from ollama_fleet.authority import Pair, flaw_of_host, make_authority
from ollama_fleet.errors import FleetError
from ollama_fleet.secrets import (
    ADMIN_PASSWORD,
    CA_CERTIFICATE,
    CA_KEY,
    CERTIFICATES,
    GATEWAY_CLIENTS,
    GATEWAY_TOKENS,
    SECRET_KEY,
)

JOURNAL = "vault_rotation"
# A variable of the role ollama_gateway: tokens that count as another one. It stands in the vault while both are in use.
TOKEN_ALIASES = "ollama_gateway_token_aliases"  # noqa: S105 - the variable's name

PASSWORD, KEY, TOKENS, HOST_CERTIFICATES, AUTHORITY = (
    "admin-password",
    "secret-key",
    "tokens",
    "certificates",
    "authority",
)
WIDEN, SWITCH, NARROW = "widen", "switch", "narrow"
STEPS = {
    WIDEN: "make the new ones count beside the old ones",
    SWITCH: "use the new ones; the old ones still count where people need time",
    NARROW: "refuse the old ones",
}

Values = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """What a person wants changed.

    only:    names as of Rotation, or "tokens" for those of all clients; none means all
    at_once: refuse the old tokens without waiting for the new ones to be handed out, as after a leak
    """

    only: tuple[str, ...] = ()
    at_once: bool = False


@dataclass(frozen=True)
class Rotation:
    """A change of secrets, as the vault's journal holds it.

    names:    what is changed: admin-password, secret-key, token:CLIENT, certificates, authority
    step:     the one that the vault is laid out for: widen, switch or narrow
    old, new: {variable of the vault: value}; of the mapping variables only the parts that change
    pause:    stop before the old ones are refused, so that new tokens can be handed out
    applied:  the step was brought to all hosts, and the pause is on
    """

    names: tuple[str, ...]
    step: str
    old: Values
    new: Values
    pause: bool = False
    applied: bool = False

    def to_journal(self) -> Values:
        """Return what the vault holds of it."""
        journal = {name: deepcopy(getattr(self, name)) for name in ("step", "pause", "applied", "old", "new")}
        return {"names": list(self.names), **journal}

    @property
    def overlaps(self) -> bool:
        """Whether something changes that can count twice for a while."""
        return any(name == AUTHORITY or name.startswith("token:") for name in self.names)

    @property
    def outsiders(self) -> list[str]:
        """The clients whose new tokens people have to hand out, because they are none of the fleet's own."""
        clients = [name.removeprefix("token:") for name in self.names if name.startswith("token:")]
        return [client for client in clients if client not in GATEWAY_CLIENTS]


def rotate(
    inventory: Path,
    wish: Wish,
    apply: Callable[[str], int],
    say: Callable[[str], None],
    agree: Callable[[str], bool],
) -> int:
    """Change secrets, or finish the change that an earlier run began. Returns the exit code of the last playbook run.

    apply: brings the vault as it stands to the hosts and proves it, for one step; returns Ansible's exit code
    say:   gets a line for the person now and then, never a value
    agree: asked once, with what it costs people, before anything is written
    Raises FleetError with nothing changed, or with both old and new in the vault.
    """
    hosts = secrets.addresses(inventory)
    with secrets.sole_writer(inventory):
        content = secrets.read(inventory)
        rotation = journal_of(content)
        if rotation:
            refuse_another(rotation, wish.only)
            say(f"going on with the rotation of {', '.join(rotation.names)}, at the step '{rotation.step}'")
        else:
            rotation = begin(content, wish, hosts)
            if not agree("\n".join(costs(rotation))):
                return 1
            _write(inventory, content, rotation, hosts)
        while True:
            if not rotation.applied:
                say(f"{rotation.step}: {STEPS[rotation.step]}")
                if code := apply(rotation.step):
                    say(words_of_failure(rotation))
                    return code
                if rotation.pause and next_step(rotation) == NARROW:
                    _write(inventory, content, replace(rotation, applied=True), hosts)
                    say(words_of_pause(rotation))
                    return 0
            following = next_step(rotation)
            if following is None:
                break
            rotation = replace(rotation, step=following, applied=False)
            _write(inventory, content, rotation, hosts)
        forget(content)
        secrets.write(inventory, content)
    say(f"done: {', '.join(rotation.names)}. {words_of_end(rotation)}")
    return 0


def _write(inventory: Path, content: Values, rotation: Rotation, hosts: Mapping[str, str]) -> None:
    lay_out(content, rotation)
    certify(content, rotation, hosts)
    secrets.write(inventory, content)


def refuse_another(rotation: Rotation, only: Iterable[str]) -> None:
    """Raise FleetError when something else is asked for than what has begun."""
    begun = {*rotation.names, *(TOKENS for name in rotation.names if name.startswith("token:"))}
    if other := [name for name in only if name not in begun]:
        raise FleetError(
            f"rotation of {', '.join(other)}",
            f"one of {', '.join(rotation.names)} has begun and not ended",
            "finish that one first: ./inv secrets.rotate",
        )


def choose(content: Values, only: Iterable[str]) -> tuple[str, ...]:
    """Return the names to change, in order and with clients named; all of them when none are given."""
    clients = [f"token:{client}" for client in sorted(content.get(GATEWAY_TOKENS) or {})]
    # The authority's change brings every host a certificate of the new one.
    everything = [PASSWORD, KEY, *clients, AUTHORITY]
    known = [PASSWORD, KEY, TOKENS, *clients, HOST_CERTIFICATES, AUTHORITY]
    wanted = list(only) or everything
    for name in wanted:
        if name not in known:
            meant = get_close_matches(name, known, n=1)
            raise FleetError(
                f"secret {name}",
                "there is none of this name to rotate",
                f"did you mean {meant[0]}?" if meant else f"name some of {', '.join(known)}, or none for all",
            )
    if TOKENS in wanted:
        wanted += clients
    return tuple(
        name
        for name in [PASSWORD, KEY, *clients, HOST_CERTIFICATES, AUTHORITY]
        if name in wanted and not (name == HOST_CERTIFICATES and AUTHORITY in wanted)
    )


def begin(content: Values, wish: Wish, hosts: Mapping[str, str]) -> Rotation:
    """Make the new values. Nothing is written; FleetError when the vault lacks what shall change."""
    names = choose(content, wish.only)
    old: Values = {}
    new: Values = {}

    def change(variable: str, value: Any) -> None:
        if not content.get(variable):
            raise FleetError(f"vault variable {variable}", "it is not there", "make it first: ./inv secrets.init")
        old[variable], new[variable] = deepcopy(content[variable]), value

    if PASSWORD in names:
        change(ADMIN_PASSWORD, secrets.readable_password())
    if KEY in names:
        change(SECRET_KEY, secrets.session_key())
    clients = [name.removeprefix("token:") for name in names if name.startswith("token:")]
    if clients:
        change(GATEWAY_TOKENS, {client: secrets.token() for client in clients})
        old[GATEWAY_TOKENS] = {client: content[GATEWAY_TOKENS][client] for client in clients}
    authority = Pair(str(content.get(CA_CERTIFICATE, "")), str(content.get(CA_KEY, "")))
    if AUTHORITY in names:
        authority = make_authority()
        change(CA_CERTIFICATE, authority.certificate)
        change(CA_KEY, authority.key)
    if AUTHORITY in names or HOST_CERTIFICATES in names:
        change(
            CERTIFICATES,
            {host: secrets.issue_for(authority, host, address) for host, address in sorted(hosts.items())},
        )
        old[CERTIFICATES] = {host: pair for host, pair in old[CERTIFICATES].items() if host in hosts}
    rotation = Rotation(names, SWITCH, old, new)
    first = WIDEN if rotation.overlaps else SWITCH
    return replace(rotation, step=first, pause=bool(rotation.outsiders) and not wish.at_once)


def lay_out(content: Values, rotation: Rotation) -> None:
    """Make a vault's content what the step asks for. The journal is part of it, so old and new are both in it."""
    used, other = (rotation.old, rotation.new) if rotation.step == WIDEN else (rotation.new, rotation.old)
    for variable, value in used.items():
        if isinstance(value, Mapping):
            content.setdefault(variable, {}).update(deepcopy(dict(value)))
        else:
            content[variable] = value
    content.pop(TOKEN_ALIASES, None)
    if rotation.step != NARROW:
        if CA_CERTIFICATE in used:
            # Clients take any of them; the first is the one that signs.
            content[CA_CERTIFICATE] = used[CA_CERTIFICATE].rstrip("\n") + "\n" + other[CA_CERTIFICATE]
        tokens = used.get(GATEWAY_TOKENS, {})
        aliases = [{"token": other[GATEWAY_TOKENS][client], "same_as": tokens[client]} for client in sorted(tokens)]
        if aliases:
            content[TOKEN_ALIASES] = aliases
    content[JOURNAL] = rotation.to_journal()


def certify(content: Values, rotation: Rotation, hosts: Mapping[str, str]) -> None:
    """Give a certificate to the hosts that came in, or changed their address, since the rotation began."""
    if CERTIFICATES not in rotation.new:
        return
    authority = Pair(content[CA_CERTIFICATE], content[CA_KEY])
    for host, address in sorted(hosts.items()):
        pair = content[CERTIFICATES].get(host) or {}
        has = Pair(str(pair.get("certificate", "")), str(pair.get("key", "")))
        if flaw_of_host(has, authority, host, [address]):
            content[CERTIFICATES][host] = secrets.issue_for(authority, host, address)


def next_step(rotation: Rotation) -> str | None:
    """Return the step after this one, None after the last."""
    if rotation.step == WIDEN:
        return SWITCH
    return NARROW if rotation.step == SWITCH and rotation.overlaps else None


def forget(content: Values) -> None:
    """Take the journal, and with it the old values, out of a vault's content."""
    content.pop(JOURNAL, None)
    content.pop(TOKEN_ALIASES, None)


def journal_of(content: Values) -> Rotation | None:
    """Return the rotation that has begun and not ended, or None. FleetError when its journal was changed by hand."""
    journal = content.get(JOURNAL)
    if journal is None:
        return None
    try:
        rotation = Rotation(
            tuple(journal["names"]),
            journal["step"],
            journal["old"],
            journal["new"],
            bool(journal["pause"]),
            bool(journal["applied"]),
        )
        whole = rotation.step in STEPS and set(rotation.old) == set(rotation.new)
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise FleetError(
            f"vault variable {JOURNAL}",
            "it is not as secrets.rotate writes it",
            "take the vault back from a backup, or remove the variable with ansible-vault edit and rotate anew",
        )
    return rotation


def costs(rotation: Rotation) -> list[str]:
    """Return what a rotation does to people, a sentence each, without a value."""
    lines = []
    for name in rotation.names:
        if name == PASSWORD:
            lines.append(
                "admin-password: the administrator logs in anew, with the new one. "
                "See it with ./inv secrets.show " + ADMIN_PASSWORD
            )
        elif name == KEY:
            lines.append(
                "secret-key: everybody is signed out of Open WebUI and logs in again; what Open WebUI encrypted with "
                "the key (tokens of OIDC log-ins, secrets of tools, second factors) has to be set up again"
            )
        elif name == HOST_CERTIFICATES:
            lines.append(
                f"certificates: new certificates and keys for {', '.join(rotation.new[CERTIFICATES])}; nobody notices. "
                "The old ones stay believable until they end; if a key leaked, rotate authority instead"
            )
        elif name == AUTHORITY:
            lines.append(
                f"authority: a new one, and certificates of it for {', '.join(rotation.new[CERTIFICATES])}. Clients "
                "outside of this fleet refuse the gateways until they trust it: ./inv secrets.show " + CA_CERTIFICATE
            )
        else:
            client = name.removeprefix("token:")
            if client in GATEWAY_CLIENTS:
                lines.append(f"{name}: nobody notices; the fleet hands it to {client} itself")
            else:
                end = "stops before the old one is refused" if rotation.pause else "refuses the old one at once"
                where = f"./inv secrets.show {GATEWAY_TOKENS}.{client}"
                lines.append(f"{name}: hand the new one to {client} ({where}); the run {end}")
    if rotation.overlaps or KEY in rotation.names or PASSWORD in rotation.names:
        lines.append("Open WebUI is restarted, up to three times; an answer that is being written then is cut off")
    return lines


def preview(inventory: Path, wish: Wish) -> list[str]:
    """Return what rotate would do, as lines without a value. Writes nothing and reaches no host."""
    content = secrets.read(inventory)
    rotation = journal_of(content)
    lines = []
    if rotation:
        lines.append(f"would go on with the rotation of {', '.join(rotation.names)}")
        steps = [rotation.step]
    else:
        rotation = begin(content, wish, secrets.addresses(inventory))
        lines += ["would change:", *(f"  {line}" for line in costs(rotation))]
        steps = [rotation.step]
    while following := next_step(replace(rotation, step=steps[-1])):
        steps.append(following)
    return [*lines, "steps:", *(f"  {step}: {STEPS[step]}" for step in steps)]


def words_of_end(rotation: Rotation) -> str:
    """Return what is true of the old ones after a rotation."""
    if rotation.names == (HOST_CERTIFICATES,):
        return "The old ones are forgotten, and no host uses them"
    return "The old ones are refused and forgotten"


def words_of_pause(rotation: Rotation) -> str:
    """Return what to do before the next run."""
    shows = "\n".join(f"  ./inv secrets.show {GATEWAY_TOKENS}.{client}" for client in rotation.outsiders)
    return (
        f"old and new tokens both count now. Hand the new ones out:\n{shows}\n"
        "then run ./inv secrets.rotate again: it refuses the old ones and ends the rotation"
    )


def words_of_failure(rotation: Rotation) -> str:
    """Return where a rotation stands that a host kept from going on."""
    return (
        f"the rotation of {', '.join(rotation.names)} stopped at the step '{rotation.step}'. The vault holds old "
        "and new; nothing is lost. Mend what PROBLEMS names, or take a host that is gone out of the inventory, then "
        "run ./inv secrets.rotate again: it goes on from here"
    )
