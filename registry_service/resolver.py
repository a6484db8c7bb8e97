"""ResolveAdapter from memory, as long as the change feed says that memory is right."""

from dataclasses import replace
from functools import partial
from typing import Any

from lorikeet.rpc.feed_cache import FeedCache, Loaded
from protos import registry_pb2 as pb
from registry_service.access import Caller, check_may_speak_for
from registry_service.calls import CallRunner
from registry_service.catalog import Catalog
from registry_service.feed import ChangeFeed
from registry_service.metrics import FeedMetrics
from registry_service.operations.resolution import (
    Asked,
    Chosen,
    Facts,
    decide,
    parse_asked,
    read_facts,
)
from registry_service.repository.database import Database
from registry_service.repository.journal import Change

_MAX_ENTRIES = 50_000
_MAX_SECONDS = 60.0


class Resolver:
    """Facts from the catalog, or as they were found in the database a moment ago; either is
    answered without leaving the event loop."""

    def __init__(
        self,
        runner: CallRunner,
        database: Database,
        catalog: Catalog,
        feed: ChangeFeed,
        metrics: FeedMetrics,
    ) -> None:
        self._runner = runner
        self._database = database
        self._catalog = catalog
        self._feed = feed
        self._metrics = metrics
        self._facts: FeedCache[Asked, Facts] = FeedCache(_MAX_ENTRIES, feed.is_current)
        feed.tell(self.changed, self._facts.clear)

    async def resolve(
        self, request: pb.ResolveAdapterRequest, context: Any
    ) -> pb.ResolveAdapterResponse:
        return await self._runner.answer(context, "resolve_adapter", request, self._answer)

    def changed(self, change: Change) -> None:
        """To be told of every change of the feed."""
        parts = change.resource.split("/")
        if parts[::2][:2] == ["tenants", "adapters"]:
            self._facts.forget("/".join(parts[:4]))
        elif parts[0] == "tenants" and len(parts) == 2:
            self._facts.clear()  # it may have stood on any allow-list

    async def _answer(
        self, caller: Caller, request: pb.ResolveAdapterRequest
    ) -> pb.ResolveAdapterResponse:
        asked = parse_asked(request)
        check_may_speak_for(caller, asked.tenant.tenant, str(asked.adapter))
        facts = self._catalog.facts(asked) or self._facts.cached(asked)
        (self._metrics.hits if facts else self._metrics.misses).inc()
        if facts is None:
            load = partial(self._load, asked)
            facts = await self._facts.get(asked, str(asked.adapter), load)
        elif facts.revision < self._feed.position:
            # Nothing up to there has changed it.
            facts = replace(facts, revision=self._feed.position)
        return decide(caller, asked, request, facts)

    async def _load(self, asked: Asked) -> Loaded[Facts]:
        facts = await self._database.ask(lambda session: read_facts(session, asked))
        # What is absent or not shared is asked for again: names can be made up without end.
        is_kept = facts.is_live and isinstance(facts.choice, Chosen)
        is_kept &= bool(facts.allowed) or asked.tenant.tenant == asked.adapter.tenant
        return Loaded(facts, frozenset({str(asked.adapter)}), _MAX_SECONDS if is_kept else 0)
