"""What a user asks of a cut: how much it keeps, and what it may cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puma_cli.config.amounts import parse_count
from puma_cli.config.settings import AnalyzeSettings
from puma_cli.errors import ConfigError
from puma_cli.profiling.cost.depth_cost import DepthCost, Parameters
from puma_cli.report.numbers import count


@dataclass(frozen=True)
class Aims:
    """Bounds on a cut; None leaves one open.

    Args:
        retention: the least share of the full model's score (0 to 1] that the trained cut keeps.
        parameters: most parameters of the cut (>= 1).
        latency: most milliseconds for one query alone (> 0).
    """

    retention: float | None = None
    parameters: int | None = None
    latency: float | None = None

    @property
    def bounded(self) -> bool:
        """Whether the cost is bounded."""
        return self.parameters is not None or self.latency is not None

    @property
    def budget(self) -> str:
        """The bounds on the cost in words."""
        words = []
        if self.parameters is not None:
            words.append(f"{count(self.parameters)} parameters")
        if self.latency is not None:
            words.append(f"{self.latency:g} ms a query")
        return " and ".join(words)

    def check(self, parts: Parameters) -> None:
        """Refuse a bound on parameters that not even one layer keeps within, before any work.

        Raises:
            ConfigError: names the smallest cut.
        """
        if self.parameters is not None and parts.at(1) > self.parameters:
            raise ConfigError(
                f"No cut keeps within {count(self.parameters)} parameters.",
                cause=f"With one decoder layer the model still has {count(parts.at(1))}.",
                hint="Allow more with --max-parameters, or start from a smaller model.",
            )

    def affordable(self, costs: Sequence[DepthCost]) -> int:
        """Return the largest k that keeps within the bounds on the cost, or 0 if none does."""
        within = [cost.k for cost in costs if self._allows(cost)]
        return max(within, default=0)

    def _allows(self, cost: DepthCost) -> bool:
        small = self.parameters is None or cost.parameters <= self.parameters
        return small and (self.latency is None or cost.latency_query <= self.latency)


NO_AIMS = Aims()


def aims_of(settings: AnalyzeSettings) -> Aims:
    """Return what the settings ask for.

    Raises:
        ConfigError: the number of parameters cannot be read.
    """
    most = settings.max_parameters
    return Aims(
        retention=settings.target_retention,
        parameters=None if most is None else parse_count(most),
        latency=settings.max_latency,
    )
