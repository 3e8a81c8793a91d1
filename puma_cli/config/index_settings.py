"""What `puma embed` and `puma search` can be asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EmbedSettings:
    """Settings of `puma embed`.

    Args:
        model: folder, `puma-mini` or hub `id@revision`.
        inputs: files of text lines, tables (`.jsonl`, `.csv`, `.parquet`), images, folders of
            images or of tables, or `-` for lines of standard input.
        output_dir: folder for the index.
        side: `document` or `query`; queries get the model's instruction for them.
        instruction: what is asked of inputs that have no instruction of their own, or None for
            what `side` says.
        format: `npy`, `safetensors`, `parquet`, or `lancedb` for a table of that database.
        dimensions: keep the first so many components, renormalised (>= 1), or None for all.
        store_dtype: `float32`, `float16`, or `int8` with a scale for each vector.
        images: folder that paths of images in tables are relative to; by default the table's own.
        id_column: column of tables that holds ids; found by its usual names otherwise.
        text_column: likewise of texts.
        image_column: likewise of paths of images.
        metadata: columns of tables that are carried along, `*` for all others.
        skip_broken: leave out, and count, what cannot be read.
        shard_rows: inputs of a shard (>= 1): so many are embedded again after a kill at worst.
        batch_size: most inputs that are embedded at once.
        batch_tokens: most tokens, with their padding, that are embedded at once; 0 for what suits
            the device.
        image_workers: processes that decode images ahead; -1 for what suits images and machine.
        attention: `sdpa`, `eager`, or `flash_attention_2` where that is installed.
        dtype: number format that the model computes in.
        engine: `local`, or `ray` for the machines of a Ray cluster.
        ray_address: `auto` or HOST:PORT of a cluster that runs; without one, RAY_ADDRESS, or a
            cluster of this machine's cores and GPUs.
        workers: models that Ray runs at once (>= 0); 0 for as many as the cluster has room for.
        cpus_per_worker: cores of each (>= 0); 0 for what suits the cluster.
    """

    model: str
    inputs: tuple[str, ...]
    output_dir: Path
    side: str = "document"
    instruction: str | None = None
    format: str = "npy"
    dimensions: int | None = None
    store_dtype: str = "float32"
    images: Path | None = None
    id_column: str | None = None
    text_column: str | None = None
    image_column: str | None = None
    metadata: tuple[str, ...] = ("*",)
    skip_broken: bool = False
    shard_rows: int = 4_096
    batch_size: int = 1_024
    batch_tokens: int = 0
    image_workers: int = -1
    attention: str = "sdpa"
    device: str = "auto"
    dtype: str = "auto"
    overwrite: bool = False
    engine: str = "local"
    ray_address: str | None = None
    workers: int = 0
    cpus_per_worker: int = 0


@dataclass(frozen=True)
class SearchSettings:
    """Settings of `puma search`.

    Args:
        model: embeds the queries: the index's own model, or one of the same space.
        index: folder that `puma embed` wrote.
        instruction: what is asked of the queries, or None for the model's own instruction.
        top_k: results of a query (>= 1).
        approximate: use the index of faiss or LanceDB, made first where there is none yet.
        any_space: search although nothing says that model and index share a space.
        verify: compare every file of the index with its checksum before the first query, whatever
            their size; without it, of indexes of up to 256 MiB.
        batch_size: most queries that are embedded at once.
        attention: `sdpa`, `eager`, or `flash_attention_2` where that is installed.
        dtype: number format that the model computes in.
    """

    model: str
    index: Path
    instruction: str | None = None
    top_k: int = 10
    approximate: bool = False
    any_space: bool = False
    verify: bool = False
    batch_size: int = 128
    attention: str = "sdpa"
    device: str = "auto"
    dtype: str = "auto"
