"""The tensors that parts of common architectures are made of."""

from __future__ import annotations

from stand_in_files import Shapes

Shape = tuple[int, ...]


def affine(name: str, *shape: int) -> dict[str, Shape]:
    """Return a weight and a bias, of a norm or of a linear map (out, in)."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def decoder_layer(
    stem: str,
    hidden: int,
    inner: int,
    key_heads: int,
    *,
    width: int = 64,
    attention: int | None = None,
    bias: bool = False,
) -> dict[str, Shape]:
    """Return one decoder layer; `width` is a head's, `attention` that of all query heads."""
    attention = hidden if attention is None else attention
    keys = key_heads * width
    tensors: dict[str, Shape] = {f"{stem}input_layernorm.weight": (hidden,)}
    for name, size in (("q", attention), ("k", keys), ("v", keys)):
        tensors[f"{stem}self_attn.{name}_proj.weight"] = (size, hidden)
        if bias:
            tensors[f"{stem}self_attn.{name}_proj.bias"] = (size,)
    return tensors | {
        f"{stem}self_attn.o_proj.weight": (hidden, attention),
        f"{stem}post_attention_layernorm.weight": (hidden,),
        f"{stem}mlp.gate_proj.weight": (inner, hidden),
        f"{stem}mlp.up_proj.weight": (inner, hidden),
        f"{stem}mlp.down_proj.weight": (hidden, inner),
    }


def tower_layers(stem: str, layers: int, hidden: int, inner: int) -> dict[str, Shape]:
    """Return the layers of a CLIP or SigLIP tower."""
    tensors: dict[str, Shape] = {}
    for layer in range(layers):
        inside = f"{stem}{layer}."
        tensors |= affine(f"{inside}layer_norm1", hidden) | affine(f"{inside}layer_norm2", hidden)
        for name in ("k", "v", "q", "out"):
            tensors |= affine(f"{inside}self_attn.{name}_proj", hidden, hidden)
        tensors |= affine(f"{inside}mlp.fc1", inner, hidden)
        tensors |= affine(f"{inside}mlp.fc2", hidden, inner)
    return tensors


def in_files(tensors: dict[str, Shape], count: int) -> list[Shapes]:
    """Divide tensors, in their order, into files of about equal numbers of elements."""
    sizes = {name: _elements(shape) for name, shape in tensors.items()}
    share = -(-sum(sizes.values()) // count)
    files: list[dict[str, Shape]] = [{} for _ in range(count)]
    done = 0
    for name, shape in tensors.items():
        files[done // share][name] = shape
        done += sizes[name]
    return list(files)


def _elements(shape: Shape) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
