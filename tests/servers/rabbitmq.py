"""A private RabbitMQ, with a port mapper of its own, so that it never meets the system's.

The Erlang VM is started directly: Debian's wrapper insists on its own user. What an operator
would say with ``rabbitmqctl`` is said with ``erl_call``, which takes milliseconds instead of
seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Self

from tests.harness.workers import until
from tests.servers.server import Server, free_port, mortal, program

SCRIPTS = "/usr/lib/rabbitmq/bin"
COOKIE = "acked-tests"
HEADER = b"AMQP\x00\x00\x09\x01"


KEPT = 2
"""Virtual hosts, the newest, that are not deleted."""


class RabbitServer(Server):
    """RabbitMQ on a free port of 127.0.0.1.

    Args:
        directory: Where it keeps its data and its log.
        settings: Lines of ``rabbitmq.conf``.
    """

    def __init__(self, directory: Path, *settings: str) -> None:
        super().__init__(directory)
        self.node = f"acked-{os.getpid()}-{self.port}@localhost"
        self.distribution_port = free_port()
        self.mapper_port = free_port()
        self.mapper: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        (directory / "rabbitmq.conf").write_text(
            "\n".join(["vm_memory_high_watermark.relative = 0.8", *settings, ""])
        )
        (directory / "enabled_plugins").write_text("[].\n")
        cookie = directory / ".erlang.cookie"
        cookie.write_text(COOKIE)
        cookie.chmod(0o400)

    def command(self) -> list[str]:
        return [program(f"{SCRIPTS}/rabbitmq-server")]

    def environment(self) -> dict[str, str]:
        here = str(self.directory)
        return {
            "PATH": f"{SCRIPTS}:{os.environ.get('PATH', '')}",
            "HOME": here,
            # Then the start script becomes the VM, and a signal reaches it.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_CONFIG_FILE": f"{here}/rabbitmq",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{here}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{here}/mnesia",
            "RABBITMQ_MNESIA_DIR": f"{here}/mnesia/node",
            "RABBITMQ_LOG_BASE": f"{here}/log",
            "RABBITMQ_PID_FILE": f"{here}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 1:1 +SDio 1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}"
            ),
            "ERL_EPMD_PORT": str(self.mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as probe:
                probe.settimeout(2.0)
                probe.sendall(HEADER)
                return len(probe.recv(7)) > 0
        except OSError:
            return False

    def start(self) -> Self:
        if self.mapper is None:
            environment = {**os.environ, **self.environment()}
            self.mapper = subprocess.Popen(
                mortal(
                    [program("epmd"), "-port", str(self.mapper_port), "-address", "127.0.0.1"]
                ),
                env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            until(self._mapper_answers, "an answer of epmd")
        return super().start()

    def _mapper_answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.mapper_port), 1.0).close()
            return True
        return False

    def kill(self) -> None:
        super().kill()
        # The mapper keeps the node's name until its connection is closed, which the kernel does.

    def close(self) -> None:
        """End the server and its mapper, by force."""
        self.kill()
        if self.mapper is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.mapper.pid, signal.SIGKILL)
            self.mapper.wait(10)
            self.mapper = None

    def __exit__(self, *exception: object) -> None:
        self.close()

    def evaluate(self, erlang: str) -> str:
        """What the expression *erlang* is in the server, as Erlang writes it."""
        done = subprocess.run(
            [program("erl_call"), "-c", COOKIE, "-n", self.node, "-e", "-timeout", "30"],
            input=f"{erlang}.\n", env={**os.environ, **self.environment()}, text=True,
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{erlang}: {done.stdout}{done.stderr}"
        return done.stdout

    def fresh(self) -> str:
        """A URL of a new virtual host."""
        number = next(self._numbers)
        name = f"test-{number}"
        # Hundreds of virtual hosts with their queues would make everything slow, and a start take
        # minutes. A test uses two at most.
        forget = f'catch rabbit_vhost:delete(<<"test-{number - KEPT}">>, <<"acked">>), '
        answer = self.evaluate(
            f'{forget if number > KEPT else ""}rabbit_vhost:add(<<"{name}">>, <<"acked">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>, '
            '<<".*">>, <<".*">>, <<".*">>, <<"acked">>)'
        )
        assert "ok" in answer, answer
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{name}"

    def close_connections(self) -> None:
        """Close every client's connection, as an operator would."""
        self.evaluate('rabbit_networking:close_all_connections("closed by the test")')

    def end_queue(self, vhost: str, name: str, *, ended: bool = True) -> None:
        """End the process of the quorum queue *name*, as a crash does; or start it again."""
        what = "stop" if ended else "restart"
        self.evaluate(f"ra:{what}_server(quorum_queues, {_process(vhost, name)})")

    def hang_queue(self, vhost: str, name: str, *, hung: bool = True) -> None:
        """Let the process of the quorum queue *name* answer nothing; or go on."""
        what = "suspend" if hung else "resume"
        self.evaluate(f"sys:{what}(element(1, {_process(vhost, name)}))")

    def limit_queues(self, vhost: str, messages: int, pattern: str = ".*") -> None:
        """Have those queues of *vhost* refuse what is beyond that many messages."""
        self.evaluate(
            f'rabbit_policy:set(<<"{vhost}">>, <<"limit">>, <<"{pattern}">>, '
            f'[{{<<"max-length">>, {messages}}}, {{<<"overflow">>, <<"reject-publish">>}}], '
            '0, <<"queues">>, <<"acked">>)'
        )

    def limit_number_of_queues(self, vhost: str, queues: int) -> None:
        """Have *vhost* make no more than that many."""
        self.evaluate(
            f'rabbit_vhost_limit:set(<<"{vhost}">>, [{{<<"max-queues">>, {queues}}}], <<"acked">>)'
        )

    def alarm(self, on: bool) -> None:
        """Raise or clear the memory alarm."""
        what = "0.0000001" if on else "0.8"
        self.evaluate(f"vm_memory_monitor:set_vm_memory_high_watermark({what})")


def _process(vhost: str, name: str) -> str:
    """Erlang for the process of a queue."""
    resource = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"{name}">>)'
    return f"amqqueue:get_pid(element(2, rabbit_amqqueue:lookup({resource})))"
