"""How `lorikeet bench` shows what it measured."""

from collections.abc import Mapping

from lorikeet.cli.output import print_table, stdout
from lorikeet.load.report import Figures, Percentiles, Report

_PERCENTILES = ("p50", "p90", "p99", "worst")


def print_report(report: Report, *, per_adapter: bool) -> None:
    """Tables, and a line for whatever makes them less than they seem."""
    figures = report.all
    stdout().print(
        f"{figures.num_requests} requests in {report.seconds:.1f} s, {figures.num_failed} failed: "
        f"{figures.requests_per_second:.2f} requests/s, "
        f"{figures.prompt_tokens_per_second:.0f} prompt and "
        f"{figures.output_tokens_per_second:.0f} output tokens/s",
        markup=False,
    )
    delays = {
        "to the first token": figures.to_first_token,
        "between tokens": figures.between_tokens,
        "end to end": figures.end_to_end,
        "late in sending": report.late,
    }
    rows = [(name, *_milliseconds(delay)) for name, delay in delays.items()]
    print_table(("milliseconds", *_PERCENTILES), rows, "")
    if figures.failures:
        failed = [(reason, str(count)) for reason, count in figures.failures.items()]
        print_table(("failed", "requests"), failed, "")
    if len(report.by_tenant) > 1:
        _print_groups("tenant", report.by_tenant)
    if per_adapter:
        _print_groups("adapter", report.by_adapter)
    for remark in _remarks(report):
        stdout().print(remark, style="yellow", markup=False, soft_wrap=True)


def _print_groups(what: str, groups: Mapping[str, Figures]) -> None:
    rows = (
        (
            name or "(base)",
            str(figures.num_requests),
            str(figures.num_failed),
            f"{figures.output_tokens_per_second:.0f}",
            *_milliseconds(figures.to_first_token),
            *_milliseconds(figures.between_tokens)[::2],
        )
        for name, figures in groups.items()
    )
    first = [f"first token {each}" for each in _PERCENTILES]
    columns = (what, "requests", "failed", "tokens/s", *first, "between p50", "between p99")
    print_table(columns, rows, "")


def _remarks(report: Report) -> list[str]:
    remarks = []
    if report.is_late:
        remarks.append(
            "this load generator was late itself: what it measured is partly its own delay; "
            "ask less of it, or give it a processor of its own"
        )
    if report.num_cut:
        remarks.append(f"{report.num_cut} requests were cut to what the model has room for")
    if report.all.cached_prompt_share > 0.01:
        share = report.all.cached_prompt_share
        remarks.append(f"{share:.0%} of the prompts' tokens came from the prefix cache")
    return remarks


def _milliseconds(delay: Percentiles) -> tuple[str, ...]:
    values = (delay.p50, delay.p90, delay.p99, delay.worst)
    return tuple("-" if value is None else f"{1000 * value:.1f}" for value in values)
