"""A snapshot as a frame for a terminal, from 80 columns on."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lorikeet.cli.output import format_bytes, make_table, short
from lorikeet.cli.requests import first_token, seconds_of, state_name
from lorikeet.cli.snapshots import Snapshot
from protos import inference_pb2 as pb

_BAR_WIDTH: Final = 40
_FIXED_LINES: Final = 5  # two blank ones, two headings, and that of the tiers
# Told apart by shade where there is no colour.
_USES: Final = (
    ("kv", "█", "green"),
    ("adapter", "▓", "magenta"),
    ("cached", "▒", "cyan"),
    ("free", "░", "bright_black"),
)
_TIERS: Final = {pb.TIER_DEVICE: "device", pb.TIER_HOST: "host", pb.TIER_DISK: "disk"}


def frame(snapshot: Snapshot, height: int, trouble: str = "") -> RenderableType:
    """At most `height` lines, of 20 or more, whatever there is to show.

    Adapters get what requests leave, and at least a third of the room for both.

    `trouble` says why the snapshot is not of now.
    """
    header = _header(snapshot, trouble)
    tenants = _tenants(snapshot, max_rows=height // 6)
    room = height - sum(map(_num_lines, (*header, *tenants))) - _FIXED_LINES
    num_adapters = max(room - len(snapshot.requests), room // 3)
    adapters = _adapters(_by_use(snapshot.adapters)[:num_adapters])
    num_rows = room - sum(table.row_count for table in adapters)
    requests = _requests(snapshot, num_rows)
    return Group(*header, "", requests, "", *tenants, _adapter_line(snapshot), *adapters)


def _num_lines(part: RenderableType) -> int:
    if isinstance(part, Table):
        return part.row_count + 1
    return part.plain.count("\n") + 1 if isinstance(part, Text) else 1


def _header(snapshot: Snapshot, trouble: str) -> list[RenderableType]:
    server = snapshot.server
    first = Text()
    first.append(server.base_model.removeprefix("baseModels/"), "bold")
    first.append(f"  {server.device}, {server.dtype}  ")
    first.append(f"{server.num_running} running", "bold green" if server.num_running else "")
    first.append(f", {server.num_waiting} waiting", "yellow" if server.num_waiting else "")
    first.append(f"  {snapshot.tokens_per_second:.0f} tok/s", "bold")
    lines: list[RenderableType] = [first, _page_bar(server.memory), _memory_line(server)]
    if server.draining:
        lines.append(Text("draining: no request is admitted any more", "bold red"))
    if trouble:
        lines.append(Text(trouble, "bold red"))
    return lines


def _page_bar(memory: pb.MemoryUse) -> Text:
    """Every use that has pages gets at least one character."""
    pages = {use: getattr(memory, f"{use}_pages") for use, _, _ in _USES}
    total = max(1, memory.total_pages)
    bar, legend = Text("pages  "), Text()
    left = _BAR_WIDTH
    for use, block, style in _USES:
        share = max(pages[use] > 0, round(_BAR_WIDTH * pages[use] / total))
        width = left if use == "free" else min(left, share)
        left -= width
        bar.append(block * width, style)
        legend.append(f"  {use} {pages[use]}", style)
    return bar + Text("\n      ") + legend + f"  of {total} x {format_bytes(memory.page_bytes)}"


def _memory_line(server: pb.ServerInfo) -> Text:
    device = server.device_memory
    line = Text(
        f"memory {format_bytes(device.process_bytes)} engine, "
        f"{format_bytes(device.available_bytes)} of {format_bytes(device.total_bytes)} available"
    )
    if server.num_warm_adapters:
        is_warm = server.num_warm_adapters_ready >= server.num_warm_adapters
        warm = f"  warm {server.num_warm_adapters_ready}/{server.num_warm_adapters}"
        line.append(warm, "green" if is_warm else "yellow")
    if server.HasField("registry_lease"):
        seconds = seconds_of(server.registry_lease)
        line.append(f"  lease {seconds:.0f} s", "" if seconds > 0 else "bold red")
    return line


def _requests(snapshot: Snapshot, max_rows: int) -> RenderableType:
    shown = list(zip(snapshot.requests, snapshot.rates, strict=True))
    hidden = 0
    if len(shown) > max_rows:
        hidden = len(shown) - max_rows + 1
        shown = shown[: max_rows - 1]
    rows = [
        (
            f"{seconds_of(item.age):.1f}",
            item.tenant,
            short(item.adapter_version) or "(base model)",
            state_name(item),
            str(item.prompt_tokens),
            str(item.completion_tokens),
            first_token(item),
            f"{rate:.0f}" if item.completion_tokens else "-",
        )
        for item, rate in shown
    ]
    columns = ("age s", "tenant", "adapter", "state", "prompt", "tokens", "ttft", "tok/s")
    table = _table(columns, rows)
    _right(table, 0, 4, 5, 6, 7)
    if not rows:
        return Text("no request is being served", "dim")
    return Group(table, Text(f"and {hidden} more", "dim")) if hidden else table


def _tenants(snapshot: Snapshot, max_rows: int) -> list[RenderableType]:
    """Those that have requests, the busiest first, and a blank line."""
    running: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    rates: Counter[str] = Counter()
    for item, rate in zip(snapshot.requests, snapshot.rates, strict=True):
        is_running = item.state == pb.REQUEST_STATE_RUNNING
        (running if is_running else waiting)[item.tenant] += 1
        rates[item.tenant] += round(rate)
    names = sorted(running | waiting, key=lambda name: (-rates[name], name))
    rows: list[tuple[str, ...]] = [
        (name, str(running[name]), str(waiting[name]), str(rates[name]))
        for name in names[:max_rows]
    ]
    if others := names[max_rows:]:
        sums = (sum(count[name] for name in others) for count in (running, waiting, rates))
        rows.append((f"({len(others)} others)", *map(str, sums)))
    table = _table(("tenant", "running", "waiting", "tok/s"), rows)
    _right(table, 1, 2, 3)
    return [table, ""] if rows else []


def _adapter_line(snapshot: Snapshot) -> Text:
    """How many adapters are on each tier, by the highest one, and their bytes there."""
    tiers = Counter(item.tier for item in snapshot.adapters)
    sizes = {
        pb.TIER_DEVICE: sum(item.device_bytes for item in snapshot.adapters),
        pb.TIER_HOST: sum(item.host_bytes for item in snapshot.adapters),
        pb.TIER_DISK: sum(item.disk_bytes for item in snapshot.adapters),
    }
    line = Text("adapters", "bold")
    for tier, name in _TIERS.items():
        line.append(f"  {name} {tiers[tier]} ({format_bytes(sizes[tier])})", "")
    return line


def _adapters(adapters: Sequence[pb.LoadedAdapter]) -> list[Table]:
    rows = [
        (
            short(item.adapter_version) or item.digest.removeprefix("sha256:")[:12],
            _TIERS.get(item.tier, "remote"),
            str(item.rank) if item.rank else "-",
            format_bytes(item.device_bytes or item.host_bytes or item.disk_bytes),
            str(item.running_requests),
            " ".join(_marks(item)),
        )
        for item in adapters
    ]
    table = _table(("adapter", "tier", "rank", "size", "requests", ""), rows)
    _right(table, 2, 3, 4)
    return [table] if rows else []


def _by_use(adapters: Sequence[pb.LoadedAdapter]) -> list[pb.LoadedAdapter]:
    """Those with most requests first, then those nearest to the device."""
    return sorted(
        adapters, key=lambda item: (-item.running_requests, -item.tier, item.adapter_version)
    )


def _marks(item: pb.LoadedAdapter) -> list[str]:
    marks = {"pinned": item.pinned, "warm": item.warm, "failed": item.HasField("failure")}
    return [mark for mark, is_so in marks.items() if is_so]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = make_table(columns, rows)
    for column in table.columns:
        column.no_wrap = True
    return table


def _right(table: Table, *columns: int) -> None:
    for column in columns:
        table.columns[column].justify = "right"
