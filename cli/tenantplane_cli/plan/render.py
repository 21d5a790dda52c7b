"""How a plan is printed: YAML of every child, a unified diff, or JSON.

Guarantees: what is printed is data of objects as `compare` lets it be shown, without control characters; what people
should read first (refusals, assumptions, notes) stands at the top as comments, so that YAML stays YAML.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator
from typing import Any, Final

import yaml

from tenantplane_cli.output import clean, one_line
from tenantplane_cli.plan.compare import Action, Change, Plan
from tenantplane_operator.runtime.resources import Manifest

_COLOURS: Final = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}
_RESET: Final = "\x1b[0m"
_VERBS: Final = {
    Action.CREATE: "would be created",
    Action.UPDATE: "would be changed",
    Action.DELETE: "would be deleted",
    Action.NONE: "unchanged",
    Action.UNKNOWN: "not compared",
}


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, and never an alias: an object must read as it is."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dumped(obj: Manifest) -> str:
    """One object as YAML."""
    return clean(yaml.dump(obj, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096))


def comments(plans: list[Plan], origin: str, where: str, denied: set[str]) -> list[str]:
    """What stands at the top, each a line that begins with ``#``."""
    lines = [f"platform: {origin}", where]
    lines += [f"you may not read {what}: not compared" for what in sorted(denied)]
    for plan in plans:
        outlook = plan.outlook
        lines += [f"{outlook.subject}: STALLED: {text}" for text in outlook.stalled]
        lines += [f"{outlook.subject}: {text}" for text in outlook.notes]
        lines += [f"{outlook.subject}: assumed: {text}" for text in outlook.assumed]
    return ["# " + one_line(line, 2000) for line in lines]


def as_yaml(plans: list[Plan]) -> Iterator[str]:
    """Every child that is to be, and a comment for what goes."""
    for plan in plans:
        for change in plan.changes:
            told = _VERBS[change.action] if change.action is not Action.UNKNOWN or change.note else ""
            head = f"# {plan.outlook.subject}: {change.key}" + (f": {told}" if told else "")
            head += f" ({one_line(change.note)})" if change.note else ""
            if change.after is not None:
                yield f"---\n{clean(head)}\n{dumped(change.after)}".rstrip()
            elif change.action is Action.DELETE:
                yield f"---\n{clean(head)}"


def as_diff(plans: list[Plan], *, colour: bool) -> Iterator[str]:
    """What would change, as `kubectl diff` shows it."""
    for plan in plans:
        for change in plan.changes:
            if change.counts:
                yield from _diff(change, colour)


def _diff(change: Change, colour: bool) -> Iterator[str]:
    before = _sorted(change.before) if change.before is not None else []
    after = _sorted(change.after) if change.after is not None and not _untold(change) else []
    place = "/".join(part for part in change.key if part)
    old = "/dev/null" if change.action is Action.CREATE else f"live/{place}"
    new = "/dev/null" if change.action is Action.DELETE else f"planned/{place}"
    if change.note:
        yield f"# {change.key}: {one_line(change.note)}"
    lines = list(difflib.unified_diff(before, after, old, new, lineterm=""))
    for line in lines or [f"--- {old}", f"+++ {new}"]:
        paint = _COLOURS.get(line[:1]) if colour and not line.startswith(("---", "+++")) else None
        yield f"{paint}{line}{_RESET}" if paint else line


def _untold(change: Change) -> bool:
    """An update of which only the fact is known."""
    return change.action is Action.UPDATE and change.before is None


def _sorted(obj: Manifest) -> list[str]:
    text = yaml.dump(obj, Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=4096)
    return clean(text).splitlines()


def as_json(plans: list[Plan], *, origin: str, online: bool, denied: set[str], problems: list[str]) -> dict[str, Any]:
    """Everything for scripts."""
    return {
        "platform": origin,
        "compared": online,
        "changed": any(change.counts for plan in plans for change in plan.changes),
        "stalled": any(plan.outlook.stalled for plan in plans),
        "problems": problems,
        "notReadable": sorted(denied),
        "plans": [
            {
                "subject": plan.outlook.subject,
                "stalled": plan.outlook.stalled,
                "notes": plan.outlook.notes,
                "assumed": plan.outlook.assumed,
                "objects": [
                    {
                        "action": str(change.action),
                        "kind": change.key.kind,
                        "namespace": change.key.namespace,
                        "name": change.key.name,
                        **({"note": change.note} if change.note else {}),
                        **({"planned": change.after} if change.after is not None else {}),
                        **({"diff": list(_diff(change, colour=False))} if change.counts else {}),
                    }
                    for change in plan.changes
                ],
            }
            for plan in plans
        ],
    }


def summary(plans: list[Plan]) -> str:
    """One line of counts."""
    actions = [change.action for plan in plans for change in plan.changes]
    counts = [f"{actions.count(action)} {_VERBS[action]}" for action in Action if actions.count(action)]
    return ", ".join(counts) or "nothing to be made"


def wants_colour() -> bool:
    """Colours for a person at a terminal who did not ask for none (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
