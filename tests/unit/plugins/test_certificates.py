"""A certificate that cannot be used is found before it is brought to a host."""

from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.ollama_fleet.stack.plugins.filter.certificates import certificate_flaw

from ollama_fleet.authority import issue, make_authority

AUTHORITY = make_authority()
PAIR = issue(AUTHORITY, "gpu1", ["192.0.2.1"])
OTHER = issue(AUTHORITY, "gpu2", ["192.0.2.2"])


def test_a_pair_has_no_flaw_with_its_chain_or_without() -> None:
    assert certificate_flaw(PAIR.certificate, PAIR.key) == ""
    assert certificate_flaw(PAIR.certificate + AUTHORITY.certificate, PAIR.key) == ""


def test_the_key_of_another_host_is_found() -> None:
    assert certificate_flaw(PAIR.certificate, OTHER.key) == "the key is another certificate's"


def test_one_that_ended_is_named_with_its_day() -> None:
    later = datetime.now(UTC) + timedelta(days=900)
    assert certificate_flaw(PAIR.certificate, PAIR.key, later).startswith("the certificate ended on 20")


@pytest.mark.parametrize(("certificate", "key"), [("x", PAIR.key), (PAIR.certificate, "x"), ("", "")])
def test_what_cannot_be_read_is_said_without_showing_it(certificate: str, key: str) -> None:
    flaw = certificate_flaw(certificate, key)
    assert flaw.startswith("certificate or key cannot be read")
    assert "BEGIN" not in flaw
