"""The proof takes memory for the layers that stay, not for the parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.zoo.cut import write_cut

KEPT = (0, 1)
LAYERS = 24
MEGABYTE = 10**6
# Prints the peak, in bytes, beyond what two tiny models have already taken.
SCRIPT = """
import resource, sys
from pathlib import Path
from puma_cli.pruning.proof.parity import check_parity

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

tiny, parent, cut = map(Path, sys.argv[1:])
check_parity(tiny, tiny, (0, 1))
before = peak()
assert check_parity(parent, cut, (0, 1)).bit_equal
print(peak() - before)
"""


def write_llama(folder: Path, layers: int, width: int) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    LlamaModel(config).save_pretrained(folder, max_shard_size="100MB")
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_the_peak_follows_the_cut(tmp_path: Path) -> None:
    tiny = write_llama(tmp_path / "tiny", 2, 32)
    parent = write_llama(tmp_path / "parent", LAYERS, 640)
    index = json.loads((parent / "model.safetensors.index.json").read_text())
    whole = index["metadata"]["total_size"]
    assert whole > 350 * MEGABYTE
    write_cut(parent, tmp_path / "cut", KEPT)
    small = sum(path.stat().st_size for path in (tmp_path / "cut").glob("*.safetensors"))
    asked = [sys.executable, "-c", SCRIPT, str(tiny), str(parent), str(tmp_path / "cut")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    found = subprocess.run(
        asked, capture_output=True, text=True, check=True, env=environment, timeout=300
    )
    taken = int(found.stdout)
    # Tensors are read beside their final place, so the cut may be there nearly twice.
    assert taken < 2.5 * small + 50 * MEGABYTE
    assert taken < whole / 2
