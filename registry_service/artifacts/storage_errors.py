"""What callers are told when bytes cannot be reached, or are not what they must be."""

from lorikeet.rpc.errors import DataLossError, UnavailableError

_RETRY_SECONDS = 5.0


def storage_unavailable(
    description: str = "the registry's storage does not answer",
) -> UnavailableError:
    return UnavailableError(
        f"{description}: try again", reason="STORAGE_UNAVAILABLE", retry_after=_RETRY_SECONDS
    )


def artifact_corrupt(key: str) -> DataLossError:
    """A version's bytes are not where they must be. Only the file's name is for callers."""
    return DataLossError(
        f"the stored file {key.rpartition('/')[2]} is missing or has another size: "
        "the registry's operator can tell more with `lorikeet registry fsck`",
        reason="ARTIFACT_CORRUPT",
    )
