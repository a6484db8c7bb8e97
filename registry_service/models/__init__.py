"""The rows. Alembic alone creates the tables; a test holds the two together."""

from registry_service.models.access import (
    ApiKeyRow,
    GrantRow,
    PrincipalRow,
    SubjectRow,
    TenantRow,
)
from registry_service.models.adapters import (
    AdapterRow,
    AliasRow,
    AllowedTenantRow,
    BaseModelRow,
    VersionRow,
    WarmAliasRow,
)
from registry_service.models.artifacts import BlobRow, UploadChunkRow, UploadRow
from registry_service.models.base import Base
from registry_service.models.journal import (
    AuditRow,
    ChangeRow,
    CounterRow,
    IdempotencyRow,
    ServerSecretRow,
)

__all__ = [
    "AdapterRow",
    "AliasRow",
    "AllowedTenantRow",
    "ApiKeyRow",
    "AuditRow",
    "Base",
    "BaseModelRow",
    "BlobRow",
    "ChangeRow",
    "CounterRow",
    "GrantRow",
    "IdempotencyRow",
    "PrincipalRow",
    "ServerSecretRow",
    "SubjectRow",
    "TenantRow",
    "UploadChunkRow",
    "UploadRow",
    "VersionRow",
    "WarmAliasRow",
]
