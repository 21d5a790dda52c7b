"""What every command prints and how it fails.

Guarantees: results go to stdout, everything else to stderr; a failure is one clear line that says what to do, never a
traceback; text from a server or a file cannot move the cursor or set colours, because control characters are removed.
Does not: log. The programs log; the command line talks to a person or a script.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from rich.console import Console

EXIT_FAILED = 1
EXIT_USAGE = 2
_PLAIN_WIDTH = 240


class CliError(Exception):
    """Raise when a command cannot do what was asked; the message says why and what to do. Exit code 1."""

    code = EXIT_FAILED


class UsageError(CliError):
    """Raise when the command line itself is wrong. Exit code 2."""

    code = EXIT_USAGE


class OneForWrongUsage(TyperCommand):
    """A command of which 2 is an answer: a wrong command line is 1, so that no script takes it for one."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the command line."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except Exception as error:
            if getattr(error, "exit_code", None) == EXIT_USAGE:
                error.exit_code = EXIT_FAILED  # type: ignore[attr-defined]
            raise


class Format(StrEnum):
    """How results are printed."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[
    Format, typer.Option("--output", "-o", help="text for people, json for scripts.", show_default=True)
]


def fail(error: CliError) -> NoReturn:
    """Print the error and leave with its exit code."""
    note(f"error: {error}")
    sys.exit(error.code)


def note(line: str) -> None:
    """A line for the person, not part of the result."""
    print(clean(line), file=sys.stderr, flush=True)


def say(line: str = "") -> None:
    """A line of the result."""
    print(clean(line), flush=True)


def print_json(value: Any) -> None:
    """The result as JSON, keys in the order given."""
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)


def clean(text: str) -> str:
    """The text without control characters other than newline and tab: a terminal obeys escape sequences in data."""
    return "".join(c for c in text if c in "\n\t" or c.isprintable() or unicodedata.category(c) == "Zs")


def one_line(text: str, limit: int = 300) -> str:
    """The text on one line, cut at ``limit`` characters."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def console(*, stderr: bool = False) -> Console:
    """A rich console; plain text when the stream is no terminal."""
    from rich.console import Console  # a tenth of a second that `--help` need not pay

    found = Console(stderr=stderr, highlight=False, markup=False)
    # Where nobody looks at a screen, a line is a line: tables and trees are not wrapped at 80 columns.
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, markup=False, width=_PLAIN_WIDTH)
