"""What an error of PostgreSQL means to whoever asked for something, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from psycopg import pq

from acked.errors import BrokerError, BrokerRefused, BrokerUnavailable
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

    Attributes:
        group: How many transactions of the same round trip were committed before.
    """

    def __init__(self, state: str, text: str) -> None:
        super().__init__(text)
        self.state = state
        self.text = text
        self.group = 0

    @property
    def undone(self) -> bool:
        """Whether nothing was committed. A server that ends a connection may do so between the
        commit and its answer."""
        return not self.group and not self.state.startswith(GOING)

    @property
    def ends_connection(self) -> bool:
        """Whether another connection may do better."""
        return self.state.startswith(GOING) or self.state == READ_ONLY


class Broken(Exception):
    """The connection was lost, or could not be made."""


class Denied(Broken):
    """A server answers, and lets nobody in with what the URL says."""


NOT_THIS_USER = re.compile(
    "authentication failed|no password supplied|no pg_hba.conf entry|permission denied for database"
    "|(role|database) .* (does not exist|is not permitted to log in)"
)
NOT_THIS_WAY = re.compile("does not support SSL|SSL error: (?!unexpected eof)|certificate")
"""What libpq says of a login that failed. It gives no SQLSTATE for that, and servers that speak
another language are taken for unreachable. So is one that is lost in the middle of the handshake,
as it is while it restarts behind what speaks TLS for it."""


def broken(failures: Sequence[str]) -> Broken:
    """Why no connection could be made to any of the places that were tried."""
    text = "; ".join(failures)
    denied = all(NOT_THIS_USER.search(each) or NOT_THIS_WAY.search(each) for each in failures)
    return Denied(text) if failures and denied else Broken(text)


class TimedOut(Exception):
    """No answer in time."""


def refusal(result: pq.abc.PGresult) -> Refused:
    """The error that *result* carries."""
    state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
    text = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    return Refused(state.decode(), text.decode(errors="replace").strip())


def meaning(error: Exception, shown: str, timeout: float, *, undone: bool = False) -> BrokerError:
    """*error* in terms of the broker.

    Args:
        shown: The broker's URL without its password.
        timeout: Seconds that were waited.
        undone: Whether it is certain that nothing was committed.
    """
    match error:
        case TimedOut():
            return BrokerUnavailable(
                f"{shown} gave no answer within {timeout:g} s", nothing_stored=undone
            )
        case Refused(state="57014" | "55P03"):
            return BrokerUnavailable(
                f"{shown} could not do it within {timeout:g} s ({error.text}). The view "
                "pg_stat_activity tells which session holds what.",
                nothing_stored=undone,
            )
        case Refused(state=state) if state == READ_ONLY:
            return BrokerUnavailable(
                f"{shown} is read-only, a standby perhaps. Name the primary, or several hosts and "
                "target_session_attrs=read-write.",
                nothing_stored=undone,
            )
        case Refused(state=state) if state in NO_TABLES:
            return BrokerRefused(
                f"{shown} lacks something that acked stores tasks in ({error.text}). "
                "Make it: acked -A shop:app migrate",
                nothing_stored=undone,
            )
        case Refused(state="53100"):
            return BrokerError(
                f"no room left for {shown}. Free space on its disk.", nothing_stored=undone
            )
        case Refused(state="42501"):
            return BrokerRefused(
                f"{shown}: {error.text}. Its user needs rights on the schema: "
                "GRANT USAGE ON SCHEMA, and SELECT, INSERT, UPDATE, DELETE on its tables.",
                nothing_stored=undone,
            )
        case Refused() if error.ends_connection:
            return BrokerUnavailable(
                f"{shown} is going away ({error.text}); try again", nothing_stored=undone
            )
        case Refused():
            return BrokerError(
                f"{shown} refused the operation ({error.text}, SQLSTATE {error.state})",
                nothing_stored=undone,
            )
        case _:
            text = redact_text(" ".join(str(error).split()))
            if not isinstance(error, Denied):
                return BrokerUnavailable(
                    f"{shown} cannot be reached ({text or 'the connection was lost'}). Try again "
                    "when it answers.",
                    nothing_stored=undone,
                )
            remedy = "Correct user, password and database in the URL, or let them in."
            if not NOT_THIS_USER.search(text):
                remedy = (
                    "A host that is not this one is spoken to over TLS with a checked certificate, "
                    "unless sslmode= in the URL says otherwise; sslrootcert= names who vouches."
                )
            return BrokerRefused(
                f"{shown} lets nobody in ({text}). {remedy}", nothing_stored=undone
            )
