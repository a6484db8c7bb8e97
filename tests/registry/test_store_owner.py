"""A database and an object store that do not belong together are not served."""

import pytest

from registry_service.bootstrap import StartError
from registry_service.config import Settings
from registry_service.repository import server_secrets
from registry_service.service import RegistryService
from registry_service.store_owner import OWNER, check_owner
from registry_service.stores import open_store
from tests.registry.conftest import World
from tests.registry.support import make_adapter, make_registered, publish


async def test_a_registry_does_not_start_on_the_store_of_another(settings: Settings) -> None:
    store = open_store(settings)
    store.put_bytes(OWNER, b"another")
    service = RegistryService(settings)
    with pytest.raises(StartError, match="another database"):
        await service.start()
    await service.stop()
    store.close()


async def test_a_store_is_marked_and_found_to_have_what_the_database_names(world: World) -> None:
    registry = world.registry
    adapter = await make_registered(world.publisher, "acme", "bot")
    with registry.store() as store:
        assert store.size(OWNER) is not None
        store.delete([OWNER])
        with registry.database() as session:
            secret = server_secrets.get_or_create(session, "page_tokens")
            check_owner(session, store, secret)  # nothing is missing yet
            with pytest.raises(StartError, match="another database"):
                check_owner(session, store, b"of another database")
        version = await publish(world.publisher, adapter, make_adapter().files())
        store.delete([OWNER])  # as filled by a registry that knew no owners
        with registry.database() as session:
            check_owner(session, store, secret)
        assert store.size(OWNER) is not None
        store.delete([OWNER, *(f"{version.storage_path}/{f.file_name}" for f in version.files)])
        with (
            registry.database() as session,
            pytest.raises(StartError, match="object store has not"),
        ):
            check_owner(session, store, secret)
