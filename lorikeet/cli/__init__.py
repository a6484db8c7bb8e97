"""The `lorikeet` command line: one command group per file, assembled here."""

from pathlib import Path
from typing import Annotated

import typer

from lorikeet.cli import (
    adapters,
    audit,
    bench,
    doctor,
    drain,
    generation,
    keys,
    principals,
    registry,
    requests,
    runtime,
    serve,
    tenants,
    top,
)
from lorikeet.cli.comparison.command import compare
from lorikeet.cli.failures import ReportingGroup
from lorikeet.cli.settings import Settings, TlsOptions

app = typer.Typer(
    cls=ReportingGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Serve many LoRA fine-tunes of one base model to many tenants.",
)
app.add_typer(adapters.app, name="adapters")
app.add_typer(tenants.app, name="tenants")
app.add_typer(keys.app, name="keys")
app.add_typer(principals.app, name="principals")
app.add_typer(registry.app, name="registry")
app.command()(principals.whoami)
app.command()(audit.audit)
app.command()(serve.serve)
app.command()(generation.generate)
app.command()(generation.chat)
app.command()(compare)
app.command()(runtime.prefetch)
app.command()(runtime.loaded)
app.command()(requests.requests)
app.command()(top.top)
app.command()(runtime.unload)
app.command()(runtime.pin)
app.command()(runtime.unpin)
app.command()(runtime.info)
app.command()(drain.drain)
app.command()(bench.bench)
app.command()(doctor.doctor)


@app.callback()
def connect(
    context: typer.Context,
    registry: Annotated[
        str, typer.Option(envvar="LORIKEET_REGISTRY", help="Address of the registry.")
    ] = "",
    inference: Annotated[
        str, typer.Option(envvar="LORIKEET_INFERENCE", help="Address of the inference service.")
    ] = "",
    api_key: Annotated[
        str,
        typer.Option(
            envvar="LORIKEET_API_KEY",
            help="Whom to call as: an API key or a JWT.",
            show_envvar=True,
        ),
    ] = "",
    tenant: Annotated[
        str, typer.Option(envvar="LORIKEET_TENANT", help="The tenant to act for.")
    ] = "",
    insecure: Annotated[
        bool,
        typer.Option(envvar="LORIKEET_INSECURE", help="Allow plaintext on a private network."),
    ] = False,
    tls_ca: Annotated[
        Path | None,
        typer.Option(envvar="LORIKEET_TLS_CA", help="PEM authorities to trust; turns TLS on."),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(envvar="LORIKEET_TLS_CERT", help="PEM certificate to show; turns TLS on."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(envvar="LORIKEET_TLS_KEY", help="Its PEM key.")
    ] = None,
) -> None:
    """Connection settings. What is not given comes from the running `lorikeet serve`.

    An address may begin with grpcs:// for TLS with the public authorities.
    """
    tls = TlsOptions(tls_ca, tls_cert, tls_key)
    context.obj = Settings.resolve(registry, inference, api_key, tenant, insecure, tls)
