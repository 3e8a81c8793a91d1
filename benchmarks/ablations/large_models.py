"""What cuts of large models take to train and to use: computed, not measured.

    python benchmarks/ablations/large_models.py --write docs/results/large-models.md

Parameters are those of puma's own plan of the cut, memory that of its forecast of a training, FLOPs
those of its cost model; all from stand-ins that have the published models' configurations and
shapes and no content (sparse files). Times follow from the FLOPs and the share of a GPU's peak that
is assumed below; nothing here ran on a GPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "prune")]

from shapes import in_files  # noqa: E402
from stand_in import StandIn  # noqa: E402

from puma_cli.checkpoint.decoder_keys import HEAD  # noqa: E402
from puma_cli.config.loading import load_settings  # noqa: E402
from puma_cli.config.lora_settings import NF4  # noqa: E402
from puma_cli.config.training_settings import DistillSettings  # noqa: E402
from puma_cli.distillation.forecast.memory import opened_bytes, plan_memory  # noqa: E402
from puma_cli.distillation.forecast.network import Network, read_network  # noqa: E402
from puma_cli.distillation.forecast.survey import Survey  # noqa: E402
from puma_cli.models.batch_plan import InputSize  # noqa: E402
from puma_cli.models.embedder_settings import (  # noqa: E402
    SUMMARY_TEMPLATE,
    EmbedderSettings,
    write_embedder_settings,
)
from puma_cli.profiling.cost.depth_cost import index_bytes  # noqa: E402
from puma_cli.profiling.cost.flops import ForwardFlops, count_flops  # noqa: E402
from puma_cli.pruning.planning.plan import make_plan  # noqa: E402
from puma_cli.report.numbers import count, size_on_disk, three_digits  # noqa: E402

# Inputs of M-BEIR's kind: half of them texts, half images of 300 merged patches with a text.
TEXT_TOKENS, IMAGE_TOKENS = 60, 300
MEGA = 1_000_000
RECIPES = ("default", "qlora-24gb", "8gpu-fsdp")
NONE = "–"


@dataclass(frozen=True)
class Machine:
    """GPUs, with what is assumed of them.

    Args:
        memory: bytes of one.
        flops: dense bfloat16 FLOPs a second of one, as published.
        gpus: how many there are.
    """

    name: str
    memory: int
    flops: float
    gpus: int = 1

    @property
    def usable(self) -> float:
        """FLOPs a second that a training is assumed to see."""
        return self.flops * self.gpus * UTILISATION * (SCALING if self.gpus > 1 else 1.0)


UTILISATION, SCALING = 0.4, 0.9
# 5% of a card is kept by its driver and by what torch cannot hand out.
SPARE = 0.95
MACHINES = (
    Machine("one 24 GB (165 TFLOPS)", 24 * 2**30, 165e12),
    Machine("one 80 GB (312 TFLOPS)", 80 * 2**30, 312e12),
    Machine("eight 80 GB", 80 * 2**30, 312e12, gpus=8),
)


def qwen2_vl(width: int, inner: int, heads: int, keys: int, vocabulary: int, tied: bool) -> Any:
    """Return the configuration of a Qwen2-VL, whose decoder has 28 layers."""
    import transformers

    text = {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": 28,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "vocab_size": vocabulary,
        "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24]},
        "tie_word_embeddings": tied,
    }
    vision = {"embed_dim": 1280, "depth": 32, "hidden_size": width, "num_heads": 16}
    return transformers.AutoConfig.for_model(
        "qwen2_vl",
        architectures=["Qwen2VLForConditionalGeneration"],
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=tied,
    )


def qwen3_vl(text: Mapping[str, Any], vision: Mapping[str, Any], tied: bool) -> Any:
    """Return the configuration of a Qwen3-VL."""
    import transformers

    return transformers.AutoConfig.for_model(
        "qwen3_vl",
        architectures=["Qwen3VLForConditionalGeneration"],
        text_config={
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 151936,
            "tie_word_embeddings": tied,
            **text,
        },
        vision_config={"num_heads": 16, "patch_size": 16, **vision},
        tie_word_embeddings=tied,
    )


MODELS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "Qwen2-VL-2B": (lambda: qwen2_vl(1536, 8960, 12, 2, 151936, True), (7, 9, 12, 16, 28)),
    "Qwen2-VL-7B": (lambda: qwen2_vl(3584, 18944, 28, 4, 152064, False), (7, 9, 12, 16, 28)),
    "Qwen3-VL-2B": (
        lambda: qwen3_vl(
            {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28}
            | {"num_attention_heads": 16},
            {"hidden_size": 1024, "depth": 24, "intermediate_size": 4096, "out_hidden_size": 2048}
            | {"deepstack_visual_indexes": [5, 11, 17]},
            tied=True,
        ),
        (7, 9, 12, 16, 28),
    ),
    "Qwen3-VL-8B": (
        lambda: qwen3_vl(
            {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36}
            | {"num_attention_heads": 32},
            {"hidden_size": 1152, "depth": 27, "intermediate_size": 4304, "out_hidden_size": 4096}
            | {"deepstack_visual_indexes": [8, 16, 24]},
            tied=False,
        ),
        (9, 12, 16, 20, 36),
    ),
}


@dataclass(frozen=True)
class Large:
    """A model without content.

    Args:
        text: FLOPs of a text.
        image: FLOPs of an image with a text.
    """

    folder: Path
    network: Network
    text: ForwardFlops
    image: ForwardFlops
    patch_pixels: int

    def flops(self, k: int, vision: bool = True) -> float:
        """Return the FLOPs of an average input through k layers."""
        seen = (self.text.vision + self.image.vision) / 2 if vision else 0.0
        return seen + k * (self.text.layer + self.image.layer) / 2


def build(name: str, folder: Path) -> Large:
    """Write a model's stand-in, and read back what it takes."""
    import transformers
    from accelerate import init_empty_weights

    config = MODELS[name][0]()
    with init_empty_weights():
        model = getattr(transformers, config.architectures[0])(config)
    tied = config.tie_word_embeddings
    shapes = {
        key: tuple(value.shape)
        for key, value in model.state_dict().items()
        if not (tied and key.startswith("lm_head."))
    }
    raw = {**config.to_dict(), "architectures": config.architectures, "torch_dtype": "bfloat16"}
    StandIn(raw, in_files(shapes, 4), "BF16", sparse=True).write(folder)
    # There is no tokenizer to find the token in; what it is changes no size.
    token = "<|im_end|>"
    width = int(config.text_config.hidden_size)
    template = SUMMARY_TEMPLATE.replace("EMBED_TOKEN", token)
    merged = config.vision_config.spatial_merge_size**2
    edge = int(config.vision_config.patch_size) ** 2 * merged
    settings = EmbedderSettings(template, token, width, 4 * edge, 1280 * edge)
    write_embedder_settings(settings, folder)
    inner = model.model
    return Large(
        folder,
        read_network(folder),
        count_flops(inner, [TEXT_TOKENS], [0]),
        count_flops(inner, [IMAGE_TOKENS + TEXT_TOKENS], [IMAGE_TOKENS * merged]),
        int(config.vision_config.patch_size) ** 2,
    )


def recipe_of(recipe: str, large: Large) -> DistillSettings:
    """Return a recipe's settings with a teacher."""
    flags = {
        "student": "cut",
        "teacher": str(large.folder),
        "data": Path("data"),
        "output_dir": Path("student"),
        # What `auto` stands for on a GPU is said below, as this machine may have none.
        "device": "cpu",
    }
    settings = load_settings(DistillSettings, config=recipe, flags=flags)
    if settings.lora.quantize == NF4:
        settings = replace(settings, lora=replace(settings.lora, base_dtype="bfloat16"))
    return settings


def survey_of(settings: DistillSettings, large: Large, k: int, processes: int) -> Survey:
    """Return what a forecast would find of a cut to k layers and batches of average inputs."""
    merged = large.network.tower.merged
    pixels = IMAGE_TOKENS * merged * large.patch_pixels
    shares = settings.batch.size * 2 // processes
    one = [InputSize(TEXT_TOKENS, 0), InputSize(IMAGE_TOKENS + TEXT_TOKENS, pixels)]
    return Survey(
        student=replace(large.network, layers=large.network.layers[:k]),
        teacher=large.network,
        kept=tuple(range(k)),
        same_vision=True,
        same_embeddings=True,
        batches=(tuple(one[place % 2] for place in range(shares)),),
        rows=settings.batch.size * 2,
        patch_pixels=large.patch_pixels,
        images=0,
        image_bytes=0,
        device="cuda",
        mixed=True,
        processes=processes,
        steps=1,
    )


def needed(recipe: str, large: Large, k: int, processes: int) -> tuple[int, int]:
    """Return the bytes of each process while it trains, and while both models are open."""
    settings = recipe_of(recipe, large)
    found = survey_of(settings, large, k, processes)
    return plan_memory(settings, found).total, opened_bytes(settings, found)


def training_flops(recipe: str, large: Large, k: int, epochs: float) -> float:
    """Return the FLOPs of a million pairs, each seen so many times, the teacher's included.

    In units of a pass forward through the k layers: 1 forward, 1 more of the gradients of inputs,
    1 more of those of weights where all of them train; 1 more forward for chunks and 1 for
    checkpointed activations. Adapters' own products are left out. The teacher reads each input
    once, where its answers are kept. A frozen tower sees an image in each pass forward.
    """
    settings = recipe_of(recipe, large)
    again = 1 + (settings.batch.chunk_tokens is not None)
    passes = again + 1 + (settings.lora.rank == 0) + settings.train.checkpoint_activations
    seen = large.flops(0) * again
    return 2 * MEGA * (epochs * (passes * large.flops(k, vision=False) + seen)
                       + large.flops(large.network.depth))  # fmt: skip


def page() -> str:
    """Return the page."""
    lines = [_HEAD.format(
        share=f"{UTILISATION:.0%}", scaling=f"{SCALING:.0%}", text=TEXT_TOKENS, image=IMAGE_TOKENS,
    )]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="puma-large-") as root:
        for name, (_, depths) in MODELS.items():
            large = build(name, Path(root) / name)
            lines += [f"## {name}", "", *_use_table(large, depths), "",
                      *_training_table(large, depths), ""]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def _use_table(large: Large, depths: tuple[int, ...]) -> list[str]:
    full = large.network.depth
    rows = []
    dimension = large.network.dimension
    for k in depths:
        parts = make_plan(large.folder, tuple(range(k))).parameters_after
        # An embedder has none, whatever its files keep for the sake of their names.
        own = sum(size for part, size in parts.items() if part != HEAD)
        query, whole = large.flops(k), large.flops(full)
        hours = MEGA * query / MACHINES[1].usable / 3600
        rows.append(
            f"| {k} of {full} | {count(own)} | {size_on_disk(2 * own)} | "
            f"{three_digits(query / 1e12)} | {query / whole:.0%} | {three_digits(hours)} | "
            f"{size_on_disk(index_bytes(MEGA, dimension))} |"
        )
    return [
        "| layers | parameters, no LM head | bfloat16 | TFLOPs an input | of the whole | "
        "hours to embed a million | their index, float16 |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]


def _training_table(large: Large, depths: tuple[int, ...]) -> list[str]:
    full = large.network.depth
    rows = []
    for recipe in RECIPES:
        for k in depths[:-1]:
            cells = []
            for machine in MACHINES:
                if (recipe == "8gpu-fsdp") != (machine.gpus > 1):
                    cells.append(NONE)
                    continue
                held, opening = needed(recipe, large, k, machine.gpus)
                most = max(held, opening)
                if most > SPARE * machine.memory:
                    cells.append(f"does not fit: {size_on_disk(most)}")
                    continue
                hours = training_flops(recipe, large, k, 1.0) / machine.usable / 3600
                cells.append(f"{three_digits(hours)} h, {size_on_disk(most)}")
            rows.append(f"| {recipe} | {k} of {full} | {' | '.join(cells)} |")
    names = " | ".join(machine.name for machine in MACHINES)
    return [
        f"| recipe, a million pairs once | layers | {names} |",
        "|---|---|" + "---|" * len(MACHINES),
        *rows,
    ]


_HEAD = """\
# Large models: computed, not measured

Made by `python benchmarks/ablations/large_models.py`. Nothing on this page ran on a GPU:
parameters are those of puma's plan of each cut, memory is its forecast of a training, FLOPs are
its cost model's, all on stand-ins with the published configurations and no content.

Assumed: half of the inputs are texts of {text} tokens, half images of {image} tokens with such a
text; a GPU does {share} of its published bfloat16 FLOPs, eight together {scaling} of eight times
that; 95% of a card can be used. A million pairs are a million queries with a positive each, seen
once by the student; the teacher reads every input once. Memory is the most of one process, the
models' opening included: where that is what does not fit, the teacher's embeddings can be
computed on another machine and given as a folder. What a cut keeps of its model's quality is not
said here: it was measured on small models alone ([ablations](ablations.md)).
"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, help="where the page goes; by default it is printed")
    asked = parser.parse_args()
    text = page()
    if asked.write:
        asked.write.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
