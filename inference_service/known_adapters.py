"""Which adapter versions were resolved for which tenant, to tell a tenant what is loaded."""

from collections import OrderedDict
from typing import Final

from inference_service.adapters.artifact import ResolvedAdapter

_MAX_RECORDS: Final = 100_000


class KnownAdapters:
    """(tenant, version name) to digest, the longest unseen forgotten first."""

    def __init__(self) -> None:
        self._digests: OrderedDict[tuple[str, str], str] = OrderedDict()

    def add(self, adapter: ResolvedAdapter) -> None:
        key = (adapter.tenant, adapter.artifact.version_name)
        self._digests[key] = adapter.artifact.digest
        self._digests.move_to_end(key)
        if len(self._digests) > _MAX_RECORDS:
            self._digests.popitem(last=False)

    def of_tenant(self, tenant: str) -> dict[str, str]:
        """Version name to digest."""
        return {
            version_name: digest
            for (user, version_name), digest in self._digests.items()
            if user == tenant
        }

    def names(self) -> dict[str, str]:
        """Digest to one of its version names."""
        return {digest: version_name for (_, version_name), digest in self._digests.items()}
