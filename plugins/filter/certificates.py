# Copyright: the ollama-fleet authors. Apache License 2.0 (see LICENSE)
"""Whether a certificate can be used. On the controller, with the library that Ansible reads vaults with."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization


def certificate_flaw(certificate, key, now=None):
    """Return why a certificate cannot be used with this key today, as a clause; empty when it can. Both PEM."""
    try:
        read = x509.load_pem_x509_certificate(certificate.encode())
        secret = serialization.load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError):
        return "certificate or key cannot be read: both must be PEM, and the key without a password"
    if public(read.public_key()) != public(secret.public_key()):
        return "the key is another certificate's"
    now = now or datetime.datetime.now(datetime.UTC)
    if read.not_valid_after_utc < now:
        return f"the certificate ended on {read.not_valid_after_utc:%Y-%m-%d}"
    return ""


def public(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


class FilterModule:
    def filters(self):
        return {"certificate_flaw": certificate_flaw}
