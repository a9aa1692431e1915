"""Linear programs with whole numbers, solved by HiGHS.

HiGHS is imported when a program is solved, as few models need it and it takes as long to import as all else.
One thread, a fixed seed and a limit on nodes instead of time: the same program has the same solution everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf, isfinite

GAP = 1e-3
"""How far from the best, as a share, a solution may be; the search ends there."""
NODES = 2_000
"""How many parts of a program are looked at before a search ends."""
_OPTIONS: Mapping[str, bool | int | float] = {
    "output_flag": False,
    "threads": 1,
    "random_seed": 0,
    "mip_rel_gap": GAP,
}


@dataclass(frozen=True, slots=True)
class Solution:
    """Values of the variables, the objective's, and what no solution gets below.

    There are no values where the search ended before any were found.
    """

    values: tuple[float, ...]
    objective: float
    bound: float


@dataclass(slots=True)
class Program:
    """A program to be minimized; variables are their numbers."""

    offset: float = 0.0
    costs: list[float] = field(default_factory=list)
    lowers: list[float] = field(default_factory=list)
    uppers: list[float] = field(default_factory=list)
    row_lowers: list[float] = field(default_factory=list)
    row_uppers: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    columns: list[int] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)

    def variable(self, *, cost: float = 0.0, lower: float = 0.0, upper: float = 1.0) -> int:
        """Add a whole number from `lower` to `upper`."""
        self.costs.append(cost)
        self.lowers.append(lower)
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

    def solved(self, *, is_whole: bool = True, cutoff: float = inf, nodes: int = NODES) -> Solution | None:
        """Minimize, with fractions as well where that is enough; None where nothing keeps within the bounds.

        What does not cost less than `cutoff` is out of bounds: that is told to HiGHS by a row, as its option
        `objective_bound` leaves the offset out (HighsMipSolverData.cpp, init).
        """
        import highspy  # noqa: PLC0415 - see above

        highs = highspy.Highs()  # type: ignore[no-untyped-call]  # its stub leaves the constructor out
        for name, value in _OPTIONS.items():
            highs.setOptionValue(name, value)
        highs.setOptionValue("mip_max_nodes", nodes)
        whole = self._below(cutoff) if isfinite(cutoff) else self
        highs.passModel(
            len(whole.costs), len(whole.row_lowers), len(whole.columns),
            int(highspy.MatrixFormat.kRowwise), int(highspy.ObjSense.kMinimize), whole.offset,
            whole.costs, whole.lowers, whole.uppers, whole.row_lowers, whole.row_uppers,
            whole.starts[:-1], whole.columns, whole.factors, [int(is_whole)] * len(whole.costs),
        )  # fmt: skip
        highs.run()
        info = highs.getInfo()
        bound = info.mip_dual_bound if is_whole else info.objective_function_value
        if info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible:
            return Solution(tuple(highs.getSolution().col_value), info.objective_function_value, bound)
        if highs.getModelStatus() == highspy.HighsModelStatus.kSolutionLimit:
            return Solution((), inf, bound)
        return None

    def _below(self, cutoff: float) -> Program:
        """Add a row that keeps the objective below."""
        program = replace(
            self,
            row_lowers=list(self.row_lowers),
            row_uppers=list(self.row_uppers),
            starts=list(self.starts),
            columns=list(self.columns),
            factors=list(self.factors),
        )
        program.row([(number, cost) for number, cost in enumerate(self.costs) if cost], upper=cutoff - self.offset)
        return program
