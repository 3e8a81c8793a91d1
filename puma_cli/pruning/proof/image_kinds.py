"""How images enter a model of each family: shapes and numbers, as data.

What an image looks like to a model is a matter of its family: so many pixels in such a shape, so
many image tokens among the text, and a few tensors beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Config = Any


@dataclass(frozen=True)
class ImageKind:
    """How one image enters a kind of model.

    Args:
        pixels: from the config to the shape of the pixel tensor.
        tokens: from the config to the number of image tokens that stand for the image.
        beside: from the config and the number of tokens T to what goes with the pixels, as nested
            lists of integers.
        pixels_name: the argument's name.
        types: name of the (1, T) argument that tells image tokens from text, and the value at text
            and at images.
    """

    pixels: Callable[[Config], tuple[int, ...]]
    tokens: Callable[[Config], int]
    beside: Callable[[Config, int], dict[str, Any]] = field(default=lambda config, length: {})
    pixels_name: str = "pixel_values"
    types: tuple[str, int, int] | None = None


def reads_images(config: Config) -> bool:
    """Return whether a model of this transformers config has a vision part."""
    return getattr(config, "vision_config", None) is not None


def image_kind(config: Config) -> ImageKind | None:
    """Return how images enter a model of this transformers config, or None if that is not known."""
    if not reads_images(config):
        return None
    tower = getattr(config.vision_config, "model_type", "")
    return _KINDS.get(f"{config.model_type}/{tower}") or _KINDS.get(config.model_type)


def image_token(config: Config) -> int:
    """Return the id of the token that stands for an image feature."""
    for section in (config, config.vision_config):
        found = getattr(section, "image_token_id", None)
        if found is not None:
            return int(found)
    raise KeyError("image_token_id")


def _pair(size: Any) -> tuple[int, int]:
    """Return height and width of a size given as one number or two."""
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) else (int(size),) * 2


def _side(config: Config) -> int:
    """Return how many patches lie along a side of a square tower's image."""
    vision = config.vision_config
    return _pair(vision.image_size)[0] // _pair(vision.patch_size)[0]


def _square(config: Config, *leading: int) -> tuple[int, ...]:
    return (*leading, 3, *_pair(config.vision_config.image_size))


# Towers with a grid of any size: two by four features, each merged from a few patches.
_ROWS, _COLUMNS = 2, 4


def _grid_pixels(config: Config) -> tuple[int, ...]:
    vision = config.vision_config
    count = _ROWS * _COLUMNS * vision.spatial_merge_size**2
    height, width = _pair(vision.patch_size)
    frames = _pair(vision.temporal_patch_size)[0]
    return count, vision.in_channels * frames * height * width


def _grid(config: Config, length: int) -> dict[str, Any]:
    merge = config.vision_config.spatial_merge_size
    return {"image_grid_thw": [[1, _ROWS * merge, _COLUMNS * merge]]}


def _any_size(config: Config) -> tuple[int, int]:
    """Return height and width of an image for a tower that takes any, in pixels."""
    step = _pair(config.vision_config.patch_size)[0] * getattr(config, "spatial_merge_size", 1)
    return _ROWS * step, _COLUMNS * step


def _tiling(config: Config) -> tuple[int, int, int, int]:
    """Return the smallest image of several tiles: its height and width, then its tiles each way."""
    side = _pair(config.vision_config.image_size)[0]
    sizes = [_pair(size) for size in config.image_grid_pinpoints]
    several = [size for size in sizes if size[0] * size[1] > side * side] or sizes
    height, width = min(several, key=lambda size: (size[0] * size[1], size))
    return height, width, height // side, width // side


def _tile_tokens(config: Config) -> int:
    _, _, rows, columns = _tiling(config)
    side = _side(config)
    # The whole picture in small, then the tiles, with a mark at the end of each of their lines.
    return side**2 + rows * side * (columns * side + 1)


def _class_token(config: Config) -> int:
    has_one = config.vision_config.model_type == "clip_vision_model"
    return int(has_one and config.vision_feature_select_strategy == "full")


def _mllama_beside(config: Config, length: int) -> dict[str, Any]:
    tiles = [1] + [0] * (config.vision_config.max_num_tiles - 1)
    return {
        "aspect_ratio_ids": [[1]],
        "aspect_ratio_mask": [[tiles]],
        "cross_attention_mask": [[[tiles]] * length],
    }


def _phi_side(config: Config) -> int:
    return (_side(config) + 1) // 2


def _phi_beside(config: Config, length: int) -> dict[str, Any]:
    side, crop = _side(config), config.vision_config.crop_size
    return {
        "image_sizes": [[crop, crop]],
        "image_attention_mask": [[[[1] * side] * side] * 2],
    }


_MM_TYPES = ("mm_token_type_ids", 0, 1)
_GRID = ImageKind(_grid_pixels, lambda config: _ROWS * _COLUMNS, _grid, types=_MM_TYPES)
_OMNI = ImageKind(_grid_pixels, lambda config: _ROWS * _COLUMNS, _grid)
_TILES = ImageKind(
    lambda config: _square(config, 1, 1 + _tiling(config)[2] * _tiling(config)[3]),
    _tile_tokens,
    lambda config, length: {"image_sizes": [list(_tiling(config)[:2])]},
)
_ANY_SIZE = ImageKind(
    lambda config: (1, 3, *_any_size(config)),
    lambda config: _ROWS * _COLUMNS,
    lambda config, length: {"image_sizes": [list(_any_size(config))]},
)
_SHUFFLED = ImageKind(
    lambda config: _square(config, 1, 1),
    lambda config: _side(config) ** 2 // config.scale_factor**2,
)

# By model type, or by model type and tower where a model comes with several.
_KINDS: Mapping[str, ImageKind] = {
    "qwen2_vl": _GRID,
    "qwen2_5_vl": _GRID,
    "qwen3_vl": _GRID,
    "qwen3_vl_moe": _GRID,
    "glm4v": _GRID,
    "glm4v_moe": _GRID,
    "qwen2_5_omni_thinker": _OMNI,
    "qwen3_omni_moe_thinker": _OMNI,
    "llava": ImageKind(
        lambda config: _square(config, 1),
        lambda config: _side(config) ** 2 + _class_token(config),
    ),
    "llava/pixtral": _ANY_SIZE,
    "mistral3": _ANY_SIZE,
    "llava_next": _TILES,
    "llava_onevision": _TILES,
    "internvl": ImageKind(
        lambda config: _square(config, 1),
        lambda config: int(_side(config) ** 2 * config.downsample_ratio**2),
    ),
    "gemma3": ImageKind(
        lambda config: _square(config, 1),
        lambda config: int(config.mm_tokens_per_image),
        types=("token_type_ids", 0, 1),
    ),
    "paligemma": ImageKind(
        lambda config: _square(config, 1),
        lambda config: _side(config) ** 2,
        types=("token_type_ids", 0, 0),
    ),
    "aya_vision": ImageKind(
        lambda config: _square(config, 1),
        lambda config: (_side(config) // config.downsample_factor) ** 2,
    ),
    "llama4": ImageKind(
        lambda config: _square(config, 1),
        lambda config: int(_side(config) ** 2 * config.vision_config.pixel_shuffle_ratio**2),
    ),
    "idefics2": ImageKind(
        lambda config: _square(config, 1, 1),
        lambda config: int(config.perceiver_config.resampler_n_latents),
    ),
    "idefics3": _SHUFFLED,
    "smolvlm": _SHUFFLED,
    "mllama": ImageKind(
        lambda config: (1, 1, config.vision_config.max_num_tiles, *_square(config)),
        lambda config: 1,
        _mllama_beside,
    ),
    "phi4_multimodal": ImageKind(
        lambda config: (1, 2, 3, config.vision_config.crop_size, config.vision_config.crop_size),
        lambda config: 2 * _phi_side(config) * (_phi_side(config) + 1) + 1,
        _phi_beside,
        pixels_name="image_pixel_values",
    ),
}
