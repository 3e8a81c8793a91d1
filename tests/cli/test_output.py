"""Results on standard output, talk on standard error, in three modes."""

import json
import re

import pytest

from puma_cli.cli.output import Mode, Outcome, Output, Table

Printed = pytest.CaptureFixture[str]

OUTCOME = Outcome(
    value="out",
    payload={"output_dir": "out", "score": 0.5},
    body=(Table(("task", "hit@1"), [("a_task0", "50.0"), ("mean", "50.0")], title="T"), "Done."),
    next_command="puma info out",
)


def test_human(capsys: Printed) -> None:
    Output("human").emit(OUTCOME)
    printed = capsys.readouterr()
    assert printed.err == "Next: puma info out\n"
    assert [line.split() for line in printed.out.splitlines() if "_task0" in line] == [
        ["a_task0", "50.0"]
    ]
    assert "Done." in printed.out
    assert "\x1b" not in printed.out


def test_json_is_one_object_and_nothing_else(capsys: Printed) -> None:
    Output("json").emit(OUTCOME)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {
        "output_dir": "out",
        "score": 0.5,
        "next": "puma info out",
    }
    assert printed.err == ""


def test_quiet_is_the_value(capsys: Printed) -> None:
    output = Output("quiet")
    output.talk("news")
    output.emit(OUTCOME)
    assert capsys.readouterr() == ("out\n", "")


@pytest.mark.parametrize("mode", ["human", "json", "quiet"])
def test_long_cells_are_never_cut_in_a_pipe(mode: Mode, capsys: Printed) -> None:
    name = "x" * 150
    table = Table(("name",), [(name,)])
    Output(mode).emit(Outcome(value=name, payload={"name": name}, body=(table,)))
    assert name in capsys.readouterr().out


def test_brackets_in_a_cell_are_text(capsys: Printed) -> None:
    Output().emit(Outcome(value="", payload={}, body=(Table(("kept",), [("90.1% [88, 92]",)]),)))
    assert "[88, 92]" in capsys.readouterr().out


def test_a_long_name_pushes_no_column_out_of_a_narrow_window(
    capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    columns = ("model", "kind", "computed in", "vectors", "numbers each", "size", "last used")
    name = "/somewhere/deep/students/3c48f5a639a8"
    rows = [(name, "unit", "float32", "32", "192", "25.3kB", "19min")]
    Output().emit(Outcome(value="", payload={}, body=(Table(columns, rows),)))
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, text.splitlines())) <= 80
    for word in rows[0][1:]:
        assert f" {word}" in text
    below = text.partition("───\n")[2].splitlines()
    assert "".join(line.split()[0] for line in below) == name
