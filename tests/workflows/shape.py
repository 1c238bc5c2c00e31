"""What a change of the code would do to workflows that are under way: their commands, and what crosses the wire."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Iterable
from typing import Any

from temporalio import activity, workflow
from temporalio.client import WorkflowHistory

Shape = dict[str, Any]
IDS = re.compile(
    r"\b[a-z]{2,4}_[a-z2-7]{26}\b|\d{4}-\d\d(-\d\d)?([T ]\d\d:\d\d)?|\bamd[\w-]*|\bcan[\w-]*-\d|\d+(?= |$)"
)


def commands(history: WorkflowHistory) -> list[str]:
    """What the workflow asked of the server, each kind once and in order of words, ids taken out.

    Messages may come in between at any moment and make it look again, or do one thing before another; that commands
    come in an order that the code can follow is what replaying the histories shows. A look more or less tells a stage
    more or less, and only what is new is told: so search attributes are those of the whole life.
    """
    attributes = {name for event in history.events for name in _attributes(event)}
    told = [f"search attributes {', '.join(sorted(attributes))}"] if attributes else []
    return sorted({text for event in history.events if (text := _command(event))} | set(told))


def _attributes(event: Any) -> list[str]:
    upserted = event.upsert_workflow_search_attributes_event_attributes
    return list(upserted.search_attributes.indexed_fields)


def _command(event: Any) -> str:
    summary = event.user_metadata.summary.data.decode().strip('"') if event.HasField("user_metadata") else ""
    said = f" ({IDS.sub('…', summary)})" if summary else ""
    match event.WhichOneof("attributes"):
        case "activity_task_scheduled_event_attributes":
            asked = event.activity_task_scheduled_event_attributes
            return f"activity {asked.activity_type.name} on {asked.task_queue.name}{said}"
        case "start_child_workflow_execution_initiated_event_attributes":
            asked = event.start_child_workflow_execution_initiated_event_attributes
            return f"child {asked.workflow_type.name} on {asked.task_queue.name}{said}"
        case "timer_started_event_attributes":
            return f"timer{said}"
        case "marker_recorded_event_attributes":
            return f"marker {event.marker_recorded_event_attributes.marker_name}"
        case "workflow_execution_completed_event_attributes":
            return "complete"
        case "workflow_execution_continued_as_new_event_attributes":
            return "continue as new"
    return ""


def messages(workflows: Iterable[type], activities: Iterable[Callable[..., Any]]) -> Shape:
    """The types of everything that crosses: arguments and answers of activities, runs, updates, signals, queries."""
    values: dict[str, dict[str, str]] = {}
    calls: dict[str, str] = {}
    for act in activities:
        name = activity._Definition.must_from_callable(act).name  # type: ignore[attr-defined]
        calls[f"activity {name}"] = _signature(act, values)
    for kind in workflows:
        defined = workflow._Definition.must_from_class(kind)
        calls[f"run {defined.name}"] = _signature(defined.run_fn, values)
        calls |= {f"update {defined.name}.{n}": _signature(u.fn, values) for n, u in defined.updates.items()}
        calls |= {f"signal {defined.name}.{n}": _signature(s.fn, values) for n, s in defined.signals.items()}
        calls |= {f"query {defined.name}.{n}": _signature(q.fn, values) for n, q in defined.queries.items()}
    return {"calls": dict(sorted(calls.items())), "values": dict(sorted(values.items()))}


def _signature(fn: Callable[..., Any], values: dict[str, dict[str, str]]) -> str:
    hints = typing.get_type_hints(fn)
    answer = _name(hints.pop("return", None), values)
    return f"({', '.join(_name(hint, values) for hint in hints.values())}) -> {answer}"


def _name(hint: Any, values: dict[str, dict[str, str]]) -> str:
    for part in (hint, *typing.get_args(hint)):
        if dataclasses.is_dataclass(part) and isinstance(part, type) and part.__name__ not in values:
            hints = typing.get_type_hints(part)
            values[part.__name__] = {}
            values[part.__name__] |= {f.name: _name(hints[f.name], values) for f in dataclasses.fields(part)}
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
