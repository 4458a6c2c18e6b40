"""The engine's Philox streams in NumPy: the golden data's inputs are a formula, not files."""
import numpy as np

MASK = np.uint64(0xFFFFFFFF)


def philox(counter, key):
    """counter (n,4) and key (2,) of uint32; returns (n,4) words of Philox 4x32-10."""
    c = [counter[:, i].astype(np.uint64) for i in range(4)]
    k = [np.uint64(key[0]), np.uint64(key[1])]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k[0], p1 & MASK, (p0 >> np.uint64(32)) ^ c[3] ^ k[1],
             p0 & MASK]
        k = [(k[0] + np.uint64(0x9E3779B9)) & MASK, (k[1] + np.uint64(0xBB67AE85)) & MASK]
    return np.stack(c, 1)


def block(key, index):
    """Blocks `index` (an array) of the stream `key` (an int)."""
    index = np.asarray(index, dtype=np.uint64)
    counter = np.zeros((index.size, 4), dtype=np.uint64)
    counter[:, 0], counter[:, 1] = index & MASK, index >> np.uint64(32)
    return philox(counter, (key & 0xFFFFFFFF, key >> 32))


def stream_key(seed, name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    w = block(seed, [h])[0]
    return int(w[1]) << 32 | int(w[0])


def uniforms(name, n, seed=1):
    """n uniforms in [0,1) with 53 bits of the stream (seed, name)."""
    if n == 0:
        return np.zeros(0)
    w = block(stream_key(seed, name), np.arange((n + 1) // 2))
    words = (w[:, 1::2] << np.uint64(32) | w[:, 0::2]).reshape(-1)[:n]
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def values(spec):
    """The input of a case, as tests/ops/cases.lua makes it."""
    shape = spec["shape"]
    n = int(np.prod(shape)) if shape else 1
    u = uniforms(spec["name"], n)
    low, high = spec["low"], spec["high"]
    if spec["bool"]:
        x = u < 0.5
    elif spec["int"]:
        x = (low + np.floor(u * (high - low + 1))).astype(np.int64)
    elif spec["distinct"]:
        x = np.empty(n)
        x[np.argsort(u, kind="stable")] = low + (high - low) * (np.arange(n) + 0.5) / n
    else:
        x = low + (high - low) * u
    return x.reshape(shape)
