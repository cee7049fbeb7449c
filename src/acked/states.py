"""What `AsyncResult.state` may be, by Celery's names. A running task's own state may be any other.

There is no RECEIVED, since a task is claimed to be started, and no IGNORED or REJECTED: such a task
ends as SUCCESS or FAILURE.
"""

PENDING = "PENDING"
STARTED = "STARTED"
RETRY = "RETRY"
SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
REVOKED = "REVOKED"

UNKNOWN = "UNKNOWN"
"""Of an id the broker has no record of, and in none of the sets: a wait would have no end. Celery
says PENDING, which also means queued."""

READY_STATES = frozenset({SUCCESS, FAILURE, REVOKED})
"""It has ended."""

UNREADY_STATES = frozenset({PENDING, STARTED, RETRY})
"""It waits or runs."""

EXCEPTION_STATES = frozenset({RETRY, FAILURE, REVOKED})
"""`AsyncResult.result` is an exception, where there was one."""

PROPAGATE_STATES = frozenset({FAILURE, REVOKED})
"""`AsyncResult.get` raises it."""

ALL_STATES = READY_STATES | UNREADY_STATES
