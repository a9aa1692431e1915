"""Linear programs with whole numbers, solved by HiGHS.

HiGHS is imported when a program is solved, as few models need it and it takes as long to import as all else.
One thread, a fixed seed and a limit on nodes instead of time: the same program has the same solution everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

GAP = 1e-3
"""How far from the best, as a share, a solution may be; the search ends there."""
_OPTIONS: Mapping[str, bool | int | float] = {
    "output_flag": False,
    "threads": 1,
    "random_seed": 0,
    "mip_rel_gap": GAP,
    "mip_max_nodes": 2_000,
}


@dataclass(frozen=True, slots=True)
class Solution:
    """Values of the variables, the objective's, and what no solution gets below."""

    values: tuple[float, ...]
    objective: float
    bound: float


@dataclass(slots=True)
class Program:
    """A program to be minimized; variables are their numbers."""

    offset: float = 0.0
    costs: list[float] = field(default_factory=list)
    uppers: list[float] = field(default_factory=list)
    row_lowers: list[float] = field(default_factory=list)
    row_uppers: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    columns: list[int] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)

    def variable(self, *, cost: float = 0.0, upper: float = 1.0) -> int:
        """Add a whole number from 0 to `upper`."""
        self.costs.append(cost)
        self.uppers.append(upper)
        return len(self.costs) - 1

    def row(self, terms: Iterable[tuple[int, float]], *, lower: float = -inf, upper: float = inf) -> None:
        """Keep a sum of variables times factors within bounds."""
        summed: dict[int, float] = {}
        for column, factor in terms:
            summed[column] = summed.get(column, 0.0) + factor
        self.columns += summed.keys()
        self.factors += summed.values()
        self.starts.append(len(self.columns))
        self.row_lowers.append(lower)
        self.row_uppers.append(upper)

    def solved(self, *, is_whole: bool = True) -> Solution | None:
        """Minimize, with fractions as well where that is enough; None where nothing keeps within the bounds."""
        import highspy  # noqa: PLC0415 - see above

        highs = highspy.Highs()  # type: ignore[no-untyped-call]  # its stub leaves the constructor out
        for name, value in _OPTIONS.items():
            highs.setOptionValue(name, value)
        highs.passModel(
            len(self.costs), len(self.row_lowers), len(self.columns),
            int(highspy.MatrixFormat.kRowwise), int(highspy.ObjSense.kMinimize), self.offset,
            self.costs, [0.0] * len(self.costs), self.uppers, self.row_lowers, self.row_uppers,
            self.starts[:-1], self.columns, self.factors, [int(is_whole)] * len(self.costs),
        )  # fmt: skip
        highs.run()
        info = highs.getInfo()
        if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            return None
        objective = info.objective_function_value
        bound = info.mip_dual_bound if is_whole else objective
        return Solution(tuple(highs.getSolution().col_value), objective, bound)
