"""The registry as the inference service uses it: few calls, typed errors, no waiting for ever."""

import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import grpc
from grpc import aio

from inference_service.adapters.artifact import Artifact, Profile, ResolvedAdapter
from inference_service.adapters.registry_channel import RegistryChannel
from lorikeet.rpc.credentials import invalid_credential
from lorikeet.rpc.errors import (
    LorikeetError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    from_rpc_error,
)
from lorikeet.rpc.names import BaseModelName, TenantName
from lorikeet.rpc.tls import ClientTlsFiles
from protos import registry_pb2

logger = logging.getLogger(__name__)

_PAGE_SIZE: Final = 1000
# The registry did not answer, or could not: nothing is known about what was asked.
_NO_ANSWER: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)


class RegistryClient:
    """In plaintext unless there is `tls`.

    Every method raises LorikeetError, UNAVAILABLE when there is no answer.
    """

    def __init__(
        self,
        address: str,
        api_key: str,
        *,
        deadline: float,
        tls: ClientTlsFiles | None = None,
        interceptors: Sequence[Any] = (),
    ) -> None:
        self._channel = RegistryChannel(address, tls, interceptors)
        # Without a key, the client certificate says who this service is.
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._deadline = deadline

    async def identify(self, token: str = "", *, subject: str = "") -> registry_pb2.Identity:
        """Who presented a token (an API key or a JWT), or a subject of a verified certificate.

        UNAUTHENTICATED for what is not valid; UNAVAILABLE when it is this service that the
        registry does not let ask.
        """
        assert token or subject
        request = registry_pb2.IdentifyCallerRequest(api_key=token, subject=subject)
        with _own_refusals_hidden(), _translated():
            identity: registry_pb2.Identity = await self._channel.stubs.access.IdentifyCaller(
                request, timeout=self._deadline, metadata=self._metadata
            )
        return identity

    async def get_tenant(self, tenant: str) -> registry_pb2.Tenant:
        """A tenant for which this service may act, with what it is granted."""
        request = registry_pb2.GetTenantRequest(name=str(TenantName(tenant)))
        with _translated():
            found: registry_pb2.Tenant = await self._channel.stubs.access.GetTenant(
                request, timeout=self._deadline, metadata=self._metadata
            )
        return found

    async def get_base_model(self, base_model: str, *, wait: float) -> registry_pb2.BaseModel:
        """The base model's record; waits up to `wait` seconds for the registry to come up."""
        request = registry_pb2.GetBaseModelRequest(name=str(BaseModelName(base_model)))
        with _translated():
            found: registry_pb2.BaseModel = await self._channel.stubs.registry.GetBaseModel(
                request, timeout=wait, metadata=self._metadata, wait_for_ready=True
            )
        return found

    async def resolve(
        self, name: str, *, tenant: str, base_model: str, base_model_revision: str
    ) -> ResolvedAdapter:
        """The version behind `name`, if `tenant` may use it on this base model."""
        request = registry_pb2.ResolveAdapterRequest(
            tenant=str(TenantName(tenant)),
            name=name,
            base_model=str(BaseModelName(base_model)),
            base_model_revision=base_model_revision,
        )
        with _translated():
            found: registry_pb2.ResolveAdapterResponse = (
                await self._channel.stubs.registry.ResolveAdapter(
                    request, timeout=self._deadline, metadata=self._metadata
                )
            )
        return ResolvedAdapter(
            tenant,
            Artifact.from_version(found.version),
            Profile.from_message(found.profile),
            found.alias,
            found.revision,
        )

    async def list_warm_adapters(self, base_model: str) -> list[registry_pb2.Adapter]:
        """Of every tenant, the adapters of a base model of which aliases are kept loaded."""
        request = registry_pb2.ListAdaptersRequest(
            parent="tenants/-",
            page_size=_PAGE_SIZE,
            filter=f'warm = true AND base_model = "{BaseModelName(base_model)}"',
        )
        adapters: list[registry_pb2.Adapter] = []
        while True:
            with _translated():
                page: registry_pb2.ListAdaptersResponse = (
                    await self._channel.stubs.registry.ListAdapters(
                        request, timeout=self._deadline, metadata=self._metadata
                    )
                )
            adapters += page.adapters
            if not page.next_page_token:
                return adapters
            request.page_token = page.next_page_token

    async def read_artifact(
        self, version_name: str, file_name: str, *, offset: int, tenant: str
    ) -> AsyncGenerator[registry_pb2.ReadArtifactResponse, None]:
        """One file from an offset, on behalf of a tenant. The caller bounds each wait."""
        request = registry_pb2.ReadArtifactRequest(
            version=version_name,
            file_name=file_name,
            offset=offset,
            tenant=str(TenantName(tenant)),
        )
        call = self._channel.stubs.artifacts.ReadArtifact(request, metadata=self._metadata)
        try:
            with _translated():
                async for response in call:
                    yield response
        finally:
            call.cancel()

    async def download_url(self, version_name: str, file_name: str, *, tenant: str) -> str:
        """Where one file can be read for a while, on behalf of a tenant.

        UNIMPLEMENTED when artifacts are not in S3.
        """
        request = registry_pb2.GetDownloadUrlRequest(
            version=version_name, file_name=file_name, tenant=str(TenantName(tenant))
        )
        with _translated():
            answer: registry_pb2.GetDownloadUrlResponse = (
                await self._channel.stubs.artifacts.GetDownloadUrl(
                    request, timeout=self._deadline, metadata=self._metadata
                )
            )
        return answer.url

    async def watch(
        self, from_revision: int | None
    ) -> AsyncGenerator[registry_pb2.WatchAdaptersResponse, None]:
        """The change feed after a revision, or from now on. The caller bounds each wait.

        OUT_OF_RANGE REVISION_UNKNOWN when the registry has not come as far as that revision.
        """
        request = registry_pb2.WatchAdaptersRequest(
            from_revision=from_revision or 0, only_new=from_revision is None
        )
        call = self._channel.stubs.registry.WatchAdapters(request, metadata=self._metadata)
        try:
            with _translated():
                async for response in call:
                    yield response
        finally:
            call.cancel()

    async def close(self) -> None:
        await self._channel.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except aio.AioRpcError as error:
        raise _registry_error(error) from error


def _registry_error(error: aio.AioRpcError) -> LorikeetError:
    if error.code() in _NO_ANSWER:
        logger.warning("the registry did not answer: %s %s", error.code().name, error.details())
        return registry_unavailable()
    translated = from_rpc_error(error)
    if not isinstance(translated, UnauthenticatedError):
        return translated
    if translated.metadata.get("credential") == "presented":
        return invalid_credential()
    logger.error("the registry refuses this service's own credential")
    return registry_unavailable()


@contextmanager
def _own_refusals_hidden() -> Iterator[None]:
    """Whoever asks who a caller is needs a permission, which is no concern of that caller."""
    try:
        yield
    except PermissionDeniedError as error:
        logger.error("the registry does not let this service identify callers: %s", error.message)
        raise registry_unavailable() from error


def registry_unavailable() -> UnavailableError:
    """What callers hear; where the registry is and what it said is not for them."""
    return UnavailableError(
        "the registry cannot be reached", reason="REGISTRY_UNAVAILABLE", retry_after=1.0
    )
