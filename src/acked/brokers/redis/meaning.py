"""What an error of Redis means to whoever asked for something, and what to do about it."""

from __future__ import annotations

import hiredis

from acked.brokers.redis.address import Address
from acked.errors import BrokerError, BrokerRefused, BrokerUnavailable

ELSEWHERE = ("READONLY", "MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "UNBLOCKED")
"""Another server is, or will be, the one to ask. The command did not happen."""

NOT_YET = ("LOADING", "BUSY", "NOREPLICAS", "MISCONF", "ERR max number of clients")
"""The server lives, and does not take commands. The command did not happen."""

REFUSED = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR invalid password", "ERR AUTH", "ERR DB index")


def said(error: hiredis.ReplyError) -> str:
    """What it says, from its code on. Redis 6.2 puts the place in the script before that."""
    text = str(error)
    if text.startswith("ERR Error running script"):
        return text.partition(": -")[2] or text
    return text


def no_answer(
    error: OSError, address: Address, timeout: float, *, unsure: bool
) -> BrokerUnavailable:
    """The connection failed, or nothing came in time.

    Args:
        unsure: Whether the server may have done it all the same, now or at a try before.
    """
    if isinstance(error, TimeoutError):
        what = f"did not answer within {timeout:g} s"
    else:
        what = f"cannot be reached ({error.strerror or error})"
    return BrokerUnavailable(
        f"{address.servers} {what}. See that it runs, and that this host may reach it.",
        nothing_stored=not unsure,
    )


def meaning(error: hiredis.ReplyError, address: Address, *, unsure: bool = False) -> BrokerError:
    """An error that the server answered with.

    Args:
        unsure: Whether it may have done it at a try before.
    """
    text = said(error)
    where = address.servers
    if text.startswith("OOM") or "OOM command" in text:
        return BrokerError(
            f"{where} has no memory left (maxmemory). Raise maxmemory, or delete what is finished: "
            "result_expires, failure_expires. Workers go on meanwhile.",
            nothing_stored=not unsure,
        )
    if text.startswith(REFUSED):
        return BrokerRefused(
            f"{where} refuses this user ({text}). See the user, the password and the database in "
            "the broker's URL, and that the user may run scripts and reach the keys of its prefix.",
            nothing_stored=not unsure,
        )
    if text.startswith(ELSEWHERE):
        return BrokerUnavailable(
            f"{where} is without a primary at the moment ({text}). Try again.",
            nothing_stored=not unsure,
        )
    if text.startswith(NOT_YET):
        return BrokerUnavailable(
            f"{where} takes no writes at the moment ({text}). Its log says why.",
            nothing_stored=not unsure,
        )
    return BrokerError(f"{where} refused the operation ({text})")


def too_few(confirmed: int, address: Address, seconds: float) -> BrokerError:
    """Fewer replicas than asked for have a write."""
    return BrokerError(
        f"{address.servers} has it, but {confirmed} of {address.wait_replicas} replicas confirmed "
        f"it within {seconds:g} s (wait_replicas). See that the replicas run and keep up."
    )
