"""`lorikeet requests`: what the inference service serves now."""

from collections.abc import Iterable

import typer
from google.protobuf.duration_pb2 import Duration
from rich.table import Table

from lorikeet.cli.output import JsonOption, make_table, print_json, short, stdout
from lorikeet.cli.settings import Settings
from protos import inference_pb2 as pb


def requests(context: typer.Context, as_json: JsonOption = False) -> None:
    """Lists the requests that wait or run now: the tenant's, or all for administrators."""
    with Settings.of(context).overseer() as client:
        found = client.requests()
    if as_json:
        print_json(found)
    else:
        stdout().print(requests_table(found) if found else "no request is being served")


def requests_table(found: Iterable[pb.RequestInfo]) -> Table:
    """Oldest first, as the server tells them."""
    rows = (
        (
            f"{seconds_of(item.age):.1f} s",
            item.tenant,
            short(item.principal),
            short(item.adapter_version) or "(base model)",
            state_name(item),
            str(item.prompt_tokens),
            str(item.completion_tokens),
            first_token(item),
            item.request_id,
        )
        for item in found
    )
    columns = ("age", "tenant", "principal", "adapter", "state", "prompt", "tokens")
    table = make_table((*columns, "first token", "request"), rows)
    for column in (0, 5, 6, 7):
        table.columns[column].justify = "right"
    return table


def state_name(item: pb.RequestInfo) -> str:
    return pb.RequestState.Name(item.state).removeprefix("REQUEST_STATE_").lower()


def first_token(item: pb.RequestInfo) -> str:
    """How long it took, or a dash before it."""
    if not item.HasField("time_to_first_token"):
        return "-"
    return f"{1000 * seconds_of(item.time_to_first_token):.0f} ms"


def seconds_of(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
