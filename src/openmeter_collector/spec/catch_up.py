"""The fields of inputs that fetch windows: their schedule, and what is fetched later."""

from __future__ import annotations

from openmeter_collector.component.windowed import WindowPlan
from openmeter_collector.errors import ConfigError
from openmeter_collector.spec.component import field, section
from openmeter_collector.values.schedule import parse_schedule
from openmeter_collector.values.units import Duration
from openmeter_collector.values.windows import Grid, grid_of


@section
class CatchUp:
    """Windows that were missed, because nobody ran or the source did not answer."""

    max_age: Duration = field(
        default=Duration("168h"),
        doc="Windows older than this are given up and reported as impossible. `0s` never gives up.",
    )
    max_parallel: int = field(
        default=4,
        minimum=1,
        maximum=64,
        doc="Missed windows fetched at a time, oldest first. The newest window never waits for them.",
    )

    def plan(
        self, grid: Grid, name: str, *, delay: float = 0.0, history: bool = True
    ) -> WindowPlan:
        """How to fetch the windows of a grid."""
        return WindowPlan(
            grid,
            name=name,
            delay=delay,
            history=history,
            max_age=float(self.max_age),
            max_parallel=self.max_parallel,
        )


def check_schedule(text: str) -> str | None:
    """A lint rule: what is wrong with a schedule of windows, or None."""
    try:
        schedule = parse_schedule(text)
        if schedule is None:
            return "a schedule is needed, such as '0 * * * * *' or @every 1m"
        grid_of(schedule)
    except ValueError as fault:
        return str(fault)
    return None


def windows_of(text: str, where: str) -> Grid:
    """The windows of a schedule that a config gives.

    Raises:
        ConfigError: it is none.
    """
    fault = check_schedule(text)
    schedule = parse_schedule(text) if fault is None else None
    if schedule is None:
        raise ConfigError(f"{where}: {fault}")
    return grid_of(schedule)
