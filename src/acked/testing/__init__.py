"""What a test of a broker needs: the conformance suite and the random histories.

It needs pytest and Hypothesis: ``pip install acked[test]``.
"""

from __future__ import annotations

import pytest

# Before the modules are imported, so that a promise that is not kept shows the values.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{part}"
        for part in (
            "claiming", "histories", "leases", "ledger", "model", "operating", "reading",
            "sending", "settling", "timeline", "waiting",
        )
    )
)  # fmt: skip

from acked.testing.conformance import (  # noqa: E402 - as said above
    BrokerConformance,
    LedgerConformance,
)
from acked.testing.histories import BrokerStateMachine  # noqa: E402 - as said above

__all__ = ["BrokerConformance", "BrokerStateMachine", "LedgerConformance"]
