"""Writes tests/golden/metrics.lua: the metrics that read several models, on linear softmax models in
f64, by PyTorch and by NumPy from their definitions, 17 digits.

    python tests/golden/make_metrics.py
"""
import os

import numpy as np
import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
INPUTS, CLASSES, MODELS = 4, 3, 16
rng = np.random.default_rng(6)


def lua(v):
    if isinstance(v, dict):
        return "{" + ",".join("%s=%s" % (k, lua(e)) for k, e in v.items()) + "}"
    if isinstance(v, (list, tuple, np.ndarray)):
        return "{" + ",".join(lua(e) for e in v) + "}"
    return repr(v) if isinstance(v, int) else "%.17g" % float(v)


def data(n):
    return {"x": rng.normal(size=(n, INPUTS)), "y": [int(v) for v in rng.integers(0, CLASSES, n)]}


def model(scale=1.0, of=None):
    w, b = rng.normal(size=(CLASSES, INPUTS)) * scale, rng.normal(size=CLASSES) * scale
    return {"w": w if of is None else of["w"] + w, "b": b if of is None else of["b"] + b}


def logits(m, ds):
    x, w, b = (torch.tensor(np.asarray(v)) for v in (ds["x"], m["w"], m["b"]))
    return F.linear(x, w, b)


def similarity(m, retrained, original, ds):
    new, gold = F.log_softmax(logits(m, ds), 1), F.log_softmax(logits(retrained, ds), 1)
    kl = F.kl_div(new, gold, reduction="none", log_target=True).sum(1).numpy()
    flat = [torch.tensor(np.concatenate([k["w"].ravel(), k["b"]])) for k in (m, retrained, original)]
    return {
        "agree": int((new.argmax(1) == gold.argmax(1)).sum()),
        "kl": kl.mean(),
        "kl_se": kl.std(ddof=1) / np.sqrt(len(kl)),
        "distance": torch.dist(flat[0], flat[1]).item(),
        "distance_before": torch.dist(flat[2], flat[1]).item(),
        "cosine": F.cosine_similarity(flat[0] - flat[2], flat[1] - flat[2], dim=0).item(),
    }


def confidence(m, ds):
    """log p_y / (1 - p_y), as the attack's authors scale it."""
    p = F.softmax(logits(m, ds), 1).numpy()[np.arange(len(ds["y"])), ds["y"]]
    return np.log(p) - np.log1p(-p)


def lira(m, members, others, out):
    phi = [confidence(m, ds) for ds in (members, others)]
    under = [np.array([confidence(k, ds) for k in out]) for ds in (members, others)]
    within = sum(((u - u.mean(0)) ** 2).sum() for u in under)
    sd = np.sqrt(within / sum((len(u) - 1) * u.shape[1] for u in under))
    z = [(p - u.mean(0)) / sd for p, u in zip(phi, under)]
    above = (z[0][:, None] > z[1][None, :]) + 0.5 * (z[0][:, None] == z[1][None, :])
    var = above.mean(1).var(ddof=1) / len(z[0]) + above.mean(0).var(ddof=1) / len(z[1])  # DeLong's
    half = 1.959963984540054 * np.sqrt(var)
    return {"sd": sd, "auc": above.mean(), "lo": max(0, above.mean() - half),
            "hi": min(1, above.mean() + half), "shift": z[0].mean() - z[1].mean()}


def confusion(m, ds, a, b):
    y, p = np.array(ds["y"]), logits(m, ds).argmax(1).numpy()
    own = (y == a) | (y == b)
    return {"n": int(own.sum()), "ic": int((own & (p != y)).sum()),
            "fgt": int(((y == a) & (p == b)).sum() + ((y == b) & (p == a)).sum()),
            "right": int((p == y).sum())}


test, forget, fresh = data(40), data(12), data(9)
original = model()
retrained, unlearned = model(0.6, original), model(0.5, original)
out = [model() for _ in range(MODELS)]
golden = {
    "test": test, "forget": forget, "fresh": fresh, "original": original, "retrained": retrained,
    "unlearned": unlearned, "out": out,
    "on_test": similarity(unlearned, retrained, original, test),
    "on_forget": similarity(unlearned, retrained, original, forget),
    "lira": lira(unlearned, forget, fresh, out),
    "confusion": confusion(unlearned, test, 0, 2),
}
with open(os.path.join(HERE, "metrics.lua"), "w") as f:
    f.write("-- Made by tests/golden/make_metrics.py.\n-- luacheck: ignore 631\nreturn {\n")
    for name, value in golden.items():
        f.write("  %s = %s,\n" % (name, lua(value)))
    f.write("}\n")
