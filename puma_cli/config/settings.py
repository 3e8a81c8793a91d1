"""What each command can be asked to do: one frozen dataclass per command."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from puma_cli.config.pairs_settings import PairsSettings


@dataclass(frozen=True)
class AnalyzeSettings:
    """Settings of `puma analyze`.

    Args:
        model: folder, `puma-mini` or hub `id@revision`.
        data: folder in the M-BEIR layout.
        output_dir: folder for the profile and its report.
        split: `val` or `test`; choices belong on `val`.
        tasks: glob over task names, such as `*_task0`.
        limit: at most this many queries of each task (>= 1), or all.
        samples: at most this many queries in all (>= 1), drawn evenly from the tasks.
        pool_size: at most this many candidates of each task (>= 1); relevant ones always stay.
        bridge_rows: training inputs that the bridges are fitted on (>= 20), or 0 for no bridges.
        keep_last: also measure the cuts that keep the last layer.
        tokens: also measure similarity at tokens besides the embed token, and CKA.
        seed: seed of everything that is drawn.
        dry_run: say what the analysis would take, and run nothing.
        target_retention: share of the full model's score (0 to 1] that the trained cut is to keep;
            without it and the next two, the knee of the read-out is recommended.
        max_parameters: most parameters of the recommended cut, such as `4B`.
        max_latency: most milliseconds that it takes for one query alone (> 0).
        full_hash: hash every byte of the parents, instead of a sample of them.
    """

    model: str
    data: Path
    output_dir: Path
    split: str = "val"
    tasks: str = "*"
    limit: int | None = None
    samples: int = 2_000
    pool_size: int = 10_000
    bridge_rows: int = 8_000
    keep_last: bool = True
    tokens: bool = True
    target_retention: float | None = None
    max_parameters: str | None = None
    max_latency: float | None = None
    batch_size: int = 128
    device: str = "auto"
    dtype: str = "auto"
    seed: int = 0
    dry_run: bool = False
    overwrite: bool = False
    full_hash: bool = False


@dataclass(frozen=True)
class PruneSettings:
    """Settings of `puma prune`.

    Exactly one of `keep`, `layers`, `profile`, `parameters` and `size` says what stays.

    Args:
        keep: the number of decoder layers to keep (1 to the model's depth).
        layers: a list such as `0-2,11`, in ascending order.
        profile: folder of an analysis, whose recommended depth is taken.
        parameters: most parameters of the result, such as `4B`; as many layers as fit are kept.
        size: most bytes of its weights, such as `8GB` or `7.5GiB`, likewise.
        keep_last: of K layers, keep the first K - 1 and the last instead of the first K.
        head: `keep` or `drop` an LM head; `auto` drops one that has weights of its own.
        dtype: number format that the weights are cast to; `auto` copies them as they are.
        shard_size: most bytes of one weight file, or None for the parent's division into files.
        link: hard-link weight files that stay as they are instead of copying them.
        verify: `full` (opens with every weight, and computes what the parent does), `keys` (opens
            with every weight), `none`, or `auto` for `full` where the model fits in memory.
        bridge: fit a linear head that leads the result's vectors into the model's own space.
        bridge_from: folder of an analysis of the model, whose fitted bridge for this cut is taken.
        data: folder in the M-BEIR layout, whose training split the bridge is fitted on.
        bridge_rows: at most this many inputs for the bridge (>= 20).
        batch_size: inputs that are encoded at once for the bridge.
        seed: seed of the draw of those inputs.
        device: where the comparison and the bridge run.
        trust_remote_code: let the checks run Python code that the checkpoint brings.
        full_hash: hash every byte of the parents, instead of a sample of them.
    """

    model: str
    output_dir: Path
    keep: int | None = None
    layers: str | None = None
    profile: Path | None = None
    parameters: str | None = None
    size: str | None = None
    keep_last: bool = False
    head: str = "auto"
    dtype: str = "auto"
    shard_size: str | None = None
    link: bool = False
    verify: str = "auto"
    bridge: bool = False
    bridge_from: Path | None = None
    data: Path | None = None
    bridge_rows: int = 20_000
    batch_size: int = 128
    seed: int = 0
    device: str = "cpu"
    trust_remote_code: bool = False
    dry_run: bool = False
    overwrite: bool = False
    full_hash: bool = False


@dataclass(frozen=True)
class EvaluateSettings:
    """Settings of `puma eval`.

    Args:
        data: what `layout` says; of MMEB also a hub id.
        layout: `mbeir`, `mmeb` or `pairs`, or `auto` to tell from the data.
        images: folder of the images of MMEB or of pairs, of MMEB also a zip archive; by default
            where they usually are.
        pairs: which columns of tables of pairs hold what.
        pools: `local` (the task's own candidates) and/or `union` (all candidates of the split).
        instruction: `first` for each data set's first prompt, or `seeded` for one of its prompts
            drawn per query from `seed`.
        limit: at most this many queries of each task (>= 1); the result is then marked partial.
        k: the data set's own K, reported beside 1, 5 and 10.
        batch_size: most inputs that are encoded at once.
        batch_tokens: most tokens, with their padding, that are encoded at once; 0 for what suits
            the device.
        image_workers: processes that decode images ahead; -1 for what suits images and machine.
        attention: `sdpa`, `eager`, or `flash_attention_2` where that is installed.
        cache: keep vectors on disk, and take from there what is there already.
        cache_dir: where, instead of `$PUMA_CACHE` or `~/.cache/puma`.
        store_dtype: number format that vectors are kept in; `auto` is float32 where the model
            computes in it, and float16 otherwise.
        rehash: read every file of model and data again to see what it holds.
        unanswerable: `error` for queries none of whose answers is in the pool, or `zero` to score
            them 0.
        bad_rows: `error` for broken lines of a data set, or `skip` to leave them out, counted.
        bad_images: `error` for images that cannot be read, or `skip` to leave out what shows them,
            counted.
        query_model: embeds the queries, where `model` is to embed the candidates alone.
        any_space: score a `query_model` of which nothing says that its space is that of `model`.
        hubness_penalty: this share of a candidate's mean cosine over all queries of the task is
            taken from its scores (>= 0). The result is transductive, so no benchmark's number.
        search: `torch`, or `faiss` for the runs' top candidates.
        full_hash: hash every byte of the parents, instead of a sample of them.
    """

    model: str
    data: Path
    output_dir: Path
    query_model: str | None = None
    any_space: bool = False
    hubness_penalty: float = 0.0
    search: str = "torch"
    layout: str = "auto"
    images: Path | None = None
    pairs: PairsSettings = field(default_factory=PairsSettings)
    split: str = "test"
    tasks: str = "*"
    unanswerable: str = "error"
    bad_rows: str = "error"
    bad_images: str = "error"
    pools: tuple[str, ...] = ("local", "union")
    instruction: str = "first"
    limit: int | None = None
    k: int = 5
    batch_size: int = 1_024
    batch_tokens: int = 0
    image_workers: int = -1
    attention: str = "sdpa"
    cache: bool = True
    cache_dir: Path | None = None
    store_dtype: str = "auto"
    rehash: bool = False
    device: str = "auto"
    dtype: str = "auto"
    seed: int = 0
    overwrite: bool = False
    full_hash: bool = False


@dataclass(frozen=True)
class ExportSettings:
    """Settings of `puma export`.

    Args:
        model: folder, `puma-mini` or hub `id@revision`; usually a student.
        format: `transformers`, `sentence-transformers`, `vllm`, or `all`, each in a folder of its
            own.
        dtype: number format that the weights are cast to; `auto` copies them as they are.
        shard_size: most bytes of one weight file, or None for the model's division into files.
        dimensions: give the first so many components of the embeddings (>= 1), or None for all.
        prompts: instructions that loaders know by name, as `NAME=TEXT`, such as `query=Find it.`
        verify: open the result with stock loaders and compare its vectors.
        push_to_hub: upload the result as the model of this name, or None.
        private: make that model private, if it is new.
        full_hash: hash every byte of the model, instead of a sample of it.
    """

    model: str
    output_dir: Path
    format: str = "sentence-transformers"
    dtype: str = "auto"
    shard_size: str | None = None
    dimensions: int | None = None
    prompts: tuple[str, ...] = ()
    verify: bool = True
    push_to_hub: str | None = None
    private: bool = False
    overwrite: bool = False
    full_hash: bool = False


@dataclass(frozen=True)
class MineSettings:
    """Settings of `puma mine`.

    Args:
        model: folder, `puma-mini` or hub `id@revision`; usually the teacher.
        data: folder in the M-BEIR layout, with a training split.
        output_dir: folder for the same data with the negatives found.
        negatives: most negatives of a query (>= 1).
        pool: `task` for candidates of the data set and modality of the query's positives, `union`
            for all of the training pool.
        relative_margin: share m of the positive's score (0 to 1] that a negative may reach; above
            it lies what may be an answer. At a score s the bound is s - (1 - m) |s|, s being that
            of the query's lowest-scoring positive. None for no bound.
        max_score: highest cosine of a negative (-1 to 1), or None.
        min_score: lowest cosine of a negative (-1 to 1), or None.
        skip: ranks that are passed over, of the candidates within these bounds (>= 0).
        sample: draw the negatives from the first `depth` ranks instead of taking the first.
        depth: see `sample` (>= skip + negatives).
        keep_existing: append to the negatives that the data name, instead of replacing them.
        instruction: `first` for each data set's first prompt, or `seeded` for one of its prompts
            drawn per query from `seed`.
        full_hash: hash every byte of the parents, instead of a sample of them.
    """

    model: str
    data: Path
    output_dir: Path
    negatives: int = 8
    pool: str = "task"
    relative_margin: float | None = 0.95
    max_score: float | None = None
    min_score: float | None = None
    skip: int = 0
    sample: bool = False
    depth: int = 100
    keep_existing: bool = False
    tasks: str = "*"
    instruction: str = "first"
    batch_size: int = 128
    device: str = "auto"
    dtype: str = "auto"
    seed: int = 0
    overwrite: bool = False
    full_hash: bool = False


@dataclass(frozen=True)
class BenchSettings:
    """Settings of `puma bench`.

    Args:
        models: folders, `puma-mini` or hub ids `id@revision`, the reference first.
        data: folder in the M-BEIR layout that inputs are drawn from; None makes a mixture up.
        split: `val` or `test` of the data.
        tasks: glob over task names of the data.
        image_side: width and height of the mixture's pictures in pixels (>= 28).
        inputs: queries, and candidates, that are embedded in batches (>= 1).
        alone: how many of either are also embedded one at a time (>= 1).
        rounds: rounds that count (>= 1), in each of which all models take their turn.
        warmup: rounds before these that do not (>= 0).
        batch_size: most inputs at once (>= 1).
        batch_tokens: most tokens, with their padding, at once; 0 for what suits the device.
        attention: `sdpa`, `eager`, or `flash_attention_2` where that is installed.
        price_per_hour: what an hour of the machine costs, in any currency (>= 0).
        memory: measure the memory that each model takes, on a CPU in a process of its own.
        scores: score folders of the models, in their order, for what each keeps; or none.
        metric: of the scores: `hit@K`, `mrr@K`, `hit@k` or `ndcg@10`.
        pool: of the scores: `local` or `union`.
        plot: file for the figure, `.png`, `.svg` or `.pdf`; or None.
        seed: seed of the draw of inputs, and of the mixture.
    """

    models: tuple[str, ...]
    data: Path | None = None
    split: str = "test"
    tasks: str = "*"
    image_side: int = 448
    inputs: int = 64
    alone: int = 8
    rounds: int = 9
    warmup: int = 2
    batch_size: int = 128
    batch_tokens: int = 0
    attention: str = "sdpa"
    price_per_hour: float = 1.0
    memory: bool = True
    scores: tuple[Path, ...] = ()
    metric: str = "hit@1"
    pool: str = "local"
    plot: Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class DemoSettings:
    """Settings of `puma demo`.

    Args:
        output_dir: folder for all stages; a demo that was stopped there goes on.
        model: the model at full depth.
        keep: decoder layers that stay (1 to the model's depth).
        fast: less data, fewer steps, fewer queries and smaller pools: a look, not a measurement.
        recipe: recipe or file for the distillation, or empty for the one that ships.
    """

    output_dir: Path = Path("puma-demo")
    model: str = "puma-mini"
    keep: int = 4
    fast: bool = False
    recipe: str = ""
    device: str = "auto"
    seed: int = 0
    overwrite: bool = False
