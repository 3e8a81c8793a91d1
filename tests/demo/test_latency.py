"""Latency of one query."""

from pathlib import Path

from puma_cli.demo.latency import measure_latency
from puma_cli.models.inputs import Input


def test_every_model_gets_a_time(tiny_checkpoint: Path) -> None:
    models: dict[str, str | Path] = {"one": tiny_checkpoint, "two": str(tiny_checkpoint)}
    times = measure_latency(models, Input(text="a red circle"), device="cpu", rounds=3)
    assert set(times) == {"one", "two"}
    assert all(0 < milliseconds < 10_000 for milliseconds in times.values())
