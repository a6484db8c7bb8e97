"""What a load asks is drawn as was told, and the same again for a seed."""

import itertools
import random
import statistics
from collections import Counter
from dataclasses import replace

import pytest

from lorikeet.load.lengths import LognormalLengths, UniformLengths, parse_lengths
from lorikeet.load.popularity import parse_popularity
from lorikeet.load.workload import PlannedRequest, Workload, parse_workload, plan

ADAPTERS = [f"a{number}" for number in range(10)]
NUM = 4000


def drawn(
    workload: Workload,
    *,
    rate: float | None = None,
    tenants: tuple[str, ...] = ("",),
    seed: int = 0,
) -> list[PlannedRequest]:
    requests = plan(workload, adapters=ADAPTERS, tenants=tenants, rate=rate, seed=seed)
    return list(itertools.islice(requests, NUM))


def counted(popularity: str) -> Counter[int]:
    indices = parse_popularity(popularity)(random.Random(0), len(ADAPTERS))
    return Counter(itertools.islice(indices, NUM))


def test_a_seed_gives_the_same_requests_again() -> None:
    workload = parse_workload("slora")
    assert drawn(workload, rate=3) == drawn(workload, rate=3)
    assert drawn(workload, rate=3) != drawn(workload, rate=3, seed=1)


def test_what_is_drawn_for_one_purpose_does_not_move_another() -> None:
    workload = parse_workload("sharegpt")
    slow, fast = drawn(workload, rate=1), drawn(replace(workload, burstiness=3), rate=100)
    assert [replace(request, due=0) for request in slow] == [
        replace(request, due=0) for request in fast
    ]
    assert slow[-1].due > fast[-1].due


def test_popularities_are_what_they_say() -> None:
    assert counted("identical") == {0: NUM}
    assert set(counted("distinct").values()) == {NUM // 10}
    even = counted("uniform")
    assert all(abs(count - NUM / 10) < NUM / 30 for count in even.values())
    zipf = counted("zipf")
    assert zipf[0] / zipf[1] == pytest.approx(2, rel=0.2)
    assert zipf[0] / zipf[4] == pytest.approx(5, rel=0.3)
    assert counted("zipf:2")[0] > zipf[0]
    # Half of the requests are for the lower 0.5 ** (1 / alpha) of the adapters.
    few = counted("power:0.3")
    assert few[0] / NUM == pytest.approx(0.1**0.3, rel=0.05)


def test_gaps_are_poisson_or_burstier() -> None:
    for burstiness in (1.0, 3.0):
        dues = [
            request.due
            for request in drawn(
                Workload(parse_popularity("uniform"), burstiness=burstiness), rate=5
            )
        ]
        gaps = [after - before for before, after in itertools.pairwise(dues)]
        mean = statistics.mean(gaps)
        assert dues[0] == 0
        assert mean == pytest.approx(0.2, rel=0.15)
        assert statistics.stdev(gaps) / mean == pytest.approx(burstiness, rel=0.15)


def test_tenants_get_their_shares() -> None:
    requests = drawn(parse_workload("fairness"), tenants=("small", "large"))
    assert Counter(request.tenant for request in requests)["small"] / NUM == pytest.approx(
        1 / 11, rel=0.15
    )
    equal = drawn(parse_workload("zipf"), tenants=("one", "two"))
    assert Counter(request.tenant for request in equal)["one"] / NUM == pytest.approx(0.5, rel=0.1)


def test_lengths_are_in_their_range() -> None:
    draw = random.Random(0)
    assert parse_lengths("64") == UniformLengths(64, 64)
    assert {parse_lengths("8-11").draw(draw) for _ in range(200)} == {8, 9, 10, 11}
    lengths = [LognormalLengths(161, high=10**6).draw(draw) for _ in range(NUM)]
    assert statistics.mean(lengths) == pytest.approx(161, rel=0.1)
    assert min(lengths) >= 4
    assert max(parse_lengths("lognormal:338").draw(draw) for _ in range(NUM)) == 1024


@pytest.mark.parametrize("text", ["0", "9-8", "-3", "many", "lognormal:0", "8-", ""])
def test_other_lengths_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no length"):
        parse_lengths(text)


@pytest.mark.parametrize("text", ["zip", "zipf:x", "power:0", "uniform:2", "zipf:-1", ""])
def test_other_workloads_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"fairness|convert"):
        parse_workload(text)
