"""docs/lifecycle.md is a state machine with a test per transition: what it names exists, what exists is named."""

import ast
import re
from pathlib import Path

from tenantplane_operator.tenant import story

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "lifecycle.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Text below a heading, to the next one."""
    return re.split(r"^## ", TEXT.split(f"\n## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(title: str) -> list[list[str]]:
    """Cells of the table in a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def functions() -> dict[str, Path]:
    """Every test function of the operator's tests."""
    found = {}
    for path in sorted((ROOT / "tests" / "operator").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found[node.name] = path
    return found


def test_every_transition_names_a_test_that_exists() -> None:
    table = rows("Transitions")
    assert len(table) > 20
    existing = functions()
    for transition, who, what, test in table:
        assert transition, "a transition"
        assert who, f"{transition}: who may cause it"
        assert what, f"{transition}: what happens"
        name = test.strip("`")
        assert name in existing, f"{transition}: there is no test {name}"


def test_every_test_of_the_lifecycle_is_a_transition() -> None:
    """A transition that is tested and not written down is one that nobody can know of."""
    named = {row[3].strip("`") for row in rows("Transitions")}
    files = ("test_lifecycle.py", "test_hold.py", "test_crds.py")
    here = {name for name, path in functions().items() if path.name in files and path.parent.name == "e2e"}
    assert here - named == {"test_single_deletions_are_never_delayed"}


def test_states_of_the_transitions_are_explained() -> None:
    states = {row[0] for row in rows("States")}
    words = {word for row in rows("Transitions") for word in re.findall(r"\b[A-Z][a-z]+\b", row[0].split(",")[0])}
    assert words <= states | {"Platform", "Secrets"}


def test_events_of_a_tenant_are_listed() -> None:
    listed = set(re.findall(r"`([A-Za-z]+)`", " ".join(row[0] for row in rows("Events"))))
    source = ROOT / "operator" / "tenantplane_operator"
    recorded = re.compile(r'(?:record\(\s*\w+(?:\.\w+)*, "\w+", |Event\("\w+", )"([A-Za-z]+)"')
    told = set()
    for path in (source / "tenant" / "deletion.py", source / "tenant" / "story.py", source / "deletions.py"):
        told |= set(recorded.findall(path.read_text(encoding="utf-8")))
    assert told | set(story._NAMESPACE.values()) | {"TenantReady"} == listed
