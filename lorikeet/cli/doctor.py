"""`lorikeet doctor`: the deployment's checklist."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lorikeet.cli.output import JsonOption, make_table, print_json, stdout
from lorikeet.cli.settings import Settings
from lorikeet.doctor.inference import check_inference
from lorikeet.doctor.machine import check_machine
from lorikeet.doctor.model import check_model
from lorikeet.doctor.naming import check_adapter
from lorikeet.doctor.service_hosts import check_service_host
from lorikeet.doctor.services import Target, check_registry
from lorikeet.rpc.checklist import Checklist, Finding

_STYLES = {"ok": "green", "failed": "bold red", "skipped": "dim"}


def doctor(
    context: typer.Context,
    model: Annotated[
        Path | None, typer.Option(help="Directory of the base model, to check its files.")
    ] = None,
    base_model: Annotated[str, typer.Option(help="Its id in the registry.")] = "",
    adapter: Annotated[str, typer.Option(help="A name that clients use.")] = "",
    data_dir: Annotated[Path, typer.Option(help="Where a service keeps its files.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Checks a deployment layer by layer; exit status 1 when a check fails.

    Runs from a client's machine and where the services run: what it has no settings for is
    skipped, and says so.
    """
    settings = Settings.of(context)
    registry, inference = _targets(settings)
    checklist = Checklist()
    check_machine(checklist, data_dir)
    check_service_host(checklist, "registry")
    check_registry(checklist, registry)
    check_model(checklist, model, base_model, registry)
    check_service_host(checklist, "inference")
    check_inference(checklist, inference, registry)
    check_adapter(checklist, adapter, registry, inference)
    _show(checklist.findings, as_json)
    raise typer.Exit(int(any(finding.status == "failed" for finding in checklist.findings)))


def _targets(settings: Settings) -> tuple[Target, Target]:
    """Registry and inference; a running `lorikeet serve` lends its keys for its own services."""
    state = settings.state
    admin_key = tenant_key = settings.api_key
    if state and not settings.api_key:
        admin_key = state.admin_key if state.registry == settings.registry else ""
        tenant_key = state.admin_key if state.inference == settings.inference else ""
    rest = (settings.tls.ca, settings.tls.cert, settings.tls.key, settings.insecure)
    return (
        Target(settings.registry, admin_key, settings.tenant, *rest),
        Target(settings.inference, tenant_key, "", *rest),
    )


def _show(findings: Sequence[Finding], as_json: bool) -> None:
    if as_json:
        print_json(findings)
        return
    rows = [
        (
            f"[{_STYLES[finding.status]}]{finding.status}[/]",
            finding.layer,
            finding.check,
            escape(finding.detail + (f"\n→ {finding.advice}" if finding.advice else "")),
        )
        for finding in findings
    ]
    stdout().print(make_table(("", "layer", "check", "finding"), rows))
