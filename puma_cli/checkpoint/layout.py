"""The names of the files that a folder of this project can hold, in one frozen place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Layout:
    """File and folder names inside a checkpoint, a data set, a profile or a score folder."""

    config: str = "config.json"
    weights: str = "model.safetensors"
    index: str = "model.safetensors.index.json"
    embedder: str = "embedder.json"
    provenance: str = "puma.json"
    card: str = "README.md"
    chat_template: str = "chat_template.jinja"
    old_chat_template: str = "chat_template.json"
    tokenizer: str = "tokenizer.json"
    tokenizer_config: str = "tokenizer_config.json"
    preprocessor: str = "preprocessor_config.json"
    processor: str = "processor_config.json"
    modules: str = "modules.json"
    training: str = "training"
    training_settings: str = "training/settings.json"
    training_stages: str = "training/stages.json"
    stages: str = "stages"
    last: str = "last"
    adapter: str = "adapter"
    log: str = "log.jsonl"
    training_page: str = "training.html"
    training_plot: str = "training.png"
    tensorboard: str = "tensorboard"
    profile: str = "profile.json"
    scores: str = "scores.json"
    queries: str = "query"
    pools: str = "cand_pool"
    qrels: str = "qrels"
    instructions: str = "instructions"
    demo_page: str = "demo.html"


LAYOUT: Final = Layout()

CONFIG: Final = LAYOUT.config
WEIGHTS: Final = LAYOUT.weights
INDEX: Final = LAYOUT.index
EMBEDDER: Final = LAYOUT.embedder
PROVENANCE: Final = LAYOUT.provenance
TOKENIZER: Final = LAYOUT.tokenizer
PREPROCESSOR: Final = LAYOUT.preprocessor
CARD: Final = LAYOUT.card
CHAT_TEMPLATE: Final = LAYOUT.chat_template
LAST: Final = LAYOUT.last
ADAPTER: Final = LAYOUT.adapter
LOG: Final = LAYOUT.log
TRAINING_PAGE: Final = LAYOUT.training_page
TRAINING_PLOT: Final = LAYOUT.training_plot
PROFILE: Final = LAYOUT.profile
SCORES: Final = LAYOUT.scores
TRAINING: Final = LAYOUT.training
STAGES: Final = LAYOUT.stages

# What a loader of the hub's formats reads beside weights, its card and licence.
_TEXTS: Final = ("*.json", "*.txt", "*.jinja", "*.model", "*.tiktoken", CARD, "LICENSE*", "NOTICE*")
# All of a model, and nothing that runs code.
DOWNLOADED: Final = ("*.safetensors", *_TEXTS)
# What a cut carries along unread: also custom code with its settings, and all terms of use.
_TERMS: Final = (
    "*LICEN[CS]E*",
    "*[Ll]icen[cs]e*",
    "*NOTICE*",
    "*COPYING*",
    "*COPYRIGHT*",
    "*USE_POLICY*",
)
CARRIED: Final = (*_TEXTS, *_TERMS, "*.py", "*.yaml", "*.yml", "*.spm", "*.bpe")
# Weights that only unpickling opens.
PICKLED: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def shard_name(number: int, count: int) -> str:
    """Return the file name of weight shard `number` (1 to `count`) of `count`."""
    if count == 1:
        return WEIGHTS
    return f"model-{number:05d}-of-{count:05d}.safetensors"
