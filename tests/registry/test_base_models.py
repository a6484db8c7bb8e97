"""Base models: what their configs must say, and when they may go."""

import json

import grpc
import pytest

from lorikeet.rpc.digests import config_digest
from lorikeet.rpc.errors import LorikeetError
from protos import registry_pb2 as pb
from tests.registry.conftest import Registry, World
from tests.registry.support import (
    BASE,
    BASE_CONFIG,
    SOURCE,
    failure,
    fields,
    make_base_model,
    make_registered,
)


async def test_base_models_are_checked(registry: Registry) -> None:
    admin = registry.admin
    created = await make_base_model(admin, config_json=json.dumps({**BASE_CONFIG, "x": [1]}))
    assert created.config_digest == config_digest({**BASE_CONFIG, "x": [1]})
    assert await admin("GetBaseModel", pb.GetBaseModelRequest(name=BASE)) == created
    for changes, named in (
        ({"model_type": "gpt2"}, "model_type"),
        ({"model_type": None}, "model_type"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": 18}, "hidden_size"),
        ({"num_hidden_layers": 10_000}, "num_hidden_layers"),
        ({"vocab_size": 3.5}, "vocab_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"head_dim": "8"}, "head_dim"),
    ):
        with pytest.raises(LorikeetError) as refused:
            await make_base_model(admin, "x", config_json=json.dumps({**BASE_CONFIG, **changes}))
        assert fields(refused.value) == [f"config_json.{named}"]
    for change, named in (
        ({"source": ""}, "base_model.source"),
        ({"revision": ""}, "base_model.revision"),
        ({"config_digest": "sha256:0"}, "base_model.config_digest"),
        ({"config_json": '{"a": 1, "a": 2}'}, "config_json"),
        ({"known_as": [""]}, "base_model.known_as[0]"),
    ):
        with pytest.raises(LorikeetError) as refused:
            await make_base_model(admin, "x", **{"source": SOURCE, **change})
        assert fields(refused.value) == [named]


async def test_base_models_in_use_stay(world: World) -> None:
    await make_registered(world.publisher, "acme", "bot")
    request = pb.DeleteBaseModelRequest(name=BASE)
    assert (await failure(world.admin, "DeleteBaseModel", request)).reason == "BASE_MODEL_IN_USE"
    await make_base_model(world.admin, "spare")
    await world.admin("DeleteBaseModel", pb.DeleteBaseModelRequest(name="baseModels/spare"))
    gone = pb.GetBaseModelRequest(name="baseModels/spare")
    assert (await failure(world.acme, "GetBaseModel", gone)).code == grpc.StatusCode.NOT_FOUND
