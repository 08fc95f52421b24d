import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from ollama_fleet.errors import FleetError
from ollama_fleet.secrets import SecretsResult, complete

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HOSTS = {"gpu1": "192.0.2.1", "web1": "web1.example.org"}


def filled(hosts: dict[str, str] | None = None, now: datetime = NOW) -> dict[str, Any]:
    content: dict[str, Any] = {}
    complete(content, HOSTS if hosts is None else hosts, now)
    return content


def certificate(content: dict[str, Any], host: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(content["vault_fleet_certificates"][host]["certificate"].encode())


def authority(content: dict[str, Any]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(content["vault_fleet_ca_certificate"].encode())


def test_an_empty_vault_gets_everything() -> None:
    content: dict[str, Any] = {}
    result = complete(content, HOSTS, NOW)
    assert result.kept == []
    assert result.created == [
        "vault_open_webui_admin_password",
        "vault_open_webui_secret_key",
        "vault_ollama_gateway_tokens.open_webui",
        "vault_fleet_ca_certificate",
        "vault_fleet_ca_key",
        "vault_fleet_certificates.gpu1",
        "vault_fleet_certificates.web1",
    ]


def test_a_second_time_nothing_is_made() -> None:
    content = filled()
    before = repr(content)
    result = complete(content, HOSTS, NOW)
    assert (result.created, repr(content)) == ([], before)
    assert len(result.kept) == 7


def test_a_new_host_and_nothing_else_is_added() -> None:
    content = filled()
    result = complete(content, {**HOSTS, "gpu2": "192.0.2.2"}, NOW)
    assert result.created == ["vault_fleet_certificates.gpu2"]


def test_a_persons_own_secrets_stay() -> None:
    content: dict[str, Any] = {"vault_open_webui_admin_password": "theirs", "vault_of_their_own": {"a": 1}}
    assert "vault_open_webui_admin_password" in complete(content, HOSTS, NOW).kept
    assert content["vault_open_webui_admin_password"] == "theirs"
    assert content["vault_of_their_own"] == {"a": 1}


def test_secrets_are_strong_different_and_can_be_typed() -> None:
    first, second = filled({}), filled({})
    password = first["vault_open_webui_admin_password"]
    assert len(password) == 24
    assert set(password) <= set("abcdefghjkmnpqrstuvwxyz23456789-")
    for name in ("vault_open_webui_admin_password", "vault_open_webui_secret_key", "vault_fleet_ca_key"):
        assert first[name] != second[name]
    assert len(first["vault_open_webui_secret_key"]) >= 64
    assert len(first["vault_ollama_gateway_tokens"]["open_webui"]) >= 43


def test_the_authority_signs_hosts_and_no_authorities() -> None:
    root = authority(filled())
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = root.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature
    assert timedelta(days=3650) < root.not_valid_after_utc - NOW < timedelta(days=3655)


def test_a_hosts_certificate_holds_its_name_and_address_and_825_days() -> None:
    content = filled()
    host = certificate(content, "gpu1")
    names = host.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gpu1"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("192.0.2.1")]
    assert host.not_valid_after_utc == NOW + timedelta(days=825)
    assert host.not_valid_before_utc < NOW
    public = host.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    web = certificate(content, "web1").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert web.get_values_for_type(x509.DNSName) == ["web1", "web1.example.org"]


def test_a_client_that_trusts_the_authority_accepts_the_host_under_its_names_only() -> None:
    content = filled()
    policy = PolicyBuilder().store(Store([authority(content)])).time(NOW)
    for name in (x509.IPAddress(ip_address("192.0.2.1")), x509.DNSName("gpu1")):
        policy.build_server_verifier(name).verify(certificate(content, "gpu1"), [])
    with pytest.raises(VerificationError):
        policy.build_server_verifier(x509.DNSName("web1")).verify(certificate(content, "gpu1"), [])


def test_strict_clients_take_the_authority() -> None:
    context = ssl.create_default_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=filled()["vault_fleet_ca_certificate"])
    assert context.get_ca_certs()


@pytest.mark.parametrize(("days", "renewed"), [(794, False), (796, True), (900, True)])
def test_certificates_are_renewed_when_less_than_30_days_are_left(days: int, renewed: bool) -> None:
    content = filled()
    before = certificate(content, "gpu1")
    result = complete(content, HOSTS, NOW + timedelta(days=days))
    assert ("vault_fleet_certificates.gpu1" in result.created) is renewed
    assert (certificate(content, "gpu1") != before) is renewed
    assert "vault_fleet_ca_key" in result.kept


def test_another_address_means_another_certificate_and_says_why() -> None:
    content = filled()
    result = complete(content, {**HOSTS, "gpu1": "192.0.2.9"}, NOW)
    assert result.created == ["vault_fleet_certificates.gpu1"]
    assert result.reasons == {"vault_fleet_certificates.gpu1": "the host's address changed"}


def test_a_new_authority_renews_all_hosts() -> None:
    content = filled()
    del content["vault_fleet_ca_key"]
    result = complete(content, HOSTS, NOW)
    assert {name for name in result.created if name.startswith("vault_fleet_certificates")} == {
        "vault_fleet_certificates.gpu1",
        "vault_fleet_certificates.web1",
    }
    assert result.reasons["vault_fleet_certificates.gpu1"] == "another authority signed it"


def test_no_host_certificate_outlives_its_authority() -> None:
    content = filled({})
    late = NOW + timedelta(days=3400)
    complete(content, HOSTS, late)
    assert certificate(content, "gpu1").not_valid_after_utc == authority(content).not_valid_after_utc


def test_an_authority_near_its_end_is_renewed() -> None:
    content = filled()
    result = complete(content, HOSTS, NOW + timedelta(days=3640))
    assert {"vault_fleet_ca_certificate", "vault_fleet_ca_key"} <= set(result.created)


@pytest.mark.parametrize("broken", [{}, {"certificate": "x", "key": "y"}, {"certificate": ""}])
def test_a_broken_certificate_is_made_anew(broken: dict[str, str]) -> None:
    content = filled()
    content["vault_fleet_certificates"]["gpu1"] = broken
    assert complete(content, HOSTS, NOW).created == ["vault_fleet_certificates.gpu1"]


def test_a_key_of_another_host_is_found_out() -> None:
    content = filled()
    certificates = content["vault_fleet_certificates"]
    certificates["gpu1"]["key"] = certificates["web1"]["key"]
    result = complete(content, HOSTS, NOW)
    assert result.reasons == {"vault_fleet_certificates.gpu1": "certificate and key do not belong together"}


def test_hosts_that_are_gone_keep_theirs() -> None:
    content = filled()
    complete(content, {"gpu1": "192.0.2.1"}, NOW)
    assert set(content["vault_fleet_certificates"]) == set(HOSTS)


def test_a_name_that_no_certificate_can_hold_is_an_error_with_a_remedy() -> None:
    with pytest.raises(FleetError, match=r"gpü1.*\n.*letters, digits"):
        complete({}, {"gpü1": "192.0.2.1"}, NOW)


def test_a_variable_of_another_shape_is_an_error_and_not_overwritten() -> None:
    content = {"vault_ollama_gateway_tokens": "token"}
    with pytest.raises(FleetError, match="no mapping"):
        complete(content, HOSTS, NOW)
    assert content["vault_ollama_gateway_tokens"] == "token"


def test_results_are_names_and_never_values() -> None:
    content: dict[str, Any] = {}
    result = complete(content, HOSTS, NOW)
    assert isinstance(result, SecretsResult)
    assert content["vault_open_webui_admin_password"] not in repr(result)
    assert "BEGIN" not in repr(result)
