"""Runs that are done, skipped, stopped and gone on with, by real processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ablations.app import main
from ablations.records import read_results


def test_runs_are_done_once_and_scored_query_by_query(
    words: list[str], asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ["--results", str(asked / "results"), "--work-dir", str(asked / "work"), "--device", "cpu", "--together"]
    assert main([*words, "run", *there]) == 0
    said = capsys.readouterr().out
    assert "6 runs done, 0 left, 0 failed." in said
    found = read_results(asked / "results")
    assert len(found.lines) == 6 == len({key for key, _ in found.lines})
    for (key, split), line in found.lines.items():
        hits = found.hits[key, split]
        values = hits.values("hit@1")
        assert line["scores"]["local"]["hit@1"] == pytest.approx(
            np.mean([each.mean() for each in values.values()])
        )
        union = [text.count("1") / len(text) for text in hits.wrong.values()]
        assert line["scores"]["union"]["hit@1"] == pytest.approx(np.mean(union))
        assert line["per_task"] == pytest.approx({t: v.mean() for t, v in values.items()})
        if line["trainer"]:
            assert line["steps"] == 3 and line["command"].startswith("puma distill ")
    # Nothing is left, and nothing is done again.
    assert main([*words, "run", *there]) == 0
    assert "0 of 6 runs are left" in capsys.readouterr().out
