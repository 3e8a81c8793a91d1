"""Two profiles in tables: the cuts, and what each depth keeps."""

from __future__ import annotations

from puma_cli.profiling.comparison import ProfileComparison
from puma_cli.report.depth_table import UNKNOWN
from puma_cli.report.side_by_side import cut_rows, kept_headers, kept_rows
from tests.profiling.examples import profile
from tests.report.profiles import bare, deep


def test_a_row_for_each_fact() -> None:
    made = profile()
    rows = {row[0]: row[1:] for row in cut_rows(ProfileComparison((made, bare()), ()))}
    assert rows["recommended"][0] == f"{made.recommended} of 12 layers"
    assert rows["full hit@1"] == [f"{made.mean()[-1]:.1%}"] * 2
    assert rows["kept untrained"][0].startswith(f"{made.kept(made.recommended):.0%}")
    assert rows["kept bridged"][1] == UNKNOWN


def test_a_row_for_each_depth_of_the_deepest() -> None:
    short, long = profile(), deep(28)
    found = kept_rows(ProfileComparison((short, long), ()))
    assert [row[0] for row in found] == [str(k) for k in range(1, 29)]
    assert all(len(row) == len(kept_headers(["a", "b"])) for row in found)
    assert found[3][1].startswith(f"{short.kept(4):.0%}")
    assert found[20][1:3] == [UNKNOWN, UNKNOWN]
    assert found[-1][3] == "100%"
