"""What is seen while prompts are answered, and of each when it has been."""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from lorikeet.cli.comparison.answer import Answer, RunningAnswer
from lorikeet.cli.comparison.view import AnswersView, figures
from lorikeet.cli.output import stdout

_REFRESHES_PER_SECOND = 12


class Screen(Protocol):
    """A context manager around all answers."""

    def began(self, running: Sequence[RunningAnswer]) -> None:
        """A prompt's answers begin; they can be looked at while they run."""

    def ended(self) -> None:
        """One answer has ended."""

    def show(self, answers: Sequence[Answer]) -> None:
        """All answers to the next prompt are there."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def screen_for(num_prompts: int, num_adapters: int, *, is_quiet: bool) -> Screen:
    """`is_quiet`: nothing is said but how far it is, and that not on stdout."""
    if num_prompts == 1 and not is_quiet:
        return OnePromptScreen()
    return ManyPromptsScreen(num_prompts * num_adapters, shows_answers=not is_quiet)


class OnePromptScreen:
    """Answers grow side by side; their figures follow. In a pipe, only the end is shown."""

    def __init__(self) -> None:
        self._console = stdout()
        self._running: Sequence[RunningAnswer] = ()
        self._live = Live(
            console=self._console,
            get_renderable=lambda: AnswersView(self._running),
            refresh_per_second=_REFRESHES_PER_SECOND,
        )

    def began(self, running: Sequence[RunningAnswer]) -> None:
        self._running = running

    def ended(self) -> None:
        pass

    def show(self, answers: Sequence[Answer]) -> None:
        if self._console.is_terminal:
            self._live.stop()
        else:
            self._console.print(AnswersView(self._running))
        self._console.print(figures(answers))

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()


class ManyPromptsScreen:
    """A bar, and above it each prompt with its answers when all are there."""

    def __init__(self, num_answers: int, *, shows_answers: bool) -> None:
        self._console = stdout()
        self._shows_answers = shows_answers
        self._prompts: list[Sequence[RunningAnswer]] = []
        on_stdout = self._console.is_terminal and shows_answers
        console = self._console if on_stdout else Console(stderr=True)
        self._progress = Progress(
            TextColumn("answers"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=num_answers)

    def began(self, running: Sequence[RunningAnswer]) -> None:
        self._prompts.append(running)

    def ended(self) -> None:
        self._progress.advance(self._task)

    def show(self, answers: Sequence[Answer]) -> None:
        running = self._prompts.pop(0)
        if self._shows_answers:
            self._console.print(Text(answers[0].prompt, style="bold"))
            self._console.print(AnswersView(running))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()
