"""The images: rules that a linter does not know, and the linter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tenantplane_api.version import __version__

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = ("operator", "dataplane")


def _instructions(program: str) -> list[tuple[str, str]]:
    """(INSTRUCTION, arguments) of a Dockerfile; continued lines joined, comments and blank lines left out."""
    text = (REPOSITORY / f"Dockerfile.{program}").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word.upper(), " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in joined)]


def _stages(program: str) -> list[list[tuple[str, str]]]:
    stages: list[list[tuple[str, str]]] = []
    for instruction in _instructions(program):
        if instruction[0] == "FROM":
            stages.append([])
        if stages:
            stages[-1].append(instruction)
    return stages


def _last(stage: list[tuple[str, str]], word: str) -> str:
    return [rest for name, rest in stage if name == word][-1]


@pytest.mark.parametrize("program", PROGRAMS)
def test_hadolint_finds_nothing(program: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [hadolint, "--failure-threshold=style", f"Dockerfile.{program}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_base_is_pinned_and_can_be_pinned_by_digest(program: str) -> None:
    instructions = _instructions(program)
    assert instructions[0] == ("ARG", "BASE=python:3.11-slim-bookworm")
    assert [rest for name, rest in instructions if name == "FROM"] == ["${BASE} AS build", "${BASE}"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_dependencies_are_constrained_and_only_the_programs_own(program: str) -> None:
    build, _ = _stages(program)
    (install,) = [json.loads(rest) for name, rest in build if name == "RUN" and "install" in rest]
    assert install[1:] == ["install", "--constraint", "constraints.txt", f".[{program}]"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_image_runs_unprivileged_without_a_shell_on_a_read_only_root(program: str) -> None:
    _, final = _stages(program)
    assert _last(final, "USER") == "65532:65532"
    assert _last(final, "HEALTHCHECK") == "NONE"
    assert "PYTHONDONTWRITEBYTECODE=1" in _last(final, "ENV")
    assert json.loads(_last(final, "ENTRYPOINT")) == [f"/opt/tenantplane/bin/tenantplane-{program}"]
    assert json.loads(_last(final, "CMD"))[0] == {"operator": "run", "dataplane": "serve"}[program]
    words = [name for name, _ in final]
    assert "RUN" not in words, "nothing is installed into the final image"
    assert "ADD" not in words
    assert [rest for name, rest in final if name == "COPY"] == ["--from=build /opt/tenantplane /opt/tenantplane"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_label_names_this_version(program: str) -> None:
    _, final = _stages(program)
    assert ("ARG", f"VERSION={__version__}") in final
    for key in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{key}=" in _last(final, "LABEL")


def test_the_build_context_holds_only_what_is_copied() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().split("\n")
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    for program in PROGRAMS:
        copied = [rest.split()[:-1] for name, rest in _instructions(program) if name == "COPY" and "--from" not in rest]
        assert {source for sources in copied for source in sources} == let_in
