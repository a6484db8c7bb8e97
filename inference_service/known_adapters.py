"""Which adapter versions were resolved for which tenant: what is here, and for whom."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from inference_service.adapters.artifact import ResolvedAdapter
from lorikeet.rpc.names import VersionName

_MAX_RECORDS: Final = 100_000


@dataclass(frozen=True)
class KnownUse:
    """A tenant was once allowed a version; `digest` is that version's."""

    tenant: str
    version_name: str
    digest: str

    @property
    def adapter_name(self) -> str:
        version = VersionName.parse(self.version_name)
        return f"tenants/{version.tenant}/adapters/{version.adapter}"


class KnownAdapters:
    """Uses of adapters, the longest unseen forgotten first."""

    def __init__(self) -> None:
        self._uses: OrderedDict[KnownUse, None] = OrderedDict()
        self._by_adapter: dict[str, set[KnownUse]] = {}
        self._names: dict[str, str] = {}

    def add(self, adapter: ResolvedAdapter) -> None:
        artifact = adapter.artifact
        self._names[artifact.digest] = artifact.version_name
        use = KnownUse(adapter.tenant, artifact.version_name, artifact.digest)
        if use in self._uses:
            self._uses.move_to_end(use)
            return
        self._uses[use] = None
        self._by_adapter.setdefault(use.adapter_name, set()).add(use)
        if len(self._uses) > _MAX_RECORDS:
            self.forget(next(iter(self._uses)))

    def forget(self, use: KnownUse) -> None:
        """One that is not known is no error."""
        if use not in self._uses:
            return
        del self._uses[use]
        uses = self._by_adapter[use.adapter_name]
        uses.discard(use)
        if not any(other.version_name == use.version_name for other in uses):
            self._names.pop(use.digest, None)
        if not uses:
            del self._by_adapter[use.adapter_name]

    def of_tenant(self, tenant: str) -> dict[str, str]:
        """Version name to digest."""
        return {use.version_name: use.digest for use in self._uses if use.tenant == tenant}

    def of_adapter(self, adapter_name: str) -> Iterator[KnownUse]:
        """Every tenant's uses of any version of tenants/{t}/adapters/{a}."""
        yield from tuple(self._by_adapter.get(adapter_name, ()))

    def latest(self, max_count: int) -> list[KnownUse]:
        """Those seen last, the very last one at the end."""
        return list(islice(reversed(self._uses), max_count))[::-1]

    def name_of(self, digest: str) -> str:
        """The version name a digest was last resolved by; empty when that is long ago."""
        return self._names.get(digest, "")
