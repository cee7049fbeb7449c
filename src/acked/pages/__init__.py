"""Progress pages for the people who wait for a task: see docs/progress-page.md."""

try:
    from acked.pages.rights import Permission
    from acked.pages.site import TaskPages
except ModuleNotFoundError as error:
    if error.name not in {"itsdangerous", "jinja2", "starlette"}:
        raise
    raise ModuleNotFoundError(
        f"acked.pages needs {error.name}: pip install 'acked[dashboard]'", name=error.name
    ) from None
from acked.pages.grants import Action
from acked.pages.stream import Limits
from acked.pages.words import Words

__all__ = ["Action", "Limits", "Permission", "TaskPages", "Words"]
