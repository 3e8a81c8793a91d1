"""What `puma distill` can be asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from puma_cli.config.lora_settings import LoraSettings
from puma_cli.config.pairs_settings import PairsSettings

FRESH = "fresh"
NO_TEACHER = "none"
# The weights of `LossSettings` that compare a student with its teacher.
DISTILLING = ("mse", "cosine", "similarity", "gram", "bank", "hints")
AUTO = "auto"
NO_TRACKERS = "none"


@dataclass(frozen=True)
class FreshSettings:
    """The architecture of a model that starts from nothing: a small stock Qwen2-VL.

    Args:
        vocabulary: size of the byte-level BPE vocabulary, special tokens included (>= 300).
        image_size: side in pixels that images are brought to at most, a multiple of
            `patch_size * merge_size`.
    """

    hidden_size: int = 192
    layers: int = 12
    heads: int = 4
    key_value_heads: int = 2
    intermediate_size: int = 512
    vocabulary: int = 1024
    vision_size: int = 96
    vision_layers: int = 3
    vision_heads: int = 4
    patch_size: int = 14
    merge_size: int = 2
    image_size: int = 56


@dataclass(frozen=True)
class LossSettings:
    """Weights and temperatures of the training loss.

    Args:
        contrastive: `info_nce` or `mac` (the modality-adaptive loss).
        contrastive_weight: weight of the contrastive term (>= 0).
        temperature: softmax temperature tau (> 0).
        temperatures: with `mac`, nine taus in place of the one: for queries of text, image, and
            image with text, three each, for candidates in the same order; or none.
        learn_temperature: train the temperature, from the given one; it stays in .005 to 1.
        decay: decay of the hard temperature of `mac` (>= 0).
        symmetric: add the candidate-to-query direction.
        dimensions: lengths of prefixes of the embedding that the contrastive term trains as well,
            such as 64,128 (Matryoshka); the whole embedding is always among them.
        false_negative_margin: leave out negatives that the teacher scores above the query's
            positive plus this, such as -0.05; or none.
        mse: weight of E||h_t - h_s||^2 / D on un-normalised post-norm states (>= 0).
        cosine: weight of 1 - cos(h_t, h_s) (>= 0).
        similarity: weight of the KL divergence between the teacher's and the student's
            distributions over the batch's candidates (>= 0).
        gram: weight of the squared difference between the teacher's and the student's cosines
            among queries and among candidates (>= 0).
        bank: weight of the KL divergence between the teacher's and the student's distributions
            over `bank_size` of the teacher's cached embeddings, drawn anew each step (>= 0).
        hints: weight of E||norm(h_t[j]) - norm(h_s[i])||^2 / D at inner depths i of the student and
            j = i * L / k of the teacher (>= 0).
        hint_depths: those depths i (1 to k - 1); by default all.
        frozen_candidates: candidates are the teacher's cached embeddings, and only queries train,
            for an index that the teacher has made.
        projection: a linear map from the student's embeddings to the teacher's, in front of `mse`,
            `cosine` and `bank`: `none`; `ridge`, fitted once before the first step; or `learned`,
            which starts there and trains on. It is not part of the student.
    """

    contrastive: str = "info_nce"
    contrastive_weight: float = 1.0
    temperature: float = 0.05
    decay: float = 0.5
    symmetric: bool = False
    mse: float = 0.0
    cosine: float = 0.0
    similarity: float = 0.0
    gram: float = 0.0
    bank: float = 0.0
    bank_size: int = 1024
    hints: float = 0.0
    hint_depths: tuple[int, ...] = ()
    projection: str = "none"
    temperatures: tuple[float, ...] = ()
    learn_temperature: bool = False
    dimensions: tuple[int, ...] = ()
    false_negative_margin: float | None = None
    frozen_candidates: bool = False

    @property
    def needs_teacher(self) -> bool:
        """Whether a term or a mask asks the teacher."""
        terms = any(getattr(self, name) for name in DISTILLING)
        return terms or self.false_negative_margin is not None or self.frozen_candidates


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW under a warm-up and a cosine decay.

    Args:
        learning_rate: peak learning rate (> 0).
        first_layer_scale: factor on the learning rate of decoder layer 0 (paper: 0.5).
        layer_decay: factor d (0 to 1] on the learning rate from a layer to the one below: layer i
            of k learns at d^(k-1-i) times the rate, what lies below layer 0 at d^k times.
        warmup: share of the steps spent warming up [0, 1).
        floor: final learning rate as a share of the peak [0, 1].
        clip: largest gradient norm (> 0).
    """

    learning_rate: float = 2e-4
    first_layer_scale: float = 1.0
    layer_decay: float = 1.0
    warmup: float = 0.03
    floor: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-7
    weight_decay: float = 0.0
    clip: float = 1.0


@dataclass(frozen=True)
class BatchSettings:
    """How training batches are drawn.

    Args:
        size: queries in a batch (>= 2); each brings one positive candidate.
        grouping: `mixed` (all tasks in a batch), `query` (one modality of queries a batch, with
            candidates of all modalities) or `task` (one task of one data set a batch).
        negatives: hard negatives of its own, as the data names them, that a query brings at most
            (>= 0), drawn anew in every epoch.
        neighbours: fill batches with queries whose positives are hard negatives of one another.
        weights: how often tasks are shown beside the others, by glob over tasks or data sets, such
            as cirr=2,mscoco_task0=0.5; the first that matches counts, and 1 where none does.
        balance: an epoch shows a task of n queries in proportion to n to this power [0, 1]: 1 shows
            every query once, 0 all tasks equally often, whatever their sizes.
        instruction: `seeded` draws one of the data set's prompts for each query and epoch; `first`
            always takes the first.
        max_pixels: images are reduced to this area in pixels at most (>= 1), for the teacher too;
            the student is written with this limit. None leaves the one of its own.
        chunk_tokens: tokens, with padding, that one pass may hold: larger batches are computed in
            chunks with the same gradients, for one more pass forward; or none.
        chunk_pixels: likewise for the pixels of images.
        accumulate: batches, each with a loss of its own, whose gradients make one step (>= 1); for
            more negatives take a larger `size` with chunks instead.
        bad_images: `error` ends the training at an image that cannot be read; `skip` leaves out the
            queries and candidates that show it, and counts them.
        augment: show each image in a random view (turned, scaled, shifted, on a tinted ground),
            drawn from the seed, the epoch and the query.
    """

    size: int = 96
    grouping: str = "mixed"
    negatives: int = 0
    neighbours: bool = False
    weights: tuple[str, ...] = ()
    balance: float = 1.0
    instruction: str = "seeded"
    max_pixels: int | None = None
    chunk_tokens: int | None = None
    chunk_pixels: int | None = None
    accumulate: int = 1
    bad_images: str = "error"
    augment: bool = False


@dataclass(frozen=True)
class TrainSettings:
    """Length, rhythm and precision of a training.

    Args:
        steps: optimizer steps (>= 1), or None to derive them from `epochs`.
        epochs: passes over the training queries (> 0).
        validate_every: steps between two validations and saves of state (>= 1).
        save_every: steps between two saves of state besides (>= 1), or None.
        save_minutes: minutes between two saves of state besides (> 0), or None.
        keep_states: how many of the last saved states stay (>= 1).
        validation_limit: queries of each task used for validation; with 0 there is none, and the
            last weights are kept.
        validate_teacher: score the teacher on the same queries, once, before the first step, so
            that the log says which share of its hit@1 the student has. It takes as long as one
            validation of a student at full depth.
        freeze_vision: keep the vision tower and its merger as they are.
        train_embeddings: train the token embedding table (full training only).
        fade_head: lead the bridge of a student that `puma prune --bridge` made to the identity in
            the first half of the steps, so that the student is a stock model without one; it is not
            trained then, and the best weights are chosen from the second half only.
        train_embed_token: train the table's row of the token that embeddings are read at, with
            adapters too, and no other row.
        cache_teacher: compute the teacher's embeddings of all inputs once, before the first step,
            and keep them on disk while training: the teacher then costs what the distinct inputs
            cost, whatever the epochs, and leaves the memory. A query keeps its instruction.
        cache_dir: folder that these embeddings stay in, for other trainings with the same teacher;
            by default they go when the training ends.
        cache_dtype: how they are kept: `float32`, or `float16` or `bfloat16` in half the space.
        verify_cache: let the teacher read a few inputs again when others were kept from before,
            and refuse what has changed.
        teacher_dtype: number format of a teacher's weights: `float32`, `bfloat16`, or `auto` for
            float32, and with adapters for that of the weights below them, unless it is cached.
        encode_batch: inputs that a validation and a cached teacher embed at once (>= 1).
        save_dtype: dtype of the written weights: `float32`, `float16`, `bfloat16` or `auto`.
        strategy: what several processes hold: `ddp`, all weights each; `fsdp2`, a part each of the
            decoder's weights, their gradients and their moments.
        checkpoint_activations: keep only each layer's input for the backward pass, and compute the
            layer again there: less memory for a third more time.
        compile: compile the decoder's layers with torch.compile.
        deterministic: on a GPU, take algorithms whose results do not change from run to run.
        loss_limit: stop when the loss is more than so many times that of the first step (> 1).
        trackers: where the log's numbers go besides: `auto` (TensorBoard, if it is installed),
            `none`, or names such as tensorboard,wandb.
    """

    steps: int | None = None
    epochs: float = 2.0
    validate_every: int = 100
    save_every: int | None = None
    save_minutes: float | None = 15.0
    keep_states: int = 1
    validation_limit: int = 100
    validate_teacher: bool = True
    freeze_vision: bool = True
    train_embeddings: bool = False
    fade_head: bool = False
    train_embed_token: bool = False
    cache_teacher: bool = False
    cache_dir: str = ""
    cache_dtype: str = "float32"
    verify_cache: bool = True
    teacher_dtype: str = "auto"
    encode_batch: int = 128
    save_dtype: str = "auto"
    strategy: str = "ddp"
    checkpoint_activations: bool = False
    compile: bool = False
    deterministic: bool = False
    loss_limit: float = 20.0
    trackers: tuple[str, ...] = (AUTO,)


@dataclass(frozen=True)
class DistillSettings:
    """Settings of `puma distill`.

    Args:
        student: folder of a pruned checkpoint, or `fresh` for a newly initialised model.
        teacher: the model at full depth, a folder of its embeddings, or `none` for contrastive
            training alone.
        data: a table of pairs, a folder of such tables, or a folder in the M-BEIR layout with a
            training split.
        output_dir: folder for the trained model; training state lives below it until the end.
        resume: go on from the state in `output_dir`.
        stop_after: stop cleanly, with state saved, after this many minutes (> 0).
        dry_run: say what the training would take, from its first few steps, and keep nothing.
        full_hash: hash every byte of the parents, instead of a sample of them.
    """

    student: str
    data: Path
    output_dir: Path
    teacher: str = "none"
    fresh: FreshSettings = field(default_factory=FreshSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    batch: BatchSettings = field(default_factory=BatchSettings)
    pairs: PairsSettings = field(default_factory=PairsSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    tasks: str = "*"
    device: str = "auto"
    dtype: str = "auto"
    seed: int = 0
    stop_after: float | None = None
    dry_run: bool = False
    resume: bool = False
    overwrite: bool = False
    full_hash: bool = False
