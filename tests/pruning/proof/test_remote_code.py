"""A checkpoint's own Python code runs when the user asks for it, and never otherwise."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from puma_cli.errors import VerificationError
from puma_cli.pruning.proof.key_check import check_keys
from puma_cli.pruning.proof.parity import check_parity
from tests.zoo import write_checkpoint

KEPT = (0, 1)
CONFIGURATION = """
from pathlib import Path
from transformers import LlamaConfig

Path({trace!r}).touch()

class OwnConfig(LlamaConfig):
    model_type = "own_llama"
"""
MODELING = """
from transformers import LlamaModel
from .configuration_own import OwnConfig

class OwnModel(LlamaModel):
    config_class = OwnConfig
"""


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists as soon as the checkpoint's code has run."""
    modules = tmp_path / "modules"
    modules.mkdir()
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(modules))
    # What was imported from another place before would be looked for there.
    monkeypatch.syspath_prepend(modules)
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path / "it ran"


def own(folder: Path, trace: Path, layers: int) -> Path:
    """Write a Llama of a class of its own."""
    write_checkpoint("llama", folder, layers=layers, head=False)
    (folder / "configuration_own.py").write_text(CONFIGURATION.format(trace=str(trace)))
    (folder / "modeling_own.py").write_text(MODELING)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= {
        "model_type": "own_llama",
        "architectures": ["OwnModel"],
        "auto_map": {
            "AutoConfig": "configuration_own.OwnConfig",
            "AutoModel": "modeling_own.OwnModel",
        },
    }
    path.write_text(json.dumps(config))
    return folder


def test_own_code_runs_only_when_it_is_trusted(tmp_path: Path, trace: Path) -> None:
    # A folder that is being written has a name that is no Python name.
    folder = own(tmp_path / ".cut-1", trace, layers=2)
    with pytest.raises(VerificationError, match="does not open"):
        check_keys(folder)
    with pytest.raises(VerificationError, match="does not open"):
        check_parity(folder, folder, KEPT)
    assert not trace.exists()

    check_keys(folder, trust_remote_code=True)
    assert trace.exists()
    parity = check_parity(folder, folder, KEPT, trust_remote_code=True)
    assert parity.bit_equal

    # Its layers are taken out in memory as those of other classes are.
    deeper = own(tmp_path / "deeper", trace, layers=6)
    with pytest.raises(VerificationError, match="differs from"):
        check_parity(deeper, folder, KEPT, trust_remote_code=True)

    (folder / "modeling_own.py").write_text("raise ValueError")
    with pytest.raises(VerificationError, match="does not open"):
        check_keys(folder, trust_remote_code=True)
