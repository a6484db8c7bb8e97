"""AdapterRegistry: each RPC is one operation in one transaction."""

# ruff: noqa: N802 - methods have the names of their RPCs
from typing import Any

from google.protobuf.empty_pb2 import Empty

from protos import registry_pb2 as pb
from protos import registry_pb2_grpc
from registry_service.calls import CallRunner
from registry_service.operations import (
    adapter_lifecycle,
    adapters,
    aliases,
    audit,
    base_models,
    policies,
    version_lifecycle,
    versions,
)
from registry_service.resolver import Resolver
from registry_service.watch import Watchers


class AdapterServicer(registry_pb2_grpc.AdapterRegistryServicer):
    def __init__(self, runner: CallRunner, resolver: Resolver, watchers: Watchers) -> None:
        self._runner = runner
        self._resolver = resolver
        self._watchers = watchers

    async def CreateAdapter(self, request: pb.CreateAdapterRequest, context: Any) -> pb.Adapter:
        return await self._runner.write(context, adapters.create_adapter, request)

    async def GetAdapter(self, request: pb.GetAdapterRequest, context: Any) -> pb.Adapter:
        return await self._runner.read(context, adapters.get_adapter, request)

    async def ListAdapters(
        self, request: pb.ListAdaptersRequest, context: Any
    ) -> pb.ListAdaptersResponse:
        return await self._runner.read(context, adapters.list_adapters, request)

    async def UpdateAdapter(self, request: pb.UpdateAdapterRequest, context: Any) -> pb.Adapter:
        return await self._runner.write(context, adapters.update_adapter, request)

    async def DeleteAdapter(self, request: pb.DeleteAdapterRequest, context: Any) -> pb.Adapter:
        return await self._runner.write(context, adapter_lifecycle.delete_adapter, request)

    async def UndeleteAdapter(self, request: pb.UndeleteAdapterRequest, context: Any) -> pb.Adapter:
        return await self._runner.write(context, adapter_lifecycle.undelete_adapter, request)

    async def PurgeAdapter(self, request: pb.PurgeAdapterRequest, context: Any) -> Empty:
        return await self._runner.write(context, adapter_lifecycle.purge_adapter, request)

    async def GetAdapterVersion(
        self, request: pb.GetAdapterVersionRequest, context: Any
    ) -> pb.AdapterVersion:
        return await self._runner.read(context, versions.get_adapter_version, request)

    async def ListAdapterVersions(
        self, request: pb.ListAdapterVersionsRequest, context: Any
    ) -> pb.ListAdapterVersionsResponse:
        return await self._runner.read(context, versions.list_adapter_versions, request)

    async def DeleteAdapterVersion(
        self, request: pb.DeleteAdapterVersionRequest, context: Any
    ) -> pb.AdapterVersion:
        return await self._runner.write(context, version_lifecycle.delete_adapter_version, request)

    async def UndeleteAdapterVersion(
        self, request: pb.UndeleteAdapterVersionRequest, context: Any
    ) -> pb.AdapterVersion:
        return await self._runner.write(
            context, version_lifecycle.undelete_adapter_version, request
        )

    async def PurgeAdapterVersion(
        self, request: pb.PurgeAdapterVersionRequest, context: Any
    ) -> pb.AdapterVersion:
        return await self._runner.write(context, version_lifecycle.purge_adapter_version, request)

    async def SetAlias(self, request: pb.SetAliasRequest, context: Any) -> pb.Alias:
        return await self._runner.write(context, aliases.set_alias, request)

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Any) -> Empty:
        return await self._runner.write(context, aliases.delete_alias, request)

    async def GetAccessPolicy(
        self, request: pb.GetAccessPolicyRequest, context: Any
    ) -> pb.AccessPolicy:
        return await self._runner.read(context, policies.get_access_policy, request)

    async def SetAccessPolicy(
        self, request: pb.SetAccessPolicyRequest, context: Any
    ) -> pb.AccessPolicy:
        return await self._runner.write(context, policies.set_access_policy, request)

    async def CreateBaseModel(
        self, request: pb.CreateBaseModelRequest, context: Any
    ) -> pb.BaseModel:
        return await self._runner.write(context, base_models.create_base_model, request)

    async def GetBaseModel(self, request: pb.GetBaseModelRequest, context: Any) -> pb.BaseModel:
        return await self._runner.read(context, base_models.get_base_model, request)

    async def ListBaseModels(
        self, request: pb.ListBaseModelsRequest, context: Any
    ) -> pb.ListBaseModelsResponse:
        return await self._runner.read(context, base_models.list_base_models, request)

    async def DeleteBaseModel(self, request: pb.DeleteBaseModelRequest, context: Any) -> Empty:
        return await self._runner.write(context, base_models.delete_base_model, request)

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: Any
    ) -> pb.ListAuditEventsResponse:
        return await self._runner.read(context, audit.list_audit_events, request)

    async def ResolveAdapter(
        self, request: pb.ResolveAdapterRequest, context: Any
    ) -> pb.ResolveAdapterResponse:
        return await self._resolver.resolve(request, context)

    async def WatchAdapters(self, request: pb.WatchAdaptersRequest, context: Any) -> None:
        await self._watchers.serve(request, context)
