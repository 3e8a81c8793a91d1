"""The table and the figure of a bench."""

import pytest

from puma_cli.benching.results import Kept
from puma_cli.cli.output import Table, _rich_table
from puma_cli.report.bench_plot import plot_bench
from puma_cli.report.bench_table import bench_tables, explain_table
from puma_cli.report.drawing import to_svg
from tests.benching.benches import make_bench, make_family, make_model


@pytest.mark.parametrize(
    "names", [["a"], ["teacher", "b"], [f"student-k{n}-seed0" for n in range(7)]]
)
def test_tables_fit_eighty_columns_and_name_every_model(names: list[str]) -> None:
    from rich.console import Console

    bench = make_bench(*(make_model(name, seconds=0.0123) for name in names))
    tables = bench_tables(bench)
    shown: list[str] = []
    for headings, rows in tables:
        assert headings[1] == names[0]
        shown += headings[1:] if headings is tables[0][0] else headings[2:]
        console = Console(width=80, emoji=False)
        with console.capture() as captured:
            console.print(_rich_table(Table(headings, rows), 80))
        lines = captured.get().splitlines()
        assert max(map(len, lines)) <= 80
        # Nothing was folded: a line a row, and the heading with its rule.
        assert len([line for line in lines if line.strip()]) == len(rows) + 2
    assert shown == names


def test_rows_without_a_value_are_left_out() -> None:
    (table,) = bench_tables(make_bench(make_model("a")))
    labels = [row[0].strip() for row in table[1]]
    assert "kept" not in labels
    assert "peak memory" in labels
    kept = Kept(0.5, 1.0, None)
    (table,) = bench_tables(make_bench(make_model("a", kept=kept)))
    rows = {row[0].strip(): row[1] for row in table[1]}
    assert (rows["hit@1"], rows["kept"]) == ("50.0%", "100.0%")
    assert "95% interval" not in rows


def test_the_numbers_of_a_row() -> None:
    model = make_model("b", seconds=0.02, faster=2.7, ideal=3.0)
    (table,) = bench_tables(make_bench(make_model("a"), model, price=2.0))
    cells = [(row[0], row[2]) for row in table[1]]
    assert ("one query, ms", "20.0 ±3") in cells
    assert ("  times as fast", "2.70") in cells
    assert ("  model alone, of ideal", "90% of 3.00") in cells
    assert ("1 M candidates: cost", "11.1") in cells
    assert any("2 an hour" in line for line in explain_table(make_bench(model, price=2.0)))


def test_the_figure_names_models_and_quality() -> None:
    svg = to_svg(plot_bench(make_family()), "bench", "a bench")
    assert "Kept of teacher" in svg
    assert "k4, 4 layers" in svg
    assert "times as fast as teacher" in svg
    alone = to_svg(plot_bench(make_bench(make_model("a"))), "bench", "a bench")
    assert "milliseconds each" in alone
    nothing = [make_model(name, kept=Kept(0.0, None, None)) for name in "ab"]
    assert "Kept of" not in to_svg(plot_bench(make_bench(*nothing)), "bench", "a bench")
