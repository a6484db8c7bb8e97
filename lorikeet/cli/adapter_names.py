"""Names of adapters as arguments, and how a shell completes them."""

from typing import Annotated

import typer

from lorikeet.cli.failures import EXPECTED
from lorikeet.cli.settings import Settings, TlsOptions

_COMPLETION_SECONDS = 1.0


def complete_adapter(context: typer.Context, incomplete: str) -> list[str]:
    """The adapters of the tenant that is named, or of the one that is acted for.

    A shell waits for this while somebody types: nothing that goes wrong is worth a word.
    """
    try:
        settings = _settings(context)
        tenant, slash, prefix = incomplete.rpartition("/")
        if not (tenant or settings.tenant):
            return []
        with settings.admin() as admin:
            adapters = admin.first_adapters(
                tenant or settings.tenant, prefix, timeout=_COMPLETION_SECONDS
            )
    except EXPECTED:
        return []
    return [f"{tenant}{slash}{adapter.name.rpartition('/')[2]}" for adapter in adapters]


def _settings(context: typer.Context) -> Settings:
    """What the root command would resolve; while a shell completes, it has not been called."""
    given = context.find_root().params
    tls = TlsOptions(given["tls_ca"], given["tls_cert"], given["tls_key"])
    return Settings.resolve(
        registry=given["registry"] or "",
        inference=given["inference"] or "",
        api_key=given["api_key"] or "",
        tenant=given["tenant"] or "",
        insecure=bool(given["insecure"]),
        tls=tls,
    )


AdapterArgument = Annotated[
    str,
    typer.Argument(help="The adapter: `math` or `acme/math`.", autocompletion=complete_adapter),
]
AdapterOption = Annotated[
    str,
    typer.Option(
        "--adapter",
        "-a",
        help="`math`, `math@3`, `acme/math`; none: the base.",
        autocompletion=complete_adapter,
    ),
]
