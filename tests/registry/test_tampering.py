"""Stored bytes that changed behind the registry's back never pass for the registered ones.

`LORIKEET_TAMPERED=10000 python -m pytest -s tests/registry/test_tampering.py` is full size.
"""

import os
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path
from random import Random

import pytest

from inference_service.adapters.artifact import Artifact
from inference_service.adapters.download import CorruptDownloadError, Downloader
from inference_service.adapters.download_pace import DownloadPace
from lorikeet.admin import AsyncAdminClient
from lorikeet.rpc.errors import DataLossError
from protos import registry_pb2 as pb
from tests.registry.conftest import World
from tests.registry.support import CONFIG, WEIGHTS, Client, make_adapter, make_registered, publish

NUM_TAMPERED = int(os.environ.get("LORIKEET_TAMPERED", "200"))


class Reader:
    """The registry, as the downloader of the inference service reads it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def read_artifact(
        self, version_name: str, file_name: str, *, offset: int, tenant: str
    ) -> AsyncGenerator[pb.ReadArtifactResponse, None]:
        request = pb.ReadArtifactRequest(
            version=version_name, file_name=file_name, offset=offset, tenant=tenant
        )
        async for chunk in self._client.stream("ReadArtifact", request):
            yield chunk


def tamper(path: Path, other: Path, random: Random) -> str:
    """Changes one stored file; returns how."""
    data = path.read_bytes()
    kind = random.choice(["bit flip", "truncation", "growth", "swap", "zeros", "removal"])
    match kind:
        case "bit flip":
            position = random.randrange(len(data))
            flipped = data[position] ^ 1 << random.randrange(8)
            data = data[:position] + bytes([flipped]) + data[position + 1 :]
        case "truncation":
            data = data[: random.randrange(len(data))]
        case "growth":
            data += random.randbytes(random.randint(1, 100))
        case "swap":
            data = other.read_bytes()
        case "zeros":
            data = bytes(len(data))
        case "removal":
            path.unlink()
            return kind
    path.unlink()  # other versions may share the inode
    path.write_bytes(data)
    return kind


@pytest.mark.embedded
@pytest.mark.timeout(60 + NUM_TAMPERED / 20)
async def test_changed_bytes_are_never_taken_for_the_registered_ones(
    world: World, tmp_path: Path
) -> None:
    adapter = await make_registered(world.publisher, "acme", "bot")
    versions = [
        await publish(world.publisher, adapter, make_adapter(seed=seed).files()) for seed in (1, 2)
    ]
    objects = world.registry.data_dir / "objects"
    first, second = (objects / version.storage_path for version in versions)
    artifact = Artifact.from_version(versions[0])
    downloader = Downloader(Reader(world.acme), DownloadPace(lambda: False))
    detected = Counter[str]()
    registry = world.registry
    sdk = AsyncAdminClient(registry.address, api_key=registry.credentials["admin"])
    sound = {name: (first / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    for number in range(NUM_TAMPERED):
        random = Random(number)
        name = random.choice([CONFIG, WEIGHTS])
        other = second / WEIGHTS if name == WEIGHTS else first / WEIGHTS
        kind = tamper(first / name, other, random)
        target = tmp_path / f"{number}"
        target.mkdir()
        reader = ["inference", "SDK"][number % 2]
        downloading: Awaitable[object] = (
            sdk.download("acme/bot@1", target)
            if reader == "SDK"
            else downloader.fetch(artifact, "tenants/acme", target, lambda *_: None)
        )
        with pytest.raises((CorruptDownloadError, DataLossError)):
            await downloading
        assert reader == "inference" or not (target / name).exists()
        detected[f"{kind}, {reader}"] += 1
        (first / name).unlink(missing_ok=True)
        (first / name).write_bytes(sound[name])
    print(
        f"{detected.total()} changes of stored files, all noticed:", dict(sorted(detected.items()))
    )
    final = tmp_path / "sound"
    await sdk.download("acme/bot@1", final)
    await sdk.close()
    assert {name: (final / name).read_bytes() for name in sound} == sound
