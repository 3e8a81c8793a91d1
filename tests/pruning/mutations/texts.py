"""Broken descriptions: configs, indexes, side files, and what lies where they should."""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random
from typing import Any

from tests.pruning.mutations.editing import (
    CONFIG,
    INDEX,
    NOT_FINITE,
    ODD,
    OUTSIDE,
    SIDE_FILES,
    any_text,
    edit_json,
    edit_text,
    join,
    mutation,
    replace_value,
    shards,
    split,
)


@mutation
def duplicate_keys(folder: Path, random: Random) -> None:
    def change(text: str) -> str:
        starts = [i for i, character in enumerate(text) if character == "{"]
        at = random.choice(starts) + 1
        rest = text[at:].lstrip()
        if not rest.startswith('"'):
            return text + text
        key = rest[: rest.index('"', 1) + 1]
        spelt = key if random.random() < 0.7 else f'"\\u{ord(key[1]):04x}{key[2:]}'
        return f"{text[:at]}{spelt}: {random.choice(['0', 'null', '{}', '[]'])}, {text[at:]}"

    edit_text(any_text(folder, random), change)


@mutation
def paths_in_the_index(folder: Path, random: Random) -> None:
    outside = (folder.parent / OUTSIDE / "model.safetensors").as_posix()
    own = shards(folder)[0].name
    names = [
        outside, f"../{OUTSIDE}/model.safetensors", "..", ".", "", "/", "/dev/zero", "config.json",
        f"..\\{OUTSIDE}\\model.safetensors", "C:\\x.safetensors", "a/../b.safetensors", "./" + own,
        f"{folder.as_posix()}/{own}", f"../{folder.name}/{own}", "model.safetensors\0",
        "~/x.safetensors", "//x.safetensors", "x" * 5000 + ".safetensors", "*.safetensors",
        "file:///x.safetensors", "http://127.0.0.1/x.safetensors", "link/x.safetensors",
    ]  # fmt: skip

    def change(index: dict[str, Any]) -> None:
        bad = random.choice(names)
        old = random.choice(sorted(set(index["weight_map"].values())))
        for name, file in index["weight_map"].items():
            if file == old and (random.random() < 0.5 or old == bad):
                index["weight_map"][name] = bad

    (folder / "link").symlink_to(f"../{OUTSIDE}")
    edit_json(folder / INDEX, random, change)


@mutation
def indexes_that_lie(folder: Path, random: Random) -> None:
    def change(index: dict[str, Any]) -> Any:
        files = sorted(set(index["weight_map"].values()))
        name = random.choice(sorted(index["weight_map"]))
        lie = random.randrange(8)
        if lie == 0:
            del index["weight_map"][name]
        elif lie == 1:
            index["weight_map"][name] = random.choice([*files, "model-00009-of-00009.safetensors"])
        elif lie == 2:
            index["weight_map"][name + random.choice(["x", "", ".0"])] = random.choice(files)
        elif lie == 3:
            gone = random.choice(files)
            index["weight_map"] = {n: f for n, f in index["weight_map"].items() if f != gone}
        elif lie == 4:
            return random.choice(ODD)
        else:
            replace_value(index, random, random.choice(ODD))
        return None

    edit_json(folder / INDEX, random, change)


@mutation
def links_and_special_files(folder: Path, random: Random) -> None:
    path = any_text(folder, random)
    outside = (
        folder.parent / OUTSIDE / (path.name if path.suffix == ".json" else "model.safetensors")
    )
    kind = random.randrange(8)
    path.unlink()
    if kind == 0:
        path.symlink_to(path.name)
    elif kind == 1:
        (folder / "round").symlink_to(path.name)
        path.symlink_to("round")
    elif kind == 2:
        path.symlink_to(random.choice([str(outside), os.path.relpath(outside, folder)]))
    elif kind == 3:
        path.symlink_to(random.choice(["nowhere", "/dev/zero", "/dev/full", "/proc/self/mem", "/"]))
    elif kind == 4:
        os.mkfifo(path)
    elif kind == 5:
        path.mkdir()
    elif kind == 6:
        (folder / "room").symlink_to(folder.parent / OUTSIDE)
        path.symlink_to(f"room/{outside.name}")
    else:
        path.touch()
        os.truncate(path, random.choice([0, 10**10, 2**40]))


@mutation
def numbers_that_are_not_finite(folder: Path, random: Random) -> None:
    def change(text: str) -> str:
        content = json.loads(text)
        replace_value(content, random, "<here>")
        return json.dumps(content).replace('"<here>"', random.choice(NOT_FINITE))

    edit_text(any_text(folder, random), change)


@mutation
def wrong_types_in_configs(folder: Path, random: Random) -> None:
    edit_json(folder / CONFIG, random, lambda c: replace_value(c, random, random.choice(ODD)))


@mutation
def wrong_depths_in_configs(folder: Path, random: Random) -> None:
    keys = ["num_hidden_layers", "layer_types", "max_window_layers", "model_type", "architectures"]
    keys += ["tie_word_embeddings", "text_config", "vision_config", "torch_dtype", "dtype"]

    def change(config: dict[str, Any]) -> None:
        key = random.choice(keys)
        inner = config.get("text_config")
        place = inner if isinstance(inner, dict) and random.random() < 0.6 else config
        if random.random() < 0.25:
            place.pop(key, None)
        else:
            place[key] = random.choice([*ODD, ["full_attention"] * random.randrange(9)])

    edit_json(folder / CONFIG, random, change)


@mutation
def deep_nesting(folder: Path, random: Random) -> None:
    depth = random.choice([65, 200, 900, 1100, 20_000, 300_000])
    opening, closing = random.choice([("[", "]"), ('{"a":', "}"), ('[{"":', "}]")])
    closed = random.random() < 0.6
    nest = opening * depth + "1" + (closing * depth if closed else "")

    def change(text: str) -> str:
        return random.choice([nest, text.replace("{", f'{{"deep": {nest},', 1)])

    edit_text(any_text(folder, random), change)


@mutation
def broken_text(folder: Path, random: Random) -> None:
    path = any_text(folder, random)
    header, data = split(path) if path.suffix == ".safetensors" else (path.read_bytes(), b"")
    text = header.decode()
    at = random.randrange(len(header))
    header = random.choice(
        [
            b"\xef\xbb\xbf" + header,
            text.encode("utf-16"),
            text.encode("utf-32"),
            header[:at]
            + random.choice([b"\xff", b"\xc0\xaf", b"\0", b"\xed\xa0\x80"])
            + header[at:],
            header.replace(b'"', b'"\\ud800', random.choice([1, 5])),
            header.replace(b'"', b"'"),
            header + random.choice([b"{}", b",", b"\0", b"//", header]),
            b" " + header,
            header.replace(b"}", b",}"),
            header[:at] + header[at + 1 :],
            random.choice([b"", b"null", b"[]", b'"x"', b"0", b"\n"]),
        ]
    )
    path.write_bytes(header) if not data else join(path, header, data)


@mutation
def side_files(folder: Path, random: Random) -> None:
    path = folder / random.choice(SIDE_FILES)
    names = [
        "..",
        f"../{OUTSIDE}",
        "/",
        "/etc",
        ".",
        "",
        "a/../..",
        "\0",
        "x" * 5000,
        "room",
        "1_Pooling",
    ]
    (folder / "room").symlink_to(folder.parent / OUTSIDE)
    if path.name == "modules.json" or random.random() < 0.2:
        modules = [
            {"idx": 0, "path": random.choice(names)},
            {"path": random.choice([*names, *ODD])},
        ]
        path.write_text(
            json.dumps(random.choice([modules, modules[0], [modules], random.choice(ODD)]))
        )
    else:
        edit_json(path, random, lambda c: replace_value(c, random, random.choice([*ODD, *names])))


@mutation
def code_and_pickles(folder: Path, random: Random) -> None:
    """Leave code where a careless loader would run it; running it writes outside the folders."""
    trap = f"open({str(folder.parent / OUTSIDE / 'ran')!r}, 'w').close()\n"
    names = [
        "modeling_own.py",
        "configuration_own.py",
        "__init__.py",
        "sitecustomize.py",
        "torch.py",
    ]
    for name in names:
        (folder / name).write_text(trap)
    pickled = b"cbuiltins\nexec\n(S" + repr(trap).encode() + b"\ntR."
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "1_Pooling.pkl"):
        (folder / name).write_bytes(pickled)

    def change(config: dict[str, Any]) -> None:
        config["auto_map"] = {
            "AutoConfig": "configuration_own.Config",
            "AutoModel": random.choice(["modeling_own.Model", "../outside--modeling_own.Model", 3]),
        }
        config["architectures"] = [random.choice(["OwnModel", "exec", "os.system", "__import__"])]
        config["model_type"] = random.choice([config["model_type"], "own", "../own", "os"])

    if random.random() < 0.8:
        edit_json(folder / CONFIG, random, change)
    if random.random() < 0.3:
        for file in shards(folder):
            file.unlink()
