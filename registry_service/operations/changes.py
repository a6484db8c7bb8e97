"""The change feed, for services that speak for every tenant."""

from collections.abc import Sequence
from dataclasses import dataclass

from lorikeet.rpc.errors import OutOfRangeError, permission_denied
from protos import registry_pb2 as pb
from registry_service.access import ACT_AS, EVERY_TENANT, Caller, Grant
from registry_service.calls import Call
from registry_service.models import ChangeRow
from registry_service.repository import journal
from registry_service.requests import invalid

_MAX_CHANGES = 500


@dataclass(frozen=True)
class ChangeBatch:
    """Changes after a revision, and the revision this read stands at."""

    changes: Sequence[ChangeRow]
    revision: int


def check_may_watch(caller: Caller) -> None:
    """A feed names every tenant's resources."""
    if not caller.is_admin and Grant(ACT_AS, EVERY_TENANT) not in caller.grants:
        raise permission_denied("adapters.watch", "*")


def read_changes(call: Call, request: pb.WatchAdaptersRequest) -> ChangeBatch:
    """The next changes after `from_revision`, or none yet for who wants only new ones."""
    check_may_watch(call.caller)
    if request.from_revision < 0:
        raise invalid("from_revision", "must not be negative")
    current = journal.current_revision(call.session)
    if request.only_new:
        if request.from_revision:
            raise invalid("only_new", "give from_revision or only_new, not both")
        return ChangeBatch([], current)
    if request.from_revision > current:
        raise revision_unknown(request.from_revision, current)
    changes = journal.changes_after(call.session, request.from_revision, _MAX_CHANGES)
    return ChangeBatch(changes, changes[-1].revision if changes else current)


def revision_unknown(revision: int, current: int) -> OutOfRangeError:
    """For who stands where this database never was: it is older than the one it replaced."""
    return OutOfRangeError(
        f"revision {revision} has not happened here, the last one is {current}: "
        "forget what was cached and watch from 0, or only what is new",
        reason="REVISION_UNKNOWN",
        metadata={"revision": str(current)},
    )
