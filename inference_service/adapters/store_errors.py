"""What the adapter store refuses with."""

import errno
from typing import Final

from inference_service.adapters.artifact import Artifact
from lorikeet.rpc.errors import DataLossError, ResourceExhaustedError

NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)


def corrupt(artifact: Artifact) -> DataLossError:
    return DataLossError(
        f"the artifact of {artifact.version_name} is corrupt",
        reason="ARTIFACT_CORRUPT",
        metadata={"version": artifact.version_name, "digest": artifact.digest},
    )


def disk_full(artifact: Artifact, why: str) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        f"no room on disk for {artifact.version_name}, {artifact.size_bytes} bytes: {why}",
        reason="ADAPTER_DISK_FULL",
        metadata={"version": artifact.version_name},
        retry_after=1.0,
    )
