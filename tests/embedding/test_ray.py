"""A real cluster of three machines' worth of processes: the same index, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from puma_cli.config.index_settings import EmbedSettings
from puma_cli.embedding.embed import embed
from puma_cli.embedding.index_folder import begun, describe_index
from puma_cli.embedding.ray_cluster import pool_of
from puma_cli.embedding.ray_worker import ATTEMPTS, ShardWorker, WorkerTask, attempts_path
from puma_cli.embedding.shards import records
from puma_cli.embedding.sources import sources_of
from puma_cli.embedding.starts import find_starts
from puma_cli.errors import ConfigError, DataError, DeviceError
from puma_cli.searching.index import open_index
from tests.embedding.conftest import Make
from tests.embedding.test_embed import Counting, held

# Seconds in which a cluster on a machine that is busy otherwise has surely begun.
PATIENCE = 300.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[int]]:
    """Start a head without cores and two workers of one core each; give their raylets."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
        from ray.cluster_utils import Cluster

        own: dict[str, Any] = {"object_store_memory": 100 * 2**20}
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **own})
        try:
            nodes = [found.add_node(num_cpus=1, **own) for _ in range(2)]
            found.wait_for_nodes(PATIENCE)
            patch.setenv("RAY_ADDRESS", found.address)
            yield [node.all_processes["raylet"][0].process.pid for node in nodes]
        finally:
            found.shutdown()


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Return a table of many small rows."""
    path = tmp_path / "texts.jsonl"
    rows = [{"id": f"t{n}", "text": "small red circle " * (n % 5 + 1) + str(n)} for n in range(960)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def on_ray(settings: EmbedSettings, **other: object) -> EmbedSettings:
    given = {"engine": "ray", "cpus_per_worker": 1} | other
    folder = settings.output_dir.with_name("on-ray")
    return replace(settings, output_dir=folder, **given)  # type: ignore[arg-type]


def check_same(settings: EmbedSettings, other: EmbedSettings) -> None:
    """Compare two indexes: rows exactly, vectors to what another number of threads may change."""
    rows, vectors = held(settings.output_dir)
    other_rows, others = held(other.output_dir)
    assert rows == other_rows
    torch.testing.assert_close(vectors, others, atol=1e-5, rtol=0)
    mine, theirs = records(settings.output_dir), records(other.output_dir)
    assert [(r.number, r.read, r.inputs) for r in mine] == [
        (r.number, r.read, r.inputs) for r in theirs
    ]
    assert not list((settings.output_dir / "shards").glob(".*"))


def workers_of(raylets: list[int]) -> list[int]:
    """Return the processes of the cluster that hold a model."""
    import psutil

    found = []
    for raylet in raylets:
        for child in psutil.Process(raylet).children(recursive=True):
            try:
                if "ShardWorker" in " ".join(child.cmdline()):
                    found.append(child.pid)
            except psutil.NoSuchProcess:
                pass
    return found


@pytest.mark.slow
@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_a_cluster_makes_the_same_index(
    cluster: list[int], make: Make, texts: Path, pictures: Path, form: str
) -> None:
    alone = make(texts, pictures, shard_rows=50, format=form)
    embed(alone)
    shared, watch = on_ray(alone), Counting()
    result = embed(shared, watch)
    assert (result.rows, result.embedded, result.shards) == (964, 964, 20)
    assert (watch.done, watch.total) == (964, 964)
    assert result.description.complete
    check_same(shared, alone)
    # Either engine goes on with what the other has made.
    with texts.open("a") as file:
        file.write('{"id": "last", "text": "one more"}\n')
    assert embed(replace(shared, inputs=alone.inputs[:1], overwrite=True)).rows == 961
    (shared.output_dir / "shards" / "000003.json").unlink()
    again = replace(shared, inputs=alone.inputs[:1], engine="local")
    assert embed(again).embedded == 50
    assert embed(replace(again, engine="ray")).embedded == 0


@pytest.mark.slow
def test_killed_workers_lose_and_double_nothing(
    cluster: list[int], make: Make, texts: Path
) -> None:
    alone = make(texts, shard_rows=4)
    embed(alone)
    shared = on_ray(alone)
    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + PATIENCE
        for threshold in (5, 60):
            while len(list((shared.output_dir / "shards").glob("[0-9]*.json"))) < threshold:
                if time.monotonic() > end:
                    return
                time.sleep(0.01)
            for process in workers_of(cluster)[:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)

    killer = threading.Thread(target=kill)
    killer.start()
    result = embed(shared)
    killer.join()
    assert len(killed) == 2
    assert (result.rows, result.embedded, result.shards) == (960, 960, 240)
    check_same(shared, alone)


@pytest.mark.slow
def test_lance_shards_from_a_cluster(cluster: list[int], make: Make, texts: Path) -> None:
    pytest.importorskip("lancedb")
    settings = on_ray(make(texts, shard_rows=100, format="lancedb"))
    assert embed(settings).rows == 960
    index = open_index(settings.output_dir, verify=True)
    assert len(index) == 960
    assert embed(settings).embedded == 0


@pytest.mark.slow
def test_what_workers_meet_is_told(cluster: list[int], make: Make, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    # Further down than where the driver looks to see what columns there are.
    path.write_text('{"text": "one"}\n' * 1_100 + '{"text": \n{"text": "two"}\n')
    settings = on_ray(make(path, shard_rows=100))
    with pytest.raises(DataError, match="line 1101 is broken") as caught:
        embed(settings)
    assert "--skip-broken" in caught.value.hint
    assert "worker on" in caught.value.cause
    watch = Counting()
    result = embed(replace(settings, skip_broken=True, overwrite=True), watch)
    assert (result.rows, result.skipped) == (1_101, 1)
    assert sum("line 1101" in note for note in watch.notes) == 1
    # What was embedded stays as it was.
    path.write_text('{"text": "other"}\n')
    with pytest.raises(DataError, match="inputs are not those"):
        embed(replace(settings, skip_broken=True))


def test_workers_fit_the_machines(make: Make, lines: Path) -> None:
    auto = make(lines, device="auto")
    two = [{"CPU": 0.0}, {"CPU": 16.0, "GPU": 2.0}, {"CPU": 64.0, "GPU": 8.0}]
    pool = pool_of(two, auto)
    assert (pool.workers, pool.cpus, pool.gpus, pool.device) == (10, 4, 1, "cuda")
    pool = pool_of(two, replace(auto, cpus_per_worker=16, workers=3))
    assert (pool.workers, pool.cpus, pool.note) == (3, 16, "")
    pool = pool_of([{"CPU": 1.0}, {"CPU": 1.0}, {}], auto)
    assert (pool.workers, pool.cpus, pool.device) == (2, 1, "cpu")
    assert pool_of(two, replace(auto, device="cpu", cpus_per_worker=8)).workers == 10
    assert (
        "room for 2 of 5"
        in pool_of([{"CPU": 2.0}], replace(auto, workers=5, cpus_per_worker=1)).note
    )
    with pytest.raises(ConfigError, match="cpus_per_worker = 9"):
        pool_of([{"CPU": 8.0}], replace(auto, cpus_per_worker=9))
    with pytest.raises(DeviceError, match="no GPU"):
        pool_of([{"CPU": 8.0}], replace(auto, device="cuda"))


def test_standard_input_is_not_shared_out(make: Make) -> None:
    with pytest.raises(ConfigError, match="Standard input"):
        embed(make("-", engine="ray"))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "127.0.0.1", "127.0.0.1:x"])
def test_a_cluster_that_is_not_there(make: Make, lines: Path, address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match="No Ray cluster can be reached at 127") as caught:
        embed(make(lines, engine="ray", ray_address=address))
    assert "ray start --head" in caught.value.hint
    assert not make(lines).output_dir.exists()


def test_a_shard_that_ends_its_workers_is_given_up(make: Make, lines: Path) -> None:
    settings = make(lines)
    model = Path(settings.model)
    planned = describe_index(settings, model)
    (begin, *_), _ = find_starts(sources_of([str(lines)]), settings.shard_rows)
    asked = {"number": begin.number, "source": begin.source, "start": json.dumps(begin.start)}
    with begun(settings, planned, model):
        worker = ShardWorker(WorkerTask.of(settings, planned.fingerprint, 1))
        tries = attempts_path(settings.output_dir, 0)
        tries.parent.mkdir(parents=True)
        tries.write_bytes(b"." * ATTEMPTS)
        found = worker(asked)
        assert not found["made"] and "ended its worker 10 times" in found["error"]
        tries.write_bytes(b"." * (ATTEMPTS - 1))
        assert worker(asked)["made"]
        assert not tries.exists()
        assert not worker(asked)["made"]


def test_a_machine_without_the_folder_says_so(make: Make, lines: Path) -> None:
    settings = make(lines)
    planned = describe_index(settings, Path(settings.model))
    worker = ShardWorker(WorkerTask.of(settings, planned.fingerprint, 1))
    found = worker({"number": 0, "source": 0, "start": "null"})
    assert "is not shared" in json.loads(found["error"])["problem"]
    with begun(settings, planned, Path(settings.model)):
        other = ShardWorker(WorkerTask.of(settings, "another", 1))
        assert "is not shared" in other({"number": 0, "source": 0, "start": "null"})["error"]
