"""Clients of the registry: tenants, keys, base models, adapters, versions and allow-lists."""

import grpc

from lorikeet.connection import Connection
from lorikeet.operations import (
    access,
    audit,
    catalog,
    download,
    policy,
    tenants,
    upload,
    versions,
)
from lorikeet.transport import AsyncTransport, SyncTransport, async_method, sync_method


class AdminClient(SyncTransport):
    """A connection to a registry.

    Resources go by short names (`acme`, `acme/math`, `acme/math@3`) or full ones; answers are the
    messages of protos/registry.proto; lists are complete. Failures are LorikeetErrors.
    """

    def __init__(
        self,
        target: str,
        api_key: str = "",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        insecure: bool = False,
    ) -> None:
        super().__init__(Connection(target, api_key, "", credentials, insecure))

    create_tenant = sync_method(tenants.create_tenant)
    get_tenant = sync_method(tenants.get_tenant)
    list_tenants = sync_method(tenants.list_tenants)
    update_tenant = sync_method(tenants.update_tenant)
    delete_tenant = sync_method(tenants.delete_tenant)
    create_principal = sync_method(access.create_principal)
    get_principal = sync_method(access.get_principal)
    list_principals = sync_method(access.list_principals)
    update_principal = sync_method(access.update_principal)
    delete_principal = sync_method(access.delete_principal)
    set_grants = sync_method(access.set_grants)
    ensure_tenant = sync_method(access.ensure_tenant)
    create_api_key = sync_method(access.create_api_key)
    list_api_keys = sync_method(access.list_api_keys)
    delete_api_key = sync_method(access.delete_api_key)
    identify_caller = sync_method(access.identify_caller)

    register_base_model = sync_method(catalog.register_base_model)
    get_base_model = sync_method(catalog.get_base_model)
    list_base_models = sync_method(catalog.list_base_models)
    delete_base_model = sync_method(catalog.delete_base_model)

    create_adapter = sync_method(catalog.create_adapter)
    get_adapter = sync_method(catalog.get_adapter)
    list_adapters = sync_method(catalog.list_adapters)
    first_adapters = sync_method(catalog.first_adapters)
    resolve_adapter = sync_method(catalog.resolve_adapter)
    update_adapter = sync_method(catalog.update_adapter)
    delete_adapter = sync_method(catalog.delete_adapter)
    undelete_adapter = sync_method(catalog.undelete_adapter)
    purge_adapter = sync_method(catalog.purge_adapter)
    push = sync_method(upload.push)
    import_adapter = sync_method(download.import_adapter)
    download = sync_method(download.download)
    get_version = sync_method(versions.get_version)
    list_versions = sync_method(versions.list_versions)
    delete_version = sync_method(versions.delete_version)
    undelete_version = sync_method(versions.undelete_version)
    purge_version = sync_method(versions.purge_version)
    set_alias = sync_method(versions.set_alias)
    delete_alias = sync_method(versions.delete_alias)

    get_access_policy = sync_method(policy.get_access_policy)
    set_access_policy = sync_method(policy.set_access_policy)
    grant_access = sync_method(policy.grant_access)
    revoke_access = sync_method(policy.revoke_access)

    list_audit_events = sync_method(audit.list_audit_events)


class AsyncAdminClient(AsyncTransport):
    """The same on asyncio; see AdminClient. Use it from one event loop, with `async with`."""

    def __init__(
        self,
        target: str,
        api_key: str = "",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        insecure: bool = False,
    ) -> None:
        super().__init__(Connection(target, api_key, "", credentials, insecure))

    create_tenant = async_method(tenants.create_tenant)
    get_tenant = async_method(tenants.get_tenant)
    list_tenants = async_method(tenants.list_tenants)
    update_tenant = async_method(tenants.update_tenant)
    delete_tenant = async_method(tenants.delete_tenant)
    create_principal = async_method(access.create_principal)
    get_principal = async_method(access.get_principal)
    list_principals = async_method(access.list_principals)
    update_principal = async_method(access.update_principal)
    delete_principal = async_method(access.delete_principal)
    set_grants = async_method(access.set_grants)
    ensure_tenant = async_method(access.ensure_tenant)
    create_api_key = async_method(access.create_api_key)
    list_api_keys = async_method(access.list_api_keys)
    delete_api_key = async_method(access.delete_api_key)
    identify_caller = async_method(access.identify_caller)

    register_base_model = async_method(catalog.register_base_model)
    get_base_model = async_method(catalog.get_base_model)
    list_base_models = async_method(catalog.list_base_models)
    delete_base_model = async_method(catalog.delete_base_model)

    create_adapter = async_method(catalog.create_adapter)
    get_adapter = async_method(catalog.get_adapter)
    list_adapters = async_method(catalog.list_adapters)
    first_adapters = async_method(catalog.first_adapters)
    resolve_adapter = async_method(catalog.resolve_adapter)
    update_adapter = async_method(catalog.update_adapter)
    delete_adapter = async_method(catalog.delete_adapter)
    undelete_adapter = async_method(catalog.undelete_adapter)
    purge_adapter = async_method(catalog.purge_adapter)
    push = async_method(upload.push)
    import_adapter = async_method(download.import_adapter)
    download = async_method(download.download)
    get_version = async_method(versions.get_version)
    list_versions = async_method(versions.list_versions)
    delete_version = async_method(versions.delete_version)
    undelete_version = async_method(versions.undelete_version)
    purge_version = async_method(versions.purge_version)
    set_alias = async_method(versions.set_alias)
    delete_alias = async_method(versions.delete_alias)

    get_access_policy = async_method(policy.get_access_policy)
    set_access_policy = async_method(policy.set_access_policy)
    grant_access = async_method(policy.grant_access)
    revoke_access = async_method(policy.revoke_access)

    list_audit_events = async_method(audit.list_audit_events)
