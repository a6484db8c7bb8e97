"""`lorikeet bench`: a load on the inference service, and how it was borne."""

import asyncio
import itertools
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lorikeet.cli.bench_report import print_report
from lorikeet.cli.failures import CommandError
from lorikeet.cli.output import JsonOption, print_json, short
from lorikeet.cli.settings import Settings
from lorikeet.client import AsyncClient
from lorikeet.load.generator import LoadGenerator, Measured
from lorikeet.load.lengths import parse_lengths
from lorikeet.load.prompts import Prompts
from lorikeet.load.report import Report
from lorikeet.load.sample import Sample
from lorikeet.load.workload import PlannedRequest, Workload, parse_workload, plan

_WARMUP_AT_ONCE: Final = 8
_DEFAULT_REQUESTS: Final = 100
_DEFAULT_CONCURRENCY: Final = 8


@dataclass(frozen=True)
class _Load:
    """What is to be run. `rate` None: a closed loop of `concurrency`."""

    workload: Workload
    adapters: tuple[str, ...]
    tenants: tuple[str, ...]
    rate: float | None
    concurrency: int
    requests: int | None
    seconds: float | None
    warmup: int
    prefetch: bool
    seed: int
    salt: str

    def plan(self) -> Iterator[PlannedRequest]:
        return plan(
            self.workload,
            adapters=self.adapters,
            tenants=self.tenants,
            rate=self.rate,
            seed=self.seed,
        )


def bench(
    context: typer.Context,
    workload: Annotated[
        str,
        typer.Option(
            help="slora, sharegpt, thrash, fairness, or how requests are spread over adapters: "
            "identical, distinct, uniform, zipf[:exponent], power[:alpha]."
        ),
    ] = "zipf",
    adapters: Annotated[
        str, typer.Option(help="a,b,c, the most popular first; none: the base model.")
    ] = "",
    adapters_from_list: Annotated[
        bool, typer.Option("--adapters-from-list", help="All that the tenant has.")
    ] = False,
    tenants: Annotated[
        str, typer.Option(help="To act for, with their shares of the requests: acme=1,globex=10.")
    ] = "",
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Requests per second, whatever the answers do.")
    ] = None,
    burstiness: Annotated[
        float, typer.Option(min=0.1, help="Of the gaps: 1 is Poisson, more is in bursts.")
    ] = 1.0,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Requests at a time; the next begins when one ends.")
    ] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="So many; 100.")] = None,
    duration: Annotated[float | None, typer.Option(min=0.1, help="Or for so many seconds.")] = None,
    prompt_tokens: Annotated[
        str, typer.Option(help="64, 8-512, or lognormal:161 for a mean; else the workload's.")
    ] = "",
    output_tokens: Annotated[str, typer.Option(help="The same for answers.")] = "",
    warmup: Annotated[int, typer.Option(min=0, help="Requests before, which do not count.")] = 4,
    prefetch: Annotated[
        bool, typer.Option("--prefetch", help="Load the adapters before the first request.")
    ] = False,
    seed: Annotated[int, typer.Option(help="For the same requests again.")] = 0,
    same_prompts: Annotated[
        bool,
        typer.Option("--same-prompts", help="The same tokens in every run: the cache knows them."),
    ] = False,
    per_adapter: Annotated[
        bool, typer.Option("--per-adapter", help="A table of them too.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Also writes the JSON here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Puts a load on the inference service: delays, throughput, and failures by reason.

    For example: lorikeet bench --adapters math,text2sql --workload zipf --rate 4 --requests 200
    """
    settings = Settings.of(context)
    names, shares = _tenants(tenants)
    if rate is not None and concurrency is not None:
        raise CommandError("give --rate or --concurrency: an open loop has no bound on requests")
    load = _Load(
        workload=_chosen(workload, prompt_tokens, output_tokens, burstiness, shares),
        adapters=_adapters(settings, adapters, from_list=adapters_from_list),
        tenants=names or ("",),
        rate=rate,
        concurrency=concurrency or _DEFAULT_CONCURRENCY,
        requests=requests if requests or duration else _DEFAULT_REQUESTS,
        seconds=duration,
        warmup=warmup,
        prefetch=prefetch,
        seed=seed,
        salt=str(seed) if same_prompts else secrets.token_hex(8),
    )
    client = settings.async_client(as_administrator=bool(names))
    result = asyncio.run(_run(load, client))
    report: Report = result["report"]
    if output is not None:
        content = {**result, "workload": workload, "report": asdict(report)}
        output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if as_json:
        print_json({**result, "workload": workload})
    else:
        print_report(report, per_adapter=per_adapter)
    if report.all.num_failed == report.all.num_requests:
        raise typer.Exit(1)


async def _run(load: _Load, client: AsyncClient) -> dict[str, Any]:
    """What was asked for and what was measured, for people and for programs."""
    async with client:
        info = await client.server_info()
        prompts = await Prompts.of_model(client, load.salt)
        if load.prefetch:
            await _prefetch(load, client)
        with _progress(load) as told:
            generator = LoadGenerator(client, prompts, info.max_model_len, told)
            measured = await _measure(load, generator)
    return {
        "server": {"version": info.version, "base_model": info.base_model, "device": info.device},
        "adapters": list(load.adapters),
        "tenants": list(load.tenants),
        "rate": load.rate,
        "concurrency": None if load.rate else load.concurrency,
        "warmup": load.warmup,
        "seed": load.seed,
        "report": Report.of(measured),
    }


async def _prefetch(load: _Load, client: AsyncClient) -> None:
    for tenant in load.tenants:
        async for _ in client.prefetch([name for name in load.adapters if name], tenant=tenant):
            pass


async def _measure(load: _Load, generator: LoadGenerator) -> Measured:
    planned = load.plan()
    if load.warmup:
        first = itertools.islice(planned, load.warmup)
        await generator.closed(first, min(load.warmup, _WARMUP_AT_ONCE))
    counted = itertools.islice(planned, load.requests)
    if load.rate is None:
        return await generator.closed(counted, load.concurrency, load.seconds)
    if load.seconds is not None:
        counted = itertools.islice(counted, max(1, round(load.rate * load.seconds)))
    return await generator.opened(counted)


@contextmanager
def _progress(load: _Load) -> Iterator[Any]:
    """A line on stderr: requests ended and failed, and tokens so far."""
    num_ended = num_failed = num_tokens = 0
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=load.requests and load.requests + load.warmup)

        def told(sample: Sample) -> None:
            nonlocal num_ended, num_failed, num_tokens
            num_ended += 1
            num_failed += bool(sample.failure)
            num_tokens += sample.num_tokens
            said = f"{num_ended} ended, {num_failed} failed, {num_tokens} tokens"
            progress.update(task, completed=num_ended, description=said)

        yield told


def _chosen(
    workload: str, prompt_tokens: str, output_tokens: str, burstiness: float, shares: list[float]
) -> Workload:
    try:
        chosen = replace(parse_workload(workload), burstiness=burstiness)
        if prompt_tokens:
            chosen = replace(chosen, prompt_tokens=parse_lengths(prompt_tokens))
        if output_tokens:
            chosen = replace(chosen, output_tokens=parse_lengths(output_tokens))
    except ValueError as error:
        raise CommandError(str(error)) from None
    return replace(chosen, shares=tuple(shares)) if shares else chosen


def _tenants(text: str) -> tuple[tuple[str, ...], list[float]]:
    """Names, and shares where one was given."""
    pairs = [item.partition("=") for item in text.split(",") if item]
    try:
        shares = [float(share or 1) for _, _, share in pairs]
    except ValueError:
        raise CommandError(
            f"--tenants {text!r}: give shares as numbers, acme=1,globex=10"
        ) from None
    if any(share <= 0 for share in shares):
        raise CommandError(f"--tenants {text!r}: a share must be above 0")
    is_given = any(share for _, _, share in pairs)
    return tuple(name for name, _, _ in pairs), shares if is_given else []


def _adapters(settings: Settings, text: str, *, from_list: bool) -> tuple[str, ...]:
    """The base model without any."""
    if not from_list:
        return tuple(name for name in text.split(",") if name) or ("",)
    if text:
        raise CommandError("give --adapters or --adapters-from-list")
    tenant = settings.required_tenant()
    with settings.admin() as admin:
        found = admin.list_adapters(tenant)
    names = tuple(short(adapter.name) for adapter in found if adapter.latest_version)
    if not names:
        raise CommandError(f"--adapters-from-list: {tenant} has no adapter with a version")
    return names
