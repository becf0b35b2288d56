"""The ways the world can refuse us; each text says what happened, whether the evidence is safe, what to do."""

from __future__ import annotations


class AgentError(Exception):
    """Base of the agent's errors: `what` happened, whether evidence is `safe`, and what a person should `do`."""

    def __init__(self, what: str, *, safe: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.safe = safe
        self.do = do

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.safe, self.do) if part)


class ConfigError(AgentError):
    """A configuration file is missing, unreadable or says something impossible."""


class DeviceError(AgentError):
    """A recorder, card or image can't be read, or is no longer the one that was opened."""


class UnpluggedError(DeviceError):
    """It is not there any more."""


class UnknownRecorderError(DeviceError):
    """The inventory doesn't have this recorder, and the policy is to refuse such."""


class EvidenceError(AgentError):
    """Bytes are not what they were: a digest or size differs. Always an incident."""


class StoreError(AgentError):
    """The store refused or could not prove that it keeps an original; `retry` tells if trying again makes sense."""

    def __init__(self, what: str, *, safe: str = "", do: str = "", retry: bool = True) -> None:
        super().__init__(what, safe=safe, do=do)
        self.retry = retry


class JournalError(AgentError):
    """The journal refused a change (lost compare-and-swap, illegal transition) or contradicts itself."""


class AwayError(JournalError):
    """The journal can't be read, or is closed: nothing is wrong with what was asked for, and later it may be done."""


class CommitError(JournalError):
    """The journal's disk failed: most likely nothing was written, but only the next start knows."""


class UnknownError(JournalError):
    """The journal has nothing of the name that somebody asked for."""


class RequestError(AgentError):
    """What was asked for can't be done as it was asked; of a form each problem names its field."""


class RoomError(AgentError):
    """A camera or microphone can't be reached, doesn't let us in, or says what can't be believed.

    `cause` is one of agent.rooms.protocol.Cause, as the ledger of a session has it.
    """

    def __init__(self, what: str, *, cause: str, safe: str = "", do: str = "") -> None:
        super().__init__(what, safe=safe, do=do)
        self.cause = cause
