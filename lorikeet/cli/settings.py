"""Where commands connect and as whom: flags and environment first, then the serve state file."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import grpc
import typer

from lorikeet.admin import AdminClient
from lorikeet.cli.failures import CommandError
from lorikeet.client import AsyncClient, Client
from lorikeet.rpc.tls import channel_credentials
from lorikeet.state import ServeState


@dataclass(frozen=True)
class TlsOptions:
    """PEM files: whom to trust, and what to show."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None when no file was given: the address then says whether TLS is used."""
        files = (self.ca, self.cert, self.key)
        return channel_credentials(*files) if any(files) else None


@dataclass(frozen=True)
class Settings:
    """Resolved once per run; an empty field fails only in the command that needs it."""

    registry: str
    inference: str
    api_key: str = field(repr=False)
    tenant: str
    insecure: bool
    tls: TlsOptions
    state: ServeState | None
    is_default_tenant: bool = False  # it was not asked for

    @classmethod
    def resolve(
        cls,
        registry: str,
        inference: str,
        api_key: str,
        tenant: str,
        insecure: bool,
        tls: TlsOptions,
    ) -> Self:
        """Fills in what was not given from the state file of a running `lorikeet serve`."""
        state, is_default_tenant = ServeState.read(), False
        if state is not None:
            registry = registry or state.registry
            inference = inference or state.inference
            is_default_tenant = not (tenant or api_key)
            tenant = state.default_tenant if is_default_tenant else tenant
        tenant = tenant.removeprefix("tenants/")
        return cls(registry, inference, api_key, tenant, insecure, tls, state, is_default_tenant)

    @classmethod
    def of(cls, context: typer.Context) -> Self:
        """The settings the root command stored."""
        settings = context.obj
        assert isinstance(settings, cls)
        return settings

    def admin(self) -> AdminClient:
        """A registry client, by default with the administrator's key of the running stack."""
        address = _required(self.registry, "registry address", "--registry", "LORIKEET_REGISTRY")
        key = self.api_key
        if not key and self.state and self.state.registry == address:
            key = self.state.admin_key
        return AdminClient(
            address,
            self._required_key(key),
            credentials=self.tls.credentials(),
            insecure=self.insecure,
        )

    def client(self, *, as_administrator: bool = False) -> Client:
        """An inference client, by default as the tenant of the running stack.

        If asked to, or with a tenant whose key the running stack does not keep, the administrator
        acts for the tenant.
        """
        return Client(**self._inference_connection(as_administrator=as_administrator))

    def async_client(self, *, as_administrator: bool = False) -> AsyncClient:
        """The same on asyncio."""
        return AsyncClient(**self._inference_connection(as_administrator=as_administrator))

    def _inference_connection(self, *, as_administrator: bool) -> dict[str, Any]:
        """What both clients are made with."""
        key, tenant = self.api_key, self.tenant
        if not key and self.state and self.state.inference == self.inference:
            key = "" if as_administrator else self.state.tenant_keys.get(tenant, "")
            key, tenant = (key, "") if key else (self.state.admin_key, tenant)
        address = _required(
            self.inference, "inference address", "--inference", "LORIKEET_INFERENCE"
        )
        return {
            "target": address,
            "api_key": self._required_key(key),
            "tenant": tenant,
            "credentials": self.tls.credentials(),
            "insecure": self.insecure,
        }

    def overseer(self) -> Client:
        """An inference client that sees every tenant's requests where the key may.

        With a tenant that was asked for, only that one's.
        """
        if not self.is_default_tenant:
            return self.client()
        return replace(self, tenant="").client(as_administrator=True)

    def _required_key(self, key: str) -> str:
        """Empty only where a client certificate says who calls."""
        if self.tls.cert:
            return key
        return _required(key, "API key", "--api-key", "LORIKEET_API_KEY")

    def required_tenant(self) -> str:
        """The tenant whose resources a command works on: the given one, or the key's own."""
        if self.tenant:
            return self.tenant
        with self.admin() as admin:
            return admin.identify_caller().tenant.removeprefix("tenants/")

    def adapter(self, name: str) -> str:
        """`math` → `<tenant>/math`; names that say their tenant stay as they are."""
        return name if "/" in name else f"{self.required_tenant()}/{name}"


def _required(value: str, what: str, flag: str, variable: str) -> str:
    if value:
        return value
    raise CommandError(
        f"no {what}: start `lorikeet serve` in this directory, or set {flag} or {variable}"
    )
