"""A Flask application with everything mounted in it, for a WSGI server with threads."""

from __future__ import annotations

import os

from a2wsgi import ASGIMiddleware
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from acked import Acked
from acked.dashboard import Dashboard, Users
from acked.pages import Limits, TaskPages

SECRET = "only-tests-know-it-" * 3

app = Acked("shop", broker=os.environ["WSGI_BROKER"])
users = Users.parse(os.environ["WSGI_USERS"], source="WSGI_USERS")
# A server with threads notices that a reader is gone when it says something: here every 3 seconds.
streaming = TaskPages(app, secrets=[SECRET], path="/tasks", limits=Limits(recheck=3.0))
polling = TaskPages(app, secrets=[SECRET], path="/polled", limits=Limits(streams=0))
site = Flask("shop")


@site.get("/")
def front() -> str:
    return "the shop"


application = DispatcherMiddleware(
    site,
    {
        "/ops": ASGIMiddleware(Dashboard(app, users=users)),
        "/tasks": ASGIMiddleware(streaming),
        "/polled": ASGIMiddleware(polling),
    },
)
