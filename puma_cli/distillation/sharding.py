"""A network whose decoder lies in parts on several processes (FSDP2, `fully_shard`)."""

from __future__ import annotations

import torch

from puma_cli.models.embedder import Embedder
from puma_cli.processes import Processes


def shard(embedder: Embedder, processes: Processes, device: torch.device) -> None:
    """Leave of each decoder layer, the embedding table and the norm a part on each process.

    A layer comes together for as long as it computes. The vision tower stays whole everywhere:
    batches without images pass it by, and what all must enter together may not be passed by.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes.count,))
    decoder, network = embedder.decoder, embedder.model
    for unit in (decoder.embed_tokens, *decoder.layers):
        fully_shard(unit, mesh=mesh)
    # The root is what is called first in every pass; its own share is the norm's.
    tower = embedder.tower
    whole = set() if tower is None else set(tower.parameters())
    fully_shard(network, mesh=mesh, ignored_params=whole)
