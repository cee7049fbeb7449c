"""The command line: `main` is what ``acked`` and ``python -m acked`` run."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from acked.cli.exits import Exit, Stop, code_of, line_for
from acked.cli.root import root
from acked.errors import AckedError
from acked.escaping import one_line

DEBUG_VARIABLE = "ACKED_DEBUG"


def main() -> NoReturn:
    """Run the command that this process was called with, and exit with its code."""
    # None where its descriptor is closed.
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A task's text may hold what this terminal's encoding has not.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run one command.

    Returns:
        The exit code, one of `Exit` or what a worker ended with.
    """
    try:
        # Not root.main(): where the pipe breaks inside a command, that ends with exit code 1.
        with root.make_context("acked", list(args)) as context:
            code = root.invoke(context)
        sys.stdout.flush()
        return code if isinstance(code, int) else Exit.FINE
    except click.exceptions.Exit as end:  # --help, --version
        return end.exit_code
    except (click.Abort, EOFError, KeyboardInterrupt):
        return _report("interrupted", Exit.INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as help_text:
        help_text.show()
        return Exit.USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "acked"
        what = error.format_message().removesuffix(".")
        return _report(f"{what}: see {where} --help", Exit.USAGE)
    except click.ClickException as error:
        return _report(error.format_message(), Exit.USAGE)
    except Stop as stop:
        return _report(str(stop), stop.code, *stop.details)
    except BrokenPipeError:
        # Whoever read the output has seen enough. What is still buffered has nowhere to go, and
        # must not be tried again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FINE
    except AckedError as error:
        if _debugging():
            raise
        return _report(str(error), code_of(error))
    except Exception as error:
        if _debugging():
            raise
        return _report(
            f"{type(error).__name__}: {error}: {DEBUG_VARIABLE}=1 shows where", Exit.FAILED
        )


def _debugging() -> bool:
    return os.environ.get(DEBUG_VARIABLE) == "1"


def _report(text: str, code: Exit, *details: str) -> Exit:
    print(line_for(text), *map(one_line, details), sep="\n", file=sys.stderr)
    return code
