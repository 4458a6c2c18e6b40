#!/usr/bin/env python3
"""Makes tests/golden/io: small files written by other programs, that tests/lua/test_io.lua reads.

Needs torch, safetensors, numpy and Pillow. Run it in the repository's root; the tests themselves
need none of these. With `check FILE...` it reads safetensors files that vestige wrote and compares
them with the same formulas.
"""
import gzip
import os
import struct
import sys

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

OUT = "tests/golden/io"


def tensors():
    """One tensor of each type; the test knows these formulas."""
    i = torch.arange(12)
    half = torch.arange(0, 65536, 997).to(torch.int32).to(torch.int16).view(torch.float16)
    return {
        "f32": (i * 0.5 - 3).to(torch.float32).reshape(3, 4),
        "f64": (i.to(torch.float64) * 0.1).reshape(2, 2, 3),
        "bf16": (i * 0.5 - 3).to(torch.bfloat16),
        "i64": i * 7 - 20,
        "i32": (i * 7 - 20).to(torch.int32),
        "u8": (i * 11).to(torch.uint8),
        "bool": i % 3 == 0,
        "half": half,
        "half as f32": half.to(torch.float32),
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 3),
        "weight": torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5),
    }


def image(channels, height=7, width=9):
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 27 + y, y * 35, 255 - x * 20 - y * 3, 40 + x * 23]
    return np.stack([planes[c] % 256 for c in range(channels)], -1).astype(np.uint8)


def smooth(height=24, width=31):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 8, y * 10, 120 + 3 * x - 2 * y], -1).clip(0, 255).astype(np.uint8)


def images():
    rgb, photo = image(3), smooth()
    files = {
        "gray.png": Image.fromarray(image(1)[..., 0]),
        "graya.png": Image.fromarray(image(2)),
        "rgb.png": Image.fromarray(rgb),
        "rgba.png": Image.fromarray(image(4)),
        "palette.png": Image.fromarray(rgb).quantize(16),
        "deep.png": Image.fromarray((image(1)[..., 0].astype(np.uint16) * 257 + 3)),
        "photo.jpg": Image.fromarray(photo),
        "progressive.jpg": Image.fromarray(photo),
        "gray.jpg": Image.fromarray(photo[..., 0]),
    }
    pixels = {}
    for name, im in files.items():
        options = {"quality": 90, "progressive": name == "progressive.jpg"}
        im.save(f"{OUT}/{name}", **(options if name.endswith("jpg") else {}))
        back = Image.open(f"{OUT}/{name}")
        if name == "palette.png":
            back = back.convert("RGB")
        array = np.array(back)
        if name == "deep.png":
            array = (array >> 8).astype(np.uint8)
        array = array if array.ndim == 3 else array[..., None]
        pixels[name] = torch.from_numpy(np.ascontiguousarray(array))
    save_file(pixels, f"{OUT}/pixels.safetensors")


def idx(name, code, array, packed=False):
    data = struct.pack(">HBB", 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    data += array.astype(array.dtype.newbyteorder(">")).tobytes()
    if packed:
        data = gzip.compress(data, mtime=0)
    with open(f"{OUT}/{name}", "wb") as f:
        f.write(data)


def main():
    os.makedirs(OUT, exist_ok=True)
    save_file(tensors(), f"{OUT}/types.safetensors", metadata={"made by": "safetensors", "ü": "é"})
    images()
    i = np.arange(12).reshape(3, 4) * 31 - 100
    for code, kind in ((9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")):
        idx(f"{kind}.idx", code, (i * 0.5 if kind[0] == "f" else i).astype(kind))
    idx("images.idx", 8, (np.arange(5 * 3 * 2) * 8).reshape(5, 3, 2).astype("u1"))
    idx("labels.idx.gz", 8, np.array([0, 2, 1, 0, 2], "u1"), packed=True)


def check(path):
    want, got = tensors(), load_file(path)
    want["half"] = want["half"].to(torch.float32)
    assert sorted(want) == sorted(got), sorted(got)
    for name, t in want.items():
        assert got[name].dtype == t.dtype and got[name].shape == t.shape, name
        same = (got[name] == t) | (got[name] != got[name]) & (t != t)
        assert bool(same.all()), name
    with safe_open(path, "pt") as f:
        print(path, "is as expected, metadata", f.metadata())


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        for file in sys.argv[2:]:
            check(file)
    else:
        main()
