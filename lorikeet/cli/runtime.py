"""`lorikeet prefetch`, `loaded`, `unload`, `pin`, `unpin` and `info`: what the server holds."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.progress import TaskID
from rich.table import Table

from lorikeet.cli.adapter_names import complete_adapter
from lorikeet.cli.output import (
    JsonOption,
    byte_progress,
    format_bytes,
    make_table,
    print_json,
    print_table,
    stdout,
)
from lorikeet.cli.settings import Settings
from protos import inference_pb2 as pb


def prefetch(
    context: typer.Context,
    adapters: Annotated[
        list[str],
        typer.Argument(
            help="Adapters to load before they are used.", autocompletion=complete_adapter
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Loads adapters, so that their first request does not wait. One that fails stops no other."""
    finished: list[pb.PrefetchProgress] = []
    try:
        with Settings.of(context).client() as client, byte_progress() as progress:
            tasks: dict[str, TaskID] = {name: progress.add_task(name) for name in adapters}
            for update in client.prefetch(adapters):
                progress.update(
                    tasks[update.adapter],
                    completed=update.bytes_done,
                    total=update.bytes_total or None,
                )
                if update.done:
                    finished.append(update)
    finally:  # what became of the others is told even when one failed
        if as_json:
            print_json(finished)
        elif finished:
            print_table(("adapter", "tier", "size", "failed"), map(_prefetched, finished), "")


def _prefetched(item: pb.PrefetchProgress) -> tuple[str, str, str, str]:
    return item.adapter, _tier(item.tier), format_bytes(item.bytes_total), item.failure.reason


def loaded(context: typer.Context, as_json: JsonOption = False) -> None:
    """Lists the adapters the inference service holds."""
    with Settings.of(context).client() as client:
        _show(client.loaded(), as_json)


def _show(adapters: Sequence[pb.LoadedAdapter], as_json: bool) -> None:
    if as_json:
        print_json(adapters)
    else:
        stdout().print(residency_table(adapters) if adapters else "no adapter is loaded")


def unload(
    context: typer.Context,
    adapter: Annotated[
        str, typer.Argument(help="The adapter to free.", autocompletion=complete_adapter)
    ],
    drain: Annotated[bool, typer.Option(help="Wait for the requests that use it.")] = False,
    delete_from_disk: Annotated[bool, typer.Option(help="Forget its file copy too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Frees the memory of an adapter."""
    with Settings.of(context).client() as client:
        response = client.unload(adapter, drain=drain, delete_from_disk=delete_from_disk)
    if as_json:
        print_json(response)
    else:
        stdout().print(
            f"freed {response.freed_pages} pages of {adapter}, which is now on tier "
            f"{_tier(response.tier)}",
            markup=False,
        )


def pin(
    context: typer.Context,
    adapter: Annotated[
        str, typer.Argument(help="The adapter to keep in memory.", autocompletion=complete_adapter)
    ],
    as_json: JsonOption = False,
) -> None:
    """Keeps an adapter in memory until it is unpinned. For administrators."""
    with Settings.of(context).client(as_administrator=True) as client:
        _show([client.pin(adapter)], as_json)


def unpin(
    context: typer.Context,
    adapter: Annotated[
        str,
        typer.Argument(
            help="The adapter that may be evicted again.", autocompletion=complete_adapter
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Lets a pinned adapter leave memory again. For administrators."""
    with Settings.of(context).client(as_administrator=True) as client:
        _show([client.unpin(adapter)], as_json)


def info(context: typer.Context, as_json: JsonOption = False) -> None:
    """Shows the base model served, limits, and memory by use."""
    with Settings.of(context).client() as client:
        server = client.server_info()
    if as_json:
        print_json(server)
        return
    memory = server.memory
    device = server.device_memory
    used = (
        f"{memory.kv_pages} KV, {memory.cached_pages} cached, {memory.adapter_pages} adapter, "
        f"{memory.free_pages} free"
    )
    rows = (
        ("base model", f"{server.base_model} ({server.base_model_revision})"),
        ("device", f"{server.device}, {server.dtype}"),
        ("weights", format_bytes(server.base_weight_bytes)),
        ("arena", f"{format_bytes(memory.page_bytes * memory.total_pages)}: {used} pages"),
        (
            "device memory",
            f"{format_bytes(device.total_bytes)}, {format_bytes(device.available_bytes)} "
            f"available, {format_bytes(device.process_bytes)} of the engine",
        ),
        ("host memory", f"{format_bytes(memory.host_bytes)} of packed adapters"),
        ("limits", f"{server.max_model_len} tokens, {server.max_num_seqs} sequences"),
        ("warm", f"{server.num_warm_adapters_ready} of {server.num_warm_adapters} adapters"),
        ("requests", f"{server.num_running} running, {server.num_waiting} waiting"),
        ("version", server.version),
    )
    print_table(("", ""), rows, "")


def residency_table(adapters: Sequence[pb.LoadedAdapter]) -> Table:
    """Where each adapter is and what it takes there."""
    rows = (
        (
            item.adapter_version.removeprefix("tenants/")
            .replace("/adapters/", "/")
            .replace("/versions/", "@"),
            _state(item),
            str(item.rank),
            str(item.pages),
            format_bytes(item.device_bytes),
            format_bytes(item.disk_bytes),
            str(item.running_requests),
        )
        for item in adapters
    )
    columns = ("adapter", "tier", "rank", "pages", "in memory", "on disk", "requests")
    return make_table(columns, rows)


def _state(item: pb.LoadedAdapter) -> str:
    """Its tier, why it stays there, and why it came no further."""
    reasons = [item.failure.reason] if item.HasField("failure") else []
    kept = ["warm"] * item.warm + ["pinned"] * item.pinned
    return ", ".join([_tier(item.tier), *kept, *reasons])


def _tier(tier: pb.Tier) -> str:
    return pb.Tier.Name(tier).removeprefix("TIER_").lower() if tier else ""
