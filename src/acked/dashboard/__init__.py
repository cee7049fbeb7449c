"""The operator's dashboard: see docs/dashboard.md."""

try:
    from acked.dashboard.site import Dashboard
except ModuleNotFoundError as error:
    if error.name not in {"itsdangerous", "jinja2", "prometheus_client", "starlette"}:
        raise
    raise ModuleNotFoundError(
        f"acked.dashboard needs {error.name}: pip install 'acked[dashboard]'", name=error.name
    ) from None
from acked.dashboard.access import Permission
from acked.dashboard.metrics import Metrics
from acked.dashboard.passwords import hash_password
from acked.dashboard.permissions import ROLES, Action
from acked.dashboard.users import Users

__all__ = ["ROLES", "Action", "Dashboard", "Metrics", "Permission", "Users", "hash_password"]
