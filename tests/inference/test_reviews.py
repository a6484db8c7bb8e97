"""Questions asked again: bounded, never older than the last change, and not given up."""

import asyncio

from inference_service.access.reviews import Reviews
from tests.inference.world import eventually


class Desk:
    """Answers when it is told to; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.num_open = self.most_open = 0
        self.is_answering = True
        self.gate = asyncio.Event()

    async def look(self, key: str) -> bool:
        self.asked.append(key)
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        try:
            await self.gate.wait()
        finally:
            self.num_open -= 1
        return self.is_answering


async def test_many_changes_of_one_make_one_question_more() -> None:
    desk = Desk()
    reviews = Reviews(desk.look)
    reviews.due("a")
    await eventually(lambda: desk.asked == ["a"])
    for _ in range(10):
        reviews.due("a")  # while it is being asked
    desk.gate.set()
    await eventually(lambda: desk.asked == ["a", "a"] and not desk.num_open)
    reviews.due("a")
    await eventually(lambda: len(desk.asked) == 3)
    await reviews.close()


async def test_a_bounded_number_is_asked_at_a_time() -> None:
    desk = Desk()
    reviews = Reviews(desk.look)
    for number in range(100):
        reviews.due(str(number))
    await eventually(lambda: desk.num_open > 1)
    desk.gate.set()
    await eventually(lambda: len(desk.asked) == 100 and not desk.num_open)
    assert desk.most_open == 16
    await reviews.close()


async def test_what_could_not_be_found_out_is_asked_again() -> None:
    desk = Desk()
    desk.gate.set()
    desk.is_answering = False
    reviews = Reviews(desk.look)
    reviews.due("a")
    await eventually(lambda: len(desk.asked) == 2)
    desk.is_answering = True
    await eventually(lambda: len(desk.asked) == 3)
    await reviews.close()


async def test_a_question_that_fails_is_asked_again() -> None:
    failures = [RuntimeError("a bug")]
    asked: list[str] = []

    async def look(key: str) -> bool:
        asked.append(key)
        if failures:
            raise failures.pop()
        return True

    reviews = Reviews(look)
    reviews.due("a")
    await eventually(lambda: asked == ["a", "a"])
    await reviews.close()


async def test_what_is_forgotten_is_asked_no_more() -> None:
    desk = Desk()
    reviews = Reviews(desk.look)
    reviews.due("a")
    await eventually(lambda: desk.num_open == 1)
    reviews.forget("a")
    await eventually(lambda: desk.num_open == 0)
    reviews.due("a")  # somebody new
    desk.gate.set()
    await eventually(lambda: desk.asked == ["a", "a"] and desk.num_open == 0)
    reviews.forget("never known")
    await reviews.close()
