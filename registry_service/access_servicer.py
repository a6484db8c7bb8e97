"""AccessService: each RPC is one operation in one transaction."""

# ruff: noqa: N802 - methods have the names of their RPCs
from typing import Any

from google.protobuf.empty_pb2 import Empty

from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from protos import registry_pb2_grpc
from registry_service.calls import CallRunner
from registry_service.credentials import Credential
from registry_service.operations import api_keys, identity, principals, tenants


class AccessServicer(registry_pb2_grpc.AccessServiceServicer):
    def __init__(self, runner: CallRunner) -> None:
        self._runner = runner

    async def CreateTenant(self, request: pb.CreateTenantRequest, context: Any) -> pb.Tenant:
        return await self._runner.write(context, tenants.create_tenant, request)

    async def GetTenant(self, request: pb.GetTenantRequest, context: Any) -> pb.Tenant:
        return await self._runner.read(context, tenants.get_tenant, request)

    async def ListTenants(
        self, request: pb.ListTenantsRequest, context: Any
    ) -> pb.ListTenantsResponse:
        return await self._runner.read(context, tenants.list_tenants, request)

    async def UpdateTenant(self, request: pb.UpdateTenantRequest, context: Any) -> pb.Tenant:
        return await self._runner.write(context, tenants.update_tenant, request)

    async def DeleteTenant(self, request: pb.DeleteTenantRequest, context: Any) -> Empty:
        return await self._runner.write(context, tenants.delete_tenant, request)

    async def CreatePrincipal(
        self, request: pb.CreatePrincipalRequest, context: Any
    ) -> pb.Principal:
        return await self._runner.write(context, principals.create_principal, request)

    async def GetPrincipal(self, request: pb.GetPrincipalRequest, context: Any) -> pb.Principal:
        return await self._runner.read(context, principals.get_principal, request)

    async def UpdatePrincipal(
        self, request: pb.UpdatePrincipalRequest, context: Any
    ) -> pb.Principal:
        return await self._runner.write(context, principals.update_principal, request)

    async def ListPrincipals(
        self, request: pb.ListPrincipalsRequest, context: Any
    ) -> pb.ListPrincipalsResponse:
        return await self._runner.read(context, principals.list_principals, request)

    async def DeletePrincipal(self, request: pb.DeletePrincipalRequest, context: Any) -> Empty:
        return await self._runner.write(context, principals.delete_principal, request)

    async def SetGrants(self, request: pb.SetGrantsRequest, context: Any) -> pb.Principal:
        return await self._runner.write(context, principals.set_grants, request)

    async def CreateApiKey(
        self, request: pb.CreateApiKeyRequest, context: Any
    ) -> pb.CreateApiKeyResponse:
        return await self._runner.write(context, api_keys.create_api_key, request)

    async def ListApiKeys(
        self, request: pb.ListApiKeysRequest, context: Any
    ) -> pb.ListApiKeysResponse:
        return await self._runner.read(context, api_keys.list_api_keys, request)

    async def DeleteApiKey(self, request: pb.DeleteApiKeyRequest, context: Any) -> Empty:
        return await self._runner.write(context, api_keys.delete_api_key, request)

    async def IdentifyCaller(self, request: pb.IdentifyCallerRequest, context: Any) -> pb.Identity:
        try:
            presented: Credential | LorikeetError | None
            presented = await self._runner.authenticator.presented(request)
        except LorikeetError as error:
            presented = error  # who asks is found out, and whether it may, before it is told
        operation = identity.identify_caller(presented)
        return await self._runner.read(context, operation, request)
