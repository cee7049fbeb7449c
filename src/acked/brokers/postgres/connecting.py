"""The way to a server: one that is logged in, of the several that a URL may name, in time."""

from __future__ import annotations

import math
import select
import time

import psycopg
from psycopg import pq

from acked.brokers.postgres.address import Address
from acked.brokers.postgres.meaning import Broken, TimedOut, broken


def connect(address: Address, deadline: float) -> pq.abc.PGconn:
    """A connection to the first server that answers and is one of those asked for.

    Each address has its share of the time that is left: one from which nothing comes back must
    not take that of the next.

    Args:
        deadline: Monotonic time until which it must be there.

    Raises:
        Broken: No server can be reached, or all refuse.
        TimedOut: Not in time.
    """
    try:
        places = address.places(deadline)
    except TimeoutError:
        raise TimedOut from None
    except OSError as error:
        raise Broken(str(error)) from None
    failures: list[str] = []
    answered = False
    for number, conninfo in enumerate(places):
        now = time.monotonic()
        share = (deadline - now) / (len(places) - number)
        connection = pq.PGconn.connect_start(conninfo.encode())
        try:
            _finish(connection, now + share)
        except TimedOut:
            host = (connection.hostaddr or connection.host).decode()
            port = connection.port.decode()
            failures.append(f"no answer from {host}, port {port}, within {share:.1f} s")
        except (Broken, psycopg.OperationalError) as error:
            failures.append(str(error).strip())
            answered = True
        except BaseException:
            connection.finish()
            raise
        else:
            return connection
        connection.finish()
    raise broken(failures) if answered else TimedOut


def milliseconds(deadline: float) -> int:
    """What is left until *deadline*, for poll(2)."""
    return max(0, math.ceil((deadline - time.monotonic()) * 1000))


def _finish(connection: pq.abc.PGconn, deadline: float) -> None:
    poll = select.poll()
    while True:
        match connection.connect_poll():
            case pq.PollingStatus.OK:
                return
            case pq.PollingStatus.READING:
                mask = select.POLLIN
            case pq.PollingStatus.WRITING:
                mask = select.POLLOUT
            case _:
                raise Broken(connection.get_error_message())
        # A second try, without TLS perhaps, has another socket, it may be under the same number.
        descriptor = connection.socket
        poll.register(descriptor, mask)
        if not poll.poll(milliseconds(deadline)):
            raise TimedOut
        poll.unregister(descriptor)
