"""Which adapter versions were resolved for which tenant, to tell a tenant what is loaded."""

from collections import OrderedDict
from typing import Final

from inference_service.adapters.artifact import ResolvedAdapter

_MAX_RECORDS: Final = 100_000


class KnownAdapters:
    """(tenant, version name) to digest, the longest unseen forgotten first."""

    def __init__(self) -> None:
        self._digests: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._names: dict[str, str] = {}

    def add(self, adapter: ResolvedAdapter) -> None:
        key = (adapter.tenant, adapter.artifact.version_name)
        self._digests[key] = adapter.artifact.digest
        self._digests.move_to_end(key)
        self._names[adapter.artifact.digest] = adapter.artifact.version_name
        if len(self._digests) > _MAX_RECORDS:
            (_, forgotten), digest = self._digests.popitem(last=False)
            if self._names.get(digest) == forgotten:
                del self._names[digest]

    def of_tenant(self, tenant: str) -> dict[str, str]:
        """Version name to digest."""
        return {
            version_name: digest
            for (user, version_name), digest in self._digests.items()
            if user == tenant
        }

    def name_of(self, digest: str) -> str:
        """The version name a digest was last resolved by; empty when that is long ago."""
        return self._names.get(digest, "")
