"""`make demo`: one base model, three adapters, three tenants, on this machine.

python -m examples.demo                  shows everything, then stops what it started
python -m examples.demo --keep-running   registers everything, then serves until Ctrl-C
python -m examples.demo --json           the figures as JSON on stdout, the rest on stderr
"""

import argparse
import asyncio
import json
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from examples.demo.layout import ADAPTER_NAMES
from examples.demo.prompts import SHOWCASE
from examples.demo.setup import (
    OWNER,
    SHARED_ADAPTER,
    STRANGER,
    DemoTenants,
    demo_stack,
    register_demo,
)
from examples.demo.show.measurements import measure_latency, measure_throughput
from examples.demo.show.memory import print_residency
from examples.demo.show.panels import Showcase, columns_of
from lorikeet import AsyncClient
from lorikeet.cli.failures import report
from lorikeet.cli.output import command
from lorikeet.cli.serve import publish_state, wait_for_interrupt
from lorikeet.local import LocalStack
from lorikeet.process import ServiceFailedError, interrupt_on_sigterm
from lorikeet.rpc.errors import LorikeetError
from lorikeet.state import ServeState

_PIPE_WIDTH = 120


class Demo:
    """The steps in order; each prints what it did. `figures` collects what `--json` prints."""

    def __init__(self, stack: LocalStack, console: Console) -> None:
        self.stack = stack
        self.console = console
        self.figures: dict[str, Any] = {}
        self._began = time.perf_counter()

    async def register(self) -> DemoTenants:
        """Everything goes through the gRPC admin API, as an operator would do it."""
        self.heading("Registering through the admin API")
        async with self.stack.async_admin() as admin:
            return await register_demo(admin, lambda line: self.console.print(f"  {line}"))

    async def prefetch(self, client: AsyncClient, adapter: str) -> None:
        """Loads one adapter before anyone asks for it; the others load on first use."""
        self.heading(f"Prefetching {adapter}; the other adapters load on first use")
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
        )
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(adapter)
            async for step in client.prefetch([adapter]):
                bar.update(task, completed=step.bytes_done, total=step.bytes_total or None)

    async def showcase(self, client: AsyncClient) -> None:
        """Every prompt to the base and to every adapter, all in one batch."""
        self.heading("The same prompt to the base and every adapter, at the same time")
        for expert, messages in SHOWCASE.items():
            showcase = Showcase(messages, columns_of(ADAPTER_NAMES), expert)
            await showcase.run(client, self.console)

    async def refusal(self, api_key: str) -> None:
        """A tenant that is on no allow-list asks for an adapter."""
        adapter = f"{OWNER}/{SHARED_ADAPTER}"
        self.heading(f"{STRANGER} is not on the allow-list of {adapter}")
        async with self.stack.async_client(api_key) as client:
            try:
                await client.generate("Hello", adapter, max_tokens=8)
            except LorikeetError as error:
                self.console.print(f"  {error.code.name}: {error.message}", markup=False)
                self.figures["refusal"] = error.code.name
            else:
                raise AssertionError("the allow-list did not hold")

    async def residency(self, client: AsyncClient) -> None:
        """Where the adapters are now, and the memory of it all."""
        self.heading("Residency and memory, as the server reports them")
        server, adapters = await client.server_info(), await client.loaded()
        comparison = print_residency(self.console, server, adapters)
        self.figures["memory"] = comparison.as_json()

    async def measure(self, client: AsyncClient) -> None:
        """Latency and throughput, each next to its bar."""
        self.heading("Measured over gRPC, from this process")
        latency = await measure_latency(client)
        self.console.print(f"  {latency}")
        throughput = await measure_throughput(client, ADAPTER_NAMES)
        self.console.print(f"  {throughput}")
        self.figures |= latency.as_json() | throughput.as_json()

    def heading(self, text: str) -> None:
        """A step and when it began."""
        seconds = time.perf_counter() - self._began
        self.console.print(f"\n[bold]{text}[/bold] [dim]({seconds:.1f} s)[/dim]")

    def summary(self) -> None:
        """The time of everything, starting included."""
        seconds = time.perf_counter() - self._began
        self.figures["total_seconds"] = seconds
        self.console.print(f"\nTotal time {seconds:.1f} s.")


async def show(stack: LocalStack, console: Console) -> dict[str, Any]:
    """Runs the whole demo and returns its figures."""
    demo = Demo(stack, console)
    demo.heading("Starting the registry and the inference service")
    async with stack:
        console.print(f"  registry {stack.registry_address}, inference {stack.inference_address}")
        tenants = await demo.register()
        async with stack.async_client(tenants.owner) as client:
            await demo.prefetch(client, ADAPTER_NAMES[0])
            await demo.showcase(client)
            await demo.refusal(tenants.stranger)
            await demo.residency(client)
            await demo.measure(client)
    demo.summary()
    return demo.figures


def keep_running(stack: LocalStack, console: Console) -> None:
    """Serves the demo until Ctrl-C, with the state file that the command line reads."""
    demo = Demo(stack, console)
    demo.heading("Starting the registry and the inference service")
    with stack:
        tenants = asyncio.run(demo.register())
        publish_state(stack, tenants.keys, OWNER)
        question = SHOWCASE[SHARED_ADAPTER][-1]["content"]
        console.print(
            f"\nregistry {stack.registry_address}, inference {stack.inference_address}."
            " Try, in another shell in this directory:\n"
            f'  {command()} chat --adapter math "{question}"\n'
            f"  {command()} --tenant {STRANGER} generate --adapter {OWNER}/math Hello\n"
            f"  {command()} loaded\n"
            "Ctrl-C stops both services.",
            markup=False,
            soft_wrap=True,
        )
        try:
            wait_for_interrupt(stack)
        finally:
            ServeState.remove()


def _console(to_stderr: bool) -> Console:
    console = Console(stderr=to_stderr, highlight=False)
    if console.is_terminal:
        return console
    return Console(stderr=to_stderr, highlight=False, width=_PIPE_WIDTH)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--keep-running", action="store_true", help="serve until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    console = _console(to_stderr=arguments.json)
    try:
        with interrupt_on_sigterm():
            _run(arguments, console)
    except KeyboardInterrupt:
        sys.exit(130)
    except (LorikeetError, ServiceFailedError) as error:
        report(error)
        sys.exit(1)


def _run(arguments: argparse.Namespace, console: Console) -> None:
    stack = demo_stack()
    if arguments.keep_running:
        keep_running(stack, console)
        return
    figures = asyncio.run(show(stack, console))
    if arguments.json:
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
