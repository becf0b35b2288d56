"""What the errors of an S3 server mean, in words for the person who looks after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_KEYS: Final = "Correct the credentials file; the agent reads it again by itself."

_CODES: Final[Mapping[str, tuple[str, str]]] = {
    "AccessDenied": ("does not allow us {action}", "Allow {action} to the uploader in the policy of the bucket."),
    "AccountProblem": ("has closed our account", "Ask the administrator of the store."),
    "AuthorizationHeaderMalformed": ("is in another region than configured", "Correct the option region."),
    "BadDigest": ("received other bytes than were sent, again and again", "Have the network checked."),
    "EntityTooLarge": ("takes no object of this size", "Raise the limit of the store or of the gateway before it."),
    "ExpiredToken": ("says that our credentials have expired", _KEYS),
    "InvalidAccessKeyId": ("does not know our access key", _KEYS),
    "InvalidBucketName": ("does not take this name of a bucket", "Correct the option bucket."),
    "InvalidToken": ("does not take our session token", _KEYS),
    "NoSuchBucket": ("has no such bucket", "Create the bucket, or correct the options bucket and endpoint."),
    "NoSuchUpload": ("no longer has the upload that was under way", "Nothing: it begins anew."),
    "PermanentRedirect": ("has the bucket elsewhere", "Correct the options endpoint and region."),
    "QuotaExceeded": ("has no room left for us: the quota is used up", "Raise the quota of the user or the bucket."),
    "RequestTimeTooSkewed": ("does not take our time, nor the one it tells", "Set the clocks of station and store."),
    "SecondLevelDomainForbidden": ("wants the bucket in its name", 'Write addressing = "virtual".'),
    "SignatureDoesNotMatch": (
        "finds our signature wrong: a wrong secret key, or something between us changes requests",
        _KEYS + " Check that a gateway passes the Host header on.",
    ),
    "SlowDown": ("is overloaded", "Nothing at first; if it lasts, give the store more capacity."),
    "TokenRefreshRequired": ("says that our credentials have expired", _KEYS),
    "UserSuspended": ("has suspended our user", "Ask the administrator of the store to enable it."),
}

_STATUS: Final[Mapping[int, tuple[str, str]]] = {
    301: _CODES["PermanentRedirect"],
    307: _CODES["PermanentRedirect"],
    401: ("wants another kind of credentials", "Check the address: this may be no S3."),
    403: _CODES["AccessDenied"],
    407: ("can't be reached: the proxy wants credentials", "Write them into the file proxy_credentials."),
    413: _CODES["EntityTooLarge"],
    429: _CODES["SlowDown"],
    501: ("does not know {action}", "Use a store with versions and Object Lock."),
    503: _CODES["SlowDown"],
    507: ("is full", "Give it more room."),
}


def explain(status: int, code: str, message: str, action: str) -> tuple[str, str]:
    """What happened, and what to do; `action` is what was asked for, by its name in policies."""
    unknown = (f"refused {action}", "Check the store and its log.")
    what, do = _CODES.get(code) or _STATUS.get(status) or unknown
    said = " ".join(part for part in (str(status), code, message and f"({message})") if part)
    return f"The store {what.format(action=action)}: {said}.", do.format(action=action)
