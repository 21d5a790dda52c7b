"""docs/command-line.md has every command and every option of the program, and nothing that the program has not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tenantplane_cli.main import app

TEXT = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
SECTIONS = {
    title.strip("`").removeprefix("tenantplane "): body
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that can be run, by its words."""
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(path), command
        return
    for name, inner in below.items():
        yield from commands(inner, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_documented_with_an_example_and_every_option(name: str) -> None:
    section = SECTIONS[name]
    assert re.search(rf"^    .*tenantplane {name}\b", section, re.MULTILINE), f"{name}: no example"
    for option in options(COMMANDS[name]):
        where = section + SECTIONS["Common options"]
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", where), f"{name}: {option} is not documented"


def options(command: Any) -> list[str]:
    """All spellings of all options."""
    found = [param for param in command.params if param.param_type_name == "option"]
    return [spelling for param in found for spelling in (*param.opts, *param.secondary_opts)]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_exists_and_describes_every_option(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"])
    assert shown.exit_code == 0
    assert re.search(r"Usage: .* " + re.escape(name), shown.output)
    for param in COMMANDS[name].params:
        assert param.help, f"{name}: {param.name} has no help"
        if param.param_type_name == "option":
            assert param.opts[0] in shown.output


def test_nothing_is_documented_that_is_not_there() -> None:
    assert set(SECTIONS) - {"Common options"} == set(COMMANDS)
    known = {spelling for command in COMMANDS.values() for spelling in options(command)} | {"--help", "-h"}
    for name, body in SECTIONS.items():
        prose = re.sub(r"^    (?!.*tenantplane ).*$", "", body, flags=re.MULTILINE)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose):
            assert option in known, f"{name}: {option}"
