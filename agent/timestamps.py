"""Time stamps (RFC 3161): what an authority is asked, and what its answer proves about when some bytes existed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    SignedData,
    TimeStampRequest,
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from agent.errors import EvidenceError

ASK_TYPE = "application/timestamp-query"
"""The media type of a request (RFC 3161, 3.4)."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The bytes existed `at`, says the signer `authority` (RFC 4514) whose certificate leads to a trusted root."""

    at: datetime
    authority: str


def request_for(content: bytes) -> TimeStampRequest:
    """What an authority is asked about these bytes: their SHA-256, with a nonce; it never sees the bytes."""
    return TimestampRequestBuilder(data=content, hash_algorithm=HashAlgorithm.SHA256).build()


def proved(answer: bytes, content: bytes, roots_pem: bytes, request: TimeStampRequest | None = None) -> Stamp:
    """What an answer (TimeStampResp, DER) proves about the bytes; raises EvidenceError if that is nothing.

    With the `request` it must be the answer to that one. Certificates need to have been valid when it was made.
    """
    try:
        roots = x509.load_pem_x509_certificates(roots_pem)
        response = decode_timestamp_response(answer)
        if response.status:
            words = "; ".join(response.status_string) or "no reason"
            raise _worthless(f"the authority refused: status {response.status}, {words:.200}")
        builder = VerifierBuilder() if request is None else VerifierBuilder.from_request(request)
        for root in roots:
            builder = builder.add_root_certificate(root)
        builder.build().verify_message(response, content)
        return Stamp(response.tst_info.gen_time.astimezone(UTC), _signer(response.signed_data))
    except (ValueError, VerificationError) as error:
        raise _worthless(str(error)[:200]) from error


def _signer(signed: SignedData) -> str:
    """The subject of the certificate that the signature names: others may lie in the answer that nobody vouches for."""
    one = next(iter(signed.signer_infos))
    for certificate in map(x509.load_der_x509_certificate, signed.certificates):
        if (certificate.issuer, certificate.serial_number) == (one.issuer, one.serial_number):
            return certificate.subject.rfc4514_string()
    raise ValueError("the signer's certificate is missing")


def _worthless(why: str) -> EvidenceError:
    return EvidenceError(
        f"The time stamp proves nothing: {why}.",
        safe="The manifest is signed and kept all the same.",
        do="Check timestamp.url and timestamp.ca_file; it is asked for again.",
    )
