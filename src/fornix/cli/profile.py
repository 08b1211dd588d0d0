"""Where the time of a run goes, for people, as JSON, and as a trace that browsers show.

Decides what is told; `fornix.runtime.reports.profile` decides what is measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

    from fornix.cli.console import Page
    from fornix.compile.peak import Peak
    from fornix.runtime.reports.profile import Entry, Profile
    from fornix.runtime.session import InferenceSession

MAX_ROWS = 24
"""Rows of the table unless all are asked for."""
BAR_WIDTH = 12
"""Columns."""


def profiled(
    session: InferenceSession,
    feeds: Mapping[str, Any],
    repeats: int,
    model: str,
    trace: str | None,
) -> dict[str, Any]:
    """What is told of runs of ``session``; the trace goes to a file."""
    from fornix.runtime.reports.profile import measured_peak

    profile = session.profile(feeds, repeats)
    told = as_told(profile, measured_peak(profile.threads))
    if trace is not None:
        write_trace(profile, told, model, trace)
    return told


def as_told(profile: Profile, peak: Peak) -> dict[str, Any]:
    """Everything that is told of ``profile``."""
    sums = [sum(spans) for spans in zip(*map(seconds_by_run, profile.entries), strict=True)]
    return {
        "threads": profile.threads,
        "repeats": len(profile.runs),
        "seconds": profile.seconds,
        "least_seconds": min(span.seconds for span in profile.runs),
        "kernel_seconds": median(sums) if sums else 0.0,
        "numpy_seconds": sum(e.seconds for e in profile.entries if e.is_numpy),
        "operations": sum(entry.operations or 0 for entry in profile.entries),
        "peak": {
            "operations_per_second": peak.operations,
            "read_bytes_per_second": peak.read,
            "copied_bytes_per_second": peak.copied,
        },
        "kernels": [kernel(entry, peak) for entry in profile.entries],
        "bodies": [
            {"path": list(entry.path), "times": len(entry.spans), **kernel(entry, peak)}
            for entry in profile.inside
        ],
    }


def seconds_by_run(entry: Entry) -> list[float]:
    """The seconds of each run."""
    return [span.seconds for span in entry.spans]


def kernel(entry: Entry, peak: Peak) -> dict[str, Any]:
    """What is told of one kernel: of one run, in which one in a body may have run many times."""
    times = len(entry.spans) if entry.path else 1
    operations = None if entry.operations is None else entry.operations * times
    moved = entry.bytes * times
    taken = entry.total if entry.path else entry.seconds
    seconds = max(taken, 1e-9)
    return {
        "name": entry.name,
        "kind": entry.kind,
        "nodes": [node.name or node.op_type for node in entry.nodes],
        "types": list(entry.types),
        "seconds": taken,
        "least_seconds": min(seconds_by_run(entry)),
        "operations": operations,
        "bytes": moved,
        "operations_share": None if operations is None else operations / seconds / peak.operations,
        "bytes_share": moved / seconds / peak.bytes,
        "reason": entry.reason,
    }


def tell_profile(told: Mapping[str, Any], trace: str | None, *, everything: bool) -> None:
    """Print the table of kernels, the costliest first, those alike in one row."""
    from fornix.cli.console import Page

    page = Page()
    page.say("")
    most = None if everything else MAX_ROWS
    tell_kernels(told["kernels"], seconds_of(told["kernels"]), told["peak"], page, most)
    if told["bodies"]:
        page.say("")
        page.say("in bodies, in one more run; part of the time of the nodes around them:")
        outermost = seconds_of([one for one in told["bodies"] if len(one["path"]) == 1])
        tell_kernels(told["bodies"], outermost, told["peak"], page, most)
    run = (*told["kernels"], *told["bodies"])
    for name, where, reason in sorted({reason_of(x) for x in run if x["reason"]}):
        page.say(f"{name} {where}: {reason}")
    page.say("")
    page.say(summary(told))
    page.say(peak_text(told))
    if trace is not None:
        page.say(f"wrote {trace}, for chrome://tracing and https://ui.perfetto.dev")


def tell_kernels(
    kernels: Sequence[dict[str, Any]],
    total: float,
    peak: Mapping[str, float],
    page: Page,
    most: int | None,
) -> None:
    """Print a table of ``kernels``, whose time is ``total``, with a line for what it leaves out."""
    from fornix.cli.console import table, time_text

    headers = {"time": "right", " bar": "left", "share": "right", "times": "right"}
    headers |= {"kernel": "left", "loops": "left", "result": "left"}
    headers |= dict.fromkeys(["GFLOP/s", "of peak", "GB/s", "of peak "], "right")
    groups = grouped(kernels)
    page.tell(table(headers, [row(group, peak, total, page) for group in groups[:most]]))
    rest = groups[most:] if most is not None else []
    if rest:
        left = time_text(sum(seconds_of(group) for group in rest))
        page.say(f"… and {len(rest)} more, {left} in all; --all shows them")


def reason_of(kernel: Mapping[str, Any]) -> tuple[str, str, str]:
    """What has no kernel, what it does instead, and why."""
    from fornix.runtime.reports.profile import BODIES

    drives = "drives its bodies, which are compiled where shapes repeat"
    return (
        kernel["name"],
        drives if kernel["kind"] == BODIES else "runs in NumPy",
        kernel["reason"],
    )


def grouped(kernels: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Kernels alike together, the costliest group first."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for told in kernels:
        place = (tuple(told.get("path", ())), told["name"], told["kind"], tuple(told["types"]))
        key = (*place, told["operations"], told["bytes"])
        groups.setdefault(key, []).append(told)
    return sorted(groups.values(), key=lambda group: -seconds_of(group))


def seconds_of(group: Sequence[Mapping[str, Any]]) -> float:
    """The time of all kernels of ``group``."""
    return float(sum(told["seconds"] for told in group))


def row(
    group: Sequence[Mapping[str, Any]], peak: Mapping[str, float], total: float, page: Page
) -> list[str | Text]:
    """The line of kernels that are alike; ``total`` is the time of all."""
    from fornix.cli.console import bar, styled, time_text

    one = group[0]
    seconds = seconds_of(group)
    share = seconds / max(total, 1e-12)
    each = max(seconds / len(group), 1e-9)
    operations, moved = (one["operations"] or 0) / each, one["bytes"] / each
    best_bytes = max(peak["read_bytes_per_second"], peak["copied_bytes_per_second"])
    return [
        styled(time_text(seconds), "bold"),
        styled(bar(share, BAR_WIDTH, page), "green"),
        f"{share:.1%}",
        str(sum(told.get("times", 1) for told in group)),
        styled("/".join((*one.get("path", ()), one["name"])), "cyan"),
        styled(one["kind"], "yellow" if one["reason"] else ""),
        " ".join(one["types"]),
        f"{operations / 1e9:.1f}" if operations else "",
        f"{operations / peak['operations_per_second']:.0%}" if operations else "",
        f"{moved / 1e9:.1f}",
        f"{moved / best_bytes:.0%}",
    ]


def summary(told: Mapping[str, Any]) -> str:
    """How long a run took, and what of it in kernels."""
    from fornix.cli.console import count_text, time_text

    threads = told["threads"]
    seconds, inside = told["seconds"], told["kernel_seconds"]
    rate = told["operations"] / max(seconds, 1e-9)
    share = rate / told["peak"]["operations_per_second"]
    numpy_seconds = told["numpy_seconds"]
    on = f"{threads} thread{'s' if threads > 1 else ''}"
    least, kernels = time_text(told["least_seconds"]), len(told["kernels"])
    islands = f", of these {time_text(numpy_seconds)} in NumPy" if numpy_seconds else ""
    return (
        f"{time_text(seconds)} a run on {on}, median of {told['repeats']} (least {least}): "
        f"{time_text(inside)} in {kernels} kernel{'' if kernels == 1 else 's'}{islands}; "
        f"{count_text(told['operations'])} operations, {rate / 1e9:.1f} GFLOP/s, "
        f"{share:.0%} of the peak"
    )


def peak_text(told: Mapping[str, Any]) -> str:
    """What the peak is, and how it was measured."""
    peak = told["peak"]
    read, copied = peak["read_bytes_per_second"], peak["copied_bytes_per_second"]
    return (
        f"peak: {peak['operations_per_second'] / 1e9:.0f} GFLOP/s in float32, measured by chains "
        f"of multiply-add; {max(read, copied) / 1e9:.1f} GB/s, the better of reading 128 MiB "
        f"({read / 1e9:.1f}) and copying ({copied / 1e9:.1f}), on the same threads just now. "
        "Memory counts once per kernel: above 100 % caches help"
    )


def write_trace(profile: Profile, told: Mapping[str, Any], model: str, path: str) -> None:
    """Write ``profile`` as a Chrome trace, JSON object format: for chrome://tracing, Perfetto."""
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": f"fornix {model}"}},
        {"ph": "M", "pid": 1, "tid": 1, "name": "thread_name", "args": {"name": "kernels"}},
        {"ph": "M", "pid": 1, "tid": 0, "name": "thread_name", "args": {"name": "runs"}},
    ]
    for number, span in enumerate(profile.runs):
        events.append(event(f"run {number + 1}", "run", span.begin, span.seconds, 0, {}))
    described_entries = (
        *zip(profile.entries, told["kernels"], strict=True),
        *zip(profile.inside, told["bodies"], strict=True),
    )
    for entry, described in described_entries:
        keys = ("nodes", "types", "operations", "bytes", "reason")
        known = {key: described[key] for key in keys if described[key]}
        for span in entry.spans:
            rates = {"GB/s": round(entry.bytes / max(span.seconds, 1e-9) / 1e9, 3)}
            if entry.operations:
                rates["GFLOP/s"] = round(entry.operations / max(span.seconds, 1e-9) / 1e9, 3)
            arguments = {**known, **rates}
            name = "/".join((*entry.path, entry.name))
            events.append(event(name, entry.kind, span.begin, span.seconds, 1, arguments))
    document = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"model": model, "threads": told["threads"], **told["peak"]},
    }
    Path(path).write_text(json.dumps(document, allow_nan=False), encoding="utf-8")


def event(
    name: str, category: str, begin: float, seconds: float, thread: int, arguments: dict[str, Any]
) -> dict[str, Any]:
    """A complete event; times are in microseconds, rounded so that neighbours do not overlap."""
    start, end = round(begin * 1e6, 3), round((begin + seconds) * 1e6, 3)
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "ts": start,
        "dur": round(end - start, 3),
        "pid": 1,
        "tid": thread,
        "args": arguments,
    }
