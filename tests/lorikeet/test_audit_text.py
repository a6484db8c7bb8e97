"""What the audit listing says of a change."""

from lorikeet.cli.audit import change_text
from protos import registry_pb2 as pb


def test_whole_numbers_are_shown_as_such() -> None:
    event = pb.AuditEvent()
    event.before.update({"aliases": {"stable": 1}, "names": ["a"]})
    event.after.update({"aliases": {"stable": 2}, "names": ["a", 3], "share": 0.5})
    event.detail.update({"fields": 2})
    assert change_text(event) == (
        'aliases: {"stable": 1} → {"stable": 2}; names: ["a"] → ["a", 3]; share: - → 0.5; fields=2'
    )
