"""A real engine forgets what it computed for a tenant whose access was revoked."""

import json
from pathlib import Path

from lorikeet.rpc.errors import PermissionDeniedError
from protos import inference_pb2 as pb
from protos import registry_pb2 as reg
from tests.checkpoints import write_adapter
from tests.inference.test_weights import make_user, running_service
from tests.inference.world import User, until
from tests.registry.support import CONFIG, Client, publish

NAME = "tenants/owner/adapters/math"
PROMPT = pb.TokenIds(ids=[10 + number % 40 for number in range(60)])


async def num_cached(user: User, adapter: str) -> int | None:
    """Of the prompt's tokens; None when the user may not ask."""
    request = pb.GenerateRequest(
        prompt_token_ids=PROMPT, adapter=adapter, sampling=pb.SamplingParams(max_tokens=4)
    )
    try:
        answer = await user.ask(request)
    except PermissionDeniedError:
        return None
    assert answer.complete is not None
    return answer.complete.usage.cached_tokens


async def allow(admin: Client, *tenants: str) -> None:
    policy = reg.AccessPolicy(adapter=NAME, allowed_tenants=[f"tenants/{t}" for t in tenants])
    await admin("SetAccessPolicy", reg.SetAccessPolicyRequest(policy=policy))


async def test_after_a_new_grant_everything_is_computed_again(tmp_path: Path) -> None:
    async with running_service(tmp_path) as (channel, admin):
        owner, guest, other = [
            await make_user(channel, admin, tenant, weight=1)
            for tenant in ("owner", "guest", "other")
        ]
        path = write_adapter(tmp_path / "math", tmp_path / "small", rank=4, seed=1)
        files = {file.name: file.read_bytes() for file in path.iterdir()}
        config = {**json.loads(files[CONFIG]), "base_model_name_or_path": "example/small"}
        request = reg.CreateAdapterRequest(
            parent="tenants/owner",
            adapter_id="math",
            adapter=reg.Adapter(base_model="baseModels/small"),
        )
        await admin("CreateAdapter", request)
        await publish(admin, NAME, {**files, CONFIG: json.dumps(config).encode()})
        await allow(admin, "guest", "other")
        uses = [(owner, "math"), (guest, "owner/math"), (other, "owner/math"), (guest, "")]
        for user, adapter in uses:
            assert await num_cached(user, adapter) == 0
            assert await num_cached(user, adapter) == 48
        await allow(admin, "other")
        await until(lambda: num_cached(guest, "owner/math"), None)
        await allow(admin, "guest", "other")
        await until(lambda: _may_use(guest), True)
        assert await num_cached(guest, "owner/math") == 0
        assert await num_cached(guest, "owner/math") == 48
        for user, adapter in (uses[0], uses[2], uses[3]):
            assert await num_cached(user, adapter) == 48, "nobody else lost anything"


async def _may_use(user: User) -> bool:
    """Without leaving any KV behind: tokenizing passes the same gate."""
    try:
        await user("Tokenize", pb.TokenizeRequest(adapter="owner/math", text="x"))
    except PermissionDeniedError:
        return False
    return True
