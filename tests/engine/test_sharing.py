"""A tenant alone has the engine for itself; one that floods it leaves places and short steps."""

from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.engine.sharing import Sharing
from tests.engine.simulation import Limits, Simulation


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(sharing: Sharing, tenant: str) -> int:
    """How many places a tenant gets that asks on and on."""
    count = 0
    while sharing.may_start(tenant, lambda _: False):
        sharing.started(tenant)
        count += 1
    return count


def test_a_tenant_alone_gets_every_place_and_whole_steps() -> None:
    sharing = Sharing(64)
    sharing.came("a")
    sharing.ran(1000, 0, seconds=10.0)
    assert taken(sharing, "a") == 64
    assert sharing.max_step_tokens("a", 2048, 64, is_begun=False) == 2048


def test_the_last_places_are_for_those_who_have_less_than_their_share() -> None:
    sharing = Sharing(64)
    for tenant in ("flood", "quiet"):
        sharing.came(tenant)
    assert taken(sharing, "flood") == 56
    assert taken(sharing, "quiet") == 8
    sharing.ended("flood")
    assert not sharing.may_start("flood", lambda _: False)
    assert sharing.may_start("flood", lambda _: True)
    assert sharing.may_start("quiet", lambda _: False)


def test_a_share_is_by_weight() -> None:
    sharing = Sharing(64)
    sharing.came("heavy", 3.0)
    sharing.came("light", 1.0)
    for _ in range(16):
        assert sharing.is_below_share("light")
        sharing.started("light")
        sharing.started("heavy")
    assert not sharing.is_below_share("light")
    assert sharing.is_below_share("heavy")


def test_who_asks_for_more_than_it_gets_is_not_below_its_share() -> None:
    sharing = Sharing(64)
    for tenant in "ab":
        sharing.came(tenant)
    sharing.left_waiting(["a"])
    assert [sharing.is_below_share(tenant) for tenant in "ab"] == [False, True]
    sharing.left_waiting([])
    assert sharing.is_below_share("a")


def test_a_tenant_that_has_gone_keeps_nothing() -> None:
    clock = Clock()
    sharing = Sharing(64, clock)
    sharing.came("gone")
    clock.now = 61.0
    sharing.came("a")
    assert taken(sharing, "a") == 64


def test_steps_of_several_tenants_are_as_long_as_is_bearable() -> None:
    sharing = Sharing(64)
    for tenant in ("flood", "quiet"):
        sharing.came(tenant)
    taken(sharing, "flood")

    def most(tenant: str, limit: int = 2048, is_begun: bool = True) -> int:
        return sharing.max_step_tokens(tenant, limit, num_decoding=10, is_begun=is_begun)

    assert most("flood") == 2048, "nothing is known of this processor yet"
    sharing.ran(1000, 0, seconds=0.5)
    assert most("flood") == most("flood", is_begun=False) == 10 + 66  # the 10 count as 14
    assert most("flood", limit=70) == 70
    sharing.ran(10, 64, seconds=5.0)  # mostly decoding: says nothing of prompts
    assert most("flood") == 10 + 66
    for _ in range(50):
        sharing.ran(1000, 0, seconds=10.0)
    assert most("flood") == 10 + 32, "a slow one still gets on"
    assert most("flood", is_begun=False) == 32, "and begins something beside few decodes"
    assert most("quiet") == 10 + 128, "those below their share start together"


def test_who_has_its_share_begins_nothing_in_a_step_that_is_long_by_its_decodes() -> None:
    sharing = Sharing(64)
    for tenant in ("flood", "quiet"):
        sharing.came(tenant)
    taken(sharing, "flood")
    sharing.ran(1000, 0, seconds=1.25)

    def room(tenant: str, is_begun: bool) -> int:
        return sharing.max_step_tokens(tenant, 2048, num_decoding=32, is_begun=is_begun) - 32

    assert room("flood", is_begun=False) <= 0
    assert room("flood", is_begun=True) == 32
    assert room("quiet", is_begun=False) == room("quiet", is_begun=True) == 128


def test_who_comes_into_a_full_engine_starts_in_the_next_step() -> None:
    """All places were taken at once, so that none is free for long."""
    simulation = Simulation(Limits(num_pages=600, max_num_seqs=16, budget=1000))
    simulation.submit("quiet", 8, 1)
    for _ in range(100):
        simulation.submit("flood", 20, 30)
    for _ in range(3):
        simulation.step()
    assert simulation.scheduler.num_running == 14
    late = simulation.submit("quiet", 20, 5)
    chunks = simulation.step()
    assert late in [chunk.sequence.request_id for chunk in chunks]
    simulation.run_to_end()


def test_a_long_prompt_waits_for_the_prompt_of_a_tenant_that_was_served_less() -> None:
    simulation = Simulation(Limits(num_pages=600, max_num_seqs=16, budget=50))
    simulation.submit("flood", 500, 5)
    for _ in range(2):
        simulation.step()
    quiet = simulation.submit("quiet", 40, 5)
    (first, second) = simulation.step()
    assert (first.sequence.request_id, first.num_tokens) == (quiet, 40)
    assert (second.sequence.tenant, second.num_tokens) == ("flood", 10)
    simulation.run_to_end()


def test_decodes_of_the_flood_are_left_out_of_every_other_step_at_most() -> None:
    simulation = Simulation(Limits(num_pages=2000, max_num_seqs=16, budget=1000))
    simulation.submit("quiet", 8, 1)
    for _ in range(20):
        simulation.submit("flood", 20, 500)
    for _ in range(3):
        simulation.step()
    simulation.scheduler.sharing.ran(100, 0, seconds=1.0)
    kinds = []
    for _ in range(6):
        simulation.submit("quiet", 5, 1)
        kinds.append({chunk.sequence.tenant for chunk in simulation.step()})
    assert kinds == [{"quiet"}, {"quiet", "flood"}] * 3
    simulation.run_to_end()


def test_a_tenant_whose_requests_run_is_not_put_behind_the_flood_by_their_decodes() -> None:
    simulation = Simulation(Limits(num_pages=2000, max_num_seqs=32, budget=1000))
    for _ in range(3):
        simulation.submit("quiet", 8, 200)
    for _ in range(100):
        simulation.submit("flood", 20, 100)
    for _ in range(40):
        simulation.step()
    simulation.scheduler.sharing.ran(100, 0, seconds=1.0)
    late = simulation.submit("quiet", 20, 5)
    chunks = simulation.step()
    assert late in [chunk.sequence.request_id for chunk in chunks]
    assert {chunk.sequence.tenant for chunk in chunks} == {"quiet"}
    simulation.run_to_end()


def test_a_tenants_own_decodes_sit_out_the_step_of_its_prompt() -> None:
    simulation = Simulation(Limits(num_pages=2000, max_num_seqs=16, budget=1000))
    early = simulation.submit("quiet", 8, 200)
    for _ in range(20):
        simulation.submit("flood", 20, 500)
    for _ in range(3):
        simulation.step()
    simulation.scheduler.sharing.ran(100, 0, seconds=1.0)
    late = simulation.submit("quiet", 20, 5)
    assert [chunk.sequence.request_id for chunk in simulation.step()] == [late]
    assert early in [chunk.sequence.request_id for chunk in simulation.step()]
    simulation.run_to_end()


def test_a_flood_of_short_prompts_keeps_decodes_few_and_loses_no_step() -> None:
    simulation = Simulation(Limits(num_pages=4000, max_num_seqs=64, budget=1000))
    simulation.scheduler.sharing.ran(1000, 0, seconds=1.0)
    simulation.submit("quiet", 40, 1)
    for _ in range(200):
        simulation.submit("flood", 16, 60)
    sizes = [sum(chunk.num_tokens for chunk in simulation.step()) for _ in range(150)]
    assert all(28 <= size <= 48 for size in sizes[20:]), sizes  # 32 decodes, the end of a prompt
    simulation.run_to_end()


def test_a_long_prompt_below_its_share_is_not_held_up_for_its_length() -> None:
    """Those of the flood, begun and waiting, are behind it until it is done."""
    simulation = Simulation(Limits(num_pages=4000, max_num_seqs=64, budget=2048))
    simulation.scheduler.sharing.ran(1000, 0, seconds=1.0)
    simulation.submit("quiet", 40, 1)
    for _ in range(20):
        simulation.submit("flood", 1000, 10)
    for _ in range(100):
        simulation.step()
    long = simulation.submit("quiet", 1000, 1)
    for _ in range(8):
        (first, *_) = (c for c in simulation.step() if c.num_tokens > 1)
        assert first.sequence.request_id == long
    assert long in simulation.finished
    simulation.run_to_end()


def test_a_short_prompt_starts_beside_a_long_one_that_is_below_its_share_too() -> None:
    simulation = Simulation(Limits(num_pages=4000, max_num_seqs=64, budget=2048))
    simulation.scheduler.sharing.ran(1000, 0, seconds=1.0)
    for tenant in ("quiet", "long"):
        simulation.submit(tenant, 40, 1)
    for _ in range(20):
        simulation.submit("flood", 1000, 10)
    for _ in range(100):
        simulation.step()
    simulation.submit("long", 1000, 1)
    for _ in range(3):
        simulation.step()
    short = simulation.submit("quiet", 40, 1)
    chunks = {chunk.sequence.tenant: chunk.num_tokens for chunk in simulation.step()}
    assert (chunks["quiet"], chunks["long"]) == (40, 88)
    assert short in simulation.finished
    simulation.run_to_end()


REQUESTS = st.lists(
    st.tuples(st.integers(1, 90), st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=20
)


@settings(max_examples=50, deadline=None)
@given(requests=REQUESTS, seconds_per_token=st.sampled_from([0.001, 1.0]))
def test_a_tenant_alone_is_scheduled_as_if_time_were_no_matter(
    requests: list[tuple[int, int, int]], seconds_per_token: float
) -> None:
    def steps(seconds: float) -> list[list[tuple[int, int, int]]]:
        limits = Limits(num_pages=40, max_num_seqs=6, budget=64, seconds_per_token=seconds)
        simulation, done = Simulation(limits), []
        for num_prompt, num_output, num_steps in requests:
            simulation.submit("alone", num_prompt, num_output)
            done += [simulation.step() for _ in range(num_steps)]
        while simulation.num_open:
            done.append(simulation.step())
        return [[(c.sequence.request_id, c.start, c.num_tokens) for c in step] for step in done]

    assert steps(seconds_per_token) == steps(0.0)
