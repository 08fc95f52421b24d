"""Rotation against a double of a fleet: whatever is cut, wherever, everybody gets in, and the old ones end refused."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from ollama_fleet import rotation, secrets
from ollama_fleet.authority import Pair, flaw_of_host
from ollama_fleet.errors import FleetError
from ollama_fleet.rotation import Rotation, Wish, begin, choose, costs, journal_of, lay_out, preview, rotate

HOSTS = {"gpu1": "192.0.2.1", "gpu2": "192.0.2.2", "web1": "192.0.2.9"}
HERE = Path("inventory")
OWN = ("admin-password", "secret-key", "token:open_webui", "authority")
TOKENS = "vault_ollama_gateway_tokens"


class CutError(BaseException):
    """The run is killed here: nothing of this program's own may catch it."""


class Store:
    """A double of the vault's file: what was written last is what there is. It can be cut before or after a write."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self.writes = 0
        self.cut_at: tuple[int, str] | None = None

    def read(self, _inventory: Path) -> dict[str, Any]:
        return deepcopy(self.content)

    def write(self, _inventory: Path, content: dict[str, Any]) -> None:
        if self.cut_at == (self.writes, "before"):
            raise CutError
        self.content = deepcopy(content)
        self.writes += 1
        if self.cut_at == (self.writes - 1, "after"):
            raise CutError


class Fleet:
    """A double of hosts: gateways that know tokens and show certificates, and an interface that uses both."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.password = store.content["vault_open_webui_admin_password"]
        self.has: dict[str, dict[str, Any]] = {}
        for host in HOSTS:
            self.bring(host)
        self.cut_after: tuple[int, int] | None = None
        self.order = list(HOSTS)
        self.runs: list[str] = []

    def bring(self, host: str) -> None:
        content = deepcopy(self.store.content)
        token = content[TOKENS]["open_webui"]
        aliases = [
            entry["token"] for entry in content.get("ollama_gateway_token_aliases", []) if entry["same_as"] == token
        ]
        self.has[host] = {
            "accepts": {token, *aliases},
            "certificate": content["vault_fleet_certificates"][host]["certificate"],
            "uses": token,
            "trusts": content["vault_fleet_ca_certificate"],
        }
        if host == "web1" and self.password != content["vault_open_webui_admin_password"]:
            # As the interface has it: the old password is what changes it.
            assert self.password == content["vault_rotation"]["old"]["vault_open_webui_admin_password"]
            self.password = content["vault_open_webui_admin_password"]

    def apply(self, step: str) -> int:
        self.runs.append(step)
        for number, host in enumerate(self.order):
            if self.cut_after == (len(self.runs) - 1, number):
                raise CutError
            self.bring(host)
            self.everybody_gets_in()
        return 0

    def everybody_gets_in(self) -> None:
        web = self.has["web1"]
        roots = x509.load_pem_x509_certificates(web["trusts"].encode())
        for host in ("gpu1", "gpu2"):
            assert web["uses"] in self.has[host]["accepts"]
            shown = x509.load_pem_x509_certificate(self.has[host]["certificate"].encode())
            assert any(trusted(shown, root) for root in roots)


def trusted(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
def filled() -> dict[str, Any]:
    content: dict[str, Any] = {"vault_of_their_own": "theirs"}
    secrets.complete(content, HOSTS)
    return content


@pytest.fixture
def store(filled: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    double = Store(deepcopy(filled))
    monkeypatch.setattr(secrets, "read", double.read)
    monkeypatch.setattr(secrets, "write", double.write)
    monkeypatch.setattr(secrets, "addresses", lambda _inventory: HOSTS)
    monkeypatch.chdir(tmp_path)
    return double


def run(fleet: Fleet, *only: str, say: Callable[[str], None] = lambda _: None, at_once: bool = False) -> int:
    return rotate(HERE, Wish(only, at_once), fleet.apply, say, lambda _: True)


def values(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for value in content.values():
            yield from values(value)
    elif isinstance(content, list):
        for value in content:
            yield from values(value)
    elif isinstance(content, str):
        yield content


def assert_all_new(before: dict[str, Any], fleet: Fleet) -> None:
    after = fleet.store.content
    assert set(after) == set(before)
    changed = [
        "vault_open_webui_admin_password",
        "vault_open_webui_secret_key",
        TOKENS,
        "vault_fleet_ca_certificate",
        "vault_fleet_ca_key",
        "vault_fleet_certificates",
    ]
    old = {value for name in changed for value in values(before[name])}
    assert not old & set(values(after))
    assert after["vault_of_their_own"] == "theirs"
    assert fleet.password == after["vault_open_webui_admin_password"]
    for host in ("gpu1", "gpu2"):
        assert fleet.has[host]["accepts"] == {after[TOKENS]["open_webui"]}
    assert fleet.has["web1"]["trusts"] == after["vault_fleet_ca_certificate"]
    authority = Pair(after["vault_fleet_ca_certificate"], after["vault_fleet_ca_key"])
    for host, address in HOSTS.items():
        pair = after["vault_fleet_certificates"][host]
        assert flaw_of_host(Pair(pair["certificate"], pair["key"]), authority, host, [address]) is None


@pytest.mark.parametrize("order", [["gpu1", "gpu2", "web1"], ["web1", "gpu2", "gpu1"]])
def test_all_is_changed_in_three_steps_in_any_order_of_hosts(store: Store, order: list[str]) -> None:
    before = deepcopy(store.content)
    fleet = Fleet(store)
    fleet.order = order
    assert run(fleet) == 0
    assert fleet.runs == ["widen", "switch", "narrow"]
    assert_all_new(before, fleet)


@pytest.mark.parametrize(("run_number", "host_number"), list(product(range(3), range(3))))
def test_a_run_that_is_cut_at_a_host_is_completed_by_the_next(store: Store, run_number: int, host_number: int) -> None:
    before = deepcopy(store.content)
    fleet = Fleet(store)
    fleet.order = ["web1", "gpu1", "gpu2"]
    fleet.cut_after = (run_number, host_number)
    with pytest.raises(CutError):
        run(fleet)
    fleet.everybody_gets_in()
    journal = journal_of(store.content)
    assert journal is not None
    assert journal.old["vault_open_webui_admin_password"] == before["vault_open_webui_admin_password"]
    fleet.cut_after = None
    assert run(fleet) == 0
    assert_all_new(before, fleet)


@pytest.mark.parametrize(("number", "moment"), list(product(range(4), ["before", "after"])))
def test_a_run_that_is_cut_at_a_write_is_completed_by_the_next(store: Store, number: int, moment: str) -> None:
    before = deepcopy(store.content)
    fleet = Fleet(store)
    store.cut_at = (number, moment)
    with pytest.raises(CutError):
        run(fleet)
    fleet.everybody_gets_in()
    store.cut_at = None
    if (number, moment) == (3, "after"):
        # All was done but the last word: there is nothing left to complete.
        assert journal_of(store.content) is None
    else:
        assert run(fleet) == 0
    assert_all_new(before, fleet)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_host_that_fails_stops_the_rotation_with_both_known(store: Store, step: int) -> None:
    before = deepcopy(store.content)
    fleet = Fleet(store)
    said: list[str] = []
    codes = [0] * step + [2]

    def failing(name: str) -> int:
        return fleet.apply(name) or codes[len(fleet.runs) - 1]

    assert rotate(HERE, Wish(), failing, said.append, lambda _: True) == 2
    assert "run ./inv secrets.rotate again" in said[-1]
    assert {"old", "new"} <= set(store.content["vault_rotation"])
    assert run(fleet) == 0
    assert_all_new(before, fleet)


def test_who_says_no_has_changed_nothing(store: Store) -> None:
    before = deepcopy(store.content)
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    assert rotate(HERE, Wish(), Fleet(store).apply, lambda _: None, no) == 1
    assert store.content == before
    assert "everybody is signed out" in asked[0]
    assert not [value for value in values(before) if value in asked[0]]


def test_one_secret_alone_changes_alone(store: Store) -> None:
    before = deepcopy(store.content)
    fleet = Fleet(store)
    assert run(fleet, "admin-password") == 0
    assert fleet.runs == ["switch"]
    different = {name for name in before if before[name] != store.content[name]}
    assert different == {"vault_open_webui_admin_password"}


def test_host_certificates_alone_keep_the_authority_and_need_no_overlap(store: Store) -> None:
    before = deepcopy(store.content)
    fleet = Fleet(store)
    said: list[str] = []
    assert run(fleet, "certificates", say=said.append) == 0
    assert fleet.runs == ["switch"]
    assert {name for name in before if before[name] != store.content[name]} == {"vault_fleet_certificates"}
    # They were signed by the same authority, so nobody can say that they are refused.
    assert "refused" not in said[-1]


def test_tokens_of_others_wait_until_they_are_handed_out(store: Store) -> None:
    store.content[TOKENS]["notebook"] = "n" * 43
    fleet = Fleet(store)
    said: list[str] = []
    assert run(fleet, "tokens", say=said.append) == 0
    assert "./inv secrets.show vault_ollama_gateway_tokens.notebook" in said[-1]
    now = store.content[TOKENS]["notebook"]
    assert {"token": "n" * 43, "same_as": now} in store.content["ollama_gateway_token_aliases"]
    assert fleet.runs == ["widen", "switch"]
    assert run(fleet) == 0
    assert fleet.runs == ["widen", "switch", "narrow"]
    assert store.content[TOKENS]["notebook"] == now
    assert "n" * 43 not in set(values(store.content))


def test_after_a_leak_nobody_is_waited_for(store: Store) -> None:
    store.content[TOKENS]["notebook"] = "n" * 43
    fleet = Fleet(store)
    assert run(fleet, "token:notebook", at_once=True) == 0
    assert fleet.runs == ["widen", "switch", "narrow"]
    assert "vault_rotation" not in store.content


def test_another_rotation_waits_for_the_one_that_has_begun(store: Store) -> None:
    fleet = Fleet(store)
    rotate(HERE, Wish(("tokens",)), lambda _step: 2, lambda _: None, lambda _: True)
    with pytest.raises(FleetError, match="finish that one first"):
        run(fleet, "secret-key")
    assert run(fleet, "tokens") == 0


def test_a_host_that_came_in_meanwhile_gets_a_certificate_of_the_new_authority(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotate(HERE, Wish(("authority",)), lambda _step: 2, lambda _: None, lambda _: True)
    more = {**HOSTS, "gpu3": "192.0.2.3"}
    monkeypatch.setattr(secrets, "addresses", lambda _inventory: more)
    secrets.complete(store.content, more)
    assert rotate(HERE, Wish(), lambda _step: 0, lambda _: None, lambda _: True) == 0
    pair = store.content["vault_fleet_certificates"]["gpu3"]
    authority = Pair(store.content["vault_fleet_ca_certificate"], store.content["vault_fleet_ca_key"])
    assert flaw_of_host(Pair(pair["certificate"], pair["key"]), authority, "gpu3", ["192.0.2.3"]) is None


def test_init_leaves_a_rotation_that_has_begun_alone(store: Store) -> None:
    for step in ("widen", "switch"):
        content = deepcopy(store.content)
        begun = begin(content, Wish(), HOSTS)
        lay_out(content, Rotation(begun.names, step, begun.old, begun.new))
        before = deepcopy(content)
        assert secrets.complete(content, HOSTS).created == []
        assert content == before


def test_a_preview_names_everything_and_shows_nothing(store: Store) -> None:
    before = deepcopy(store.content)
    text = "\n".join(preview(HERE, Wish()))
    for name in OWN:
        assert f"  {name}: " in text
    assert "steps:" in text
    assert store.content == before
    assert not [value for value in values(before) if value in text and value != "theirs"]


def test_a_preview_of_one_that_has_begun_says_what_is_left(store: Store) -> None:
    rotate(HERE, Wish(("tokens",)), lambda step: 0 if step == "widen" else 2, lambda _: None, lambda _: True)
    lines = preview(HERE, Wish())
    assert lines[0] == "would go on with the rotation of token:open_webui"
    assert [line.split(":")[0].strip() for line in lines[2:]] == ["switch", "narrow"]


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        ((), OWN),
        (("tokens",), ("token:open_webui",)),
        (("authority", "certificates"), ("authority",)),
        (("secret-key", "admin-password"), ("admin-password", "secret-key")),
    ],
)
def test_names_are_chosen(filled: dict[str, Any], only: tuple[str, ...], chosen: tuple[str, ...]) -> None:
    assert choose(filled, only) == chosen


def test_a_mistyped_name_is_corrected(filled: dict[str, Any]) -> None:
    with pytest.raises(FleetError, match=r"did you mean admin-password\?"):
        choose(filled, ["admin-pasword"])


def test_what_the_vault_lacks_is_made_first(filled: dict[str, Any]) -> None:
    content = {name: value for name, value in filled.items() if name != "vault_open_webui_secret_key"}
    with pytest.raises(FleetError, match=r"\./inv secrets\.init"):
        begin(content, Wish(("secret-key",)), HOSTS)


@pytest.mark.parametrize("journal", ["text", {}, {"names": [], "step": "sideways", "pause": 0, "applied": 0}])
def test_a_journal_of_another_shape_is_an_error(journal: Any) -> None:
    with pytest.raises(FleetError, match="not as secrets"):
        journal_of({"vault_rotation": journal})


def test_what_it_costs_is_said_for_each_and_without_values(filled: dict[str, Any]) -> None:
    content = deepcopy(filled)
    content[TOKENS]["notebook"] = "n" * 43
    begun = begin(content, Wish(), HOSTS)
    lines = costs(begun)
    assert len(lines) == len(begun.names) + 1
    known = {*values(begun.old), *values(begun.new)}
    assert not [value for value in known if value in "\n".join(lines)]
    assert begun.step == rotation.WIDEN
