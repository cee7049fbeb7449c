"""What an error of PostgreSQL means to whoever asked for something, and what to do about it."""

from __future__ import annotations

from psycopg import pq

from acked.errors import BrokerError, BrokerUnavailable, ConfigurationError
from acked.redaction import redact_text

TRY_AGAIN = frozenset({"40001", "40P01"})
"""SQLSTATEs of two transactions that got in each other's way: one of them need only try again."""

GOING = ("57P", "08")
"""Beginnings of SQLSTATEs after which the server or the way to it is gone."""

NO_TABLES = frozenset({"42P01", "3F000", "42883", "42704"})
READ_ONLY = "25006"


class Refused(Exception):
    """The server refused a statement.

    Args:
        state: The SQLSTATE.
        text: What it says.
    """

    def __init__(self, state: str, text: str) -> None:
        super().__init__(text)
        self.state = state
        self.text = text

    @property
    def ends_connection(self) -> bool:
        """Whether another connection may do better."""
        return self.state.startswith(GOING) or self.state == READ_ONLY


class Broken(Exception):
    """The connection was lost, or could not be made."""


class TimedOut(Exception):
    """No answer in time."""


def refusal(result: pq.abc.PGresult) -> Refused:
    """The error that *result* carries."""
    state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
    text = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    return Refused(state.decode(), text.decode(errors="replace").strip())


def meaning(error: Exception, shown: str, timeout: float) -> BrokerError | ConfigurationError:
    """*error* in terms of the broker.

    Args:
        shown: The broker's URL without its password.
        timeout: Seconds that were waited.
    """
    match error:
        case TimedOut():
            return BrokerUnavailable(
                f"{shown} gave no answer within {timeout:g} s; do not count on what was to be "
                "stored. Try again: a message that was stored is not stored twice."
            )
        case Refused(state="57014" | "55P03"):
            return BrokerUnavailable(
                f"{shown} could not do it within {timeout:g} s ({error.text}); nothing was "
                "stored. The view pg_stat_activity tells which session holds what."
            )
        case Refused(state=state) if state == READ_ONLY:
            return BrokerUnavailable(
                f"{shown} is read-only, a standby perhaps; nothing was stored. Name the primary, "
                "or several hosts and target_session_attrs=read-write."
            )
        case Refused(state=state) if state in NO_TABLES:
            return ConfigurationError(
                f"{shown} lacks something that acked stores tasks in ({error.text}). "
                "Make it: acked -A shop:app migrate"
            )
        case Refused(state="53100"):
            return BrokerError(
                f"no room left for {shown}; nothing was stored. Free space on its disk."
            )
        case Refused(state="42501"):
            return BrokerError(
                f"{shown}: {error.text}; nothing was stored. Its user needs rights on the schema: "
                "GRANT USAGE ON SCHEMA, and SELECT, INSERT, UPDATE, DELETE on its tables."
            )
        case Refused() if error.ends_connection:
            return BrokerUnavailable(f"{shown} is going away ({error.text}); try again")
        case Refused():
            return BrokerError(
                f"{shown} refused the operation ({error.text}, SQLSTATE {error.state}); nothing "
                "was stored"
            )
        case _:
            text = redact_text(" ".join(str(error).split()))
            return BrokerUnavailable(
                f"{shown} cannot be reached ({text or 'the connection was lost'}); do not count on "
                "what was to be stored. Try again when it answers."
            )
