"""Runs cases of the bench in PyTorch, as ours.lua does: theirs.py CASES.json, asked by bench.py.

Each line of standard input is a JSON object {do, case, precision, layout, mode, repeats}: layout is
contiguous or channels_last, mode eager or compile. Answers, the numbers that both sides make and
the kinds of cases are those of ours.lua.
"""
import contextlib
import gc
import json
import math
import os
import pathlib
import sys
import time
from types import SimpleNamespace

import numpy as np
import torch
import torch._functorch.config
import torch.nn as nn
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "golden"))
import nets  # noqa: E402

nets.relu = lambda x: F.relu(x, inplace=True)  # which spares PyTorch memory
torch._functorch.config.donated_buffer = False  # a compiled graph that is walked more than once


# ---- Numbers that both sides make ----
def hashes(name, start, stop):
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x01000193) & 0xFFFFFFFF
    h = np.arange(start, stop, dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(seed)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x85EBCA77)
    return ((h ^ (h >> np.uint32(13))) >> np.uint32(8)) * 2.0**-23 - 1


def pieces(n, size=1 << 22):
    return ((i, min(i + size, n)) for i in range(0, n, size))


def noise(name, shape, scale=1.0):
    out = np.empty(math.prod(shape), dtype=np.float32)
    for i, j in pieces(out.size):
        out[i:j] = hashes(name, i, j) * scale
    return torch.from_numpy(out).reshape(shape)


def labels(name, shape, classes, dtype=np.int64):
    out = np.empty(math.prod(shape), dtype=dtype)
    for i, j in pieces(out.size):
        out[i:j] = np.floor((hashes(name, i, j) + 1) / 2 * classes)
    return torch.from_numpy(out).reshape(shape)


def checksum(t):
    """t in our layout."""
    flat, sums = t.detach().float().reshape(-1).numpy(), np.zeros(16)
    for i, j in pieces(flat.size):
        part = flat[i:j] * hashes("checksum", i, j)
        part = np.concatenate([part, np.zeros(-part.size % 16)])
        sums += part.reshape(-1, 16).sum(0)
    return sums.tolist()


# ---- Images and kernels: N,H,W,C and out,kh,kw,in on our side ----
def from_ours(c, t):
    t = t.permute(0, 3, 1, 2)
    return t if c.layout == "channels_last" else t.contiguous()


def to_ours(t):
    return t.permute(0, 2, 3, 1)


def image(c, name, shape, scale=1.0):
    return cast(c, from_ours(c, noise(name, shape, scale)))


def cast(c, x):
    return x.to(torch.bfloat16) if c.precision == "bf16" else x


def compiled(c, f):
    return torch.compile(f, dynamic=False) if c.mode == "compile" else f


def autocast(c):
    low = c.precision == "bf16"
    return torch.autocast("cpu", torch.bfloat16) if low else contextlib.nullcontext()


# ---- The kinds ----
# A kind returns a function that runs the case once and returns its results, and another one that
# brings them to our layout.
def plain(results):
    return results


def images(results):
    return [to_ours(t) if t.ndim == 4 else t for t in results]


def matmul(c):
    a = cast(c, noise("a", (c.k, c.m) if c.ta else (c.m, c.k)))
    b = cast(c, noise("b", (c.n, c.k) if c.tb else (c.k, c.n)))
    a, b = a.t() if c.ta else a, b.t() if c.tb else b
    f = compiled(c, lambda a, b: a @ b)
    return lambda: [f(a, b)], plain


def conv(c):
    size, pad = c.size // c.stride, (c.kernel - 1) // 2
    x = image(c, "x", (c.batch, c.size, c.size, c.channels))
    w = image(c, "w", (c.out, c.kernel, c.kernel, c.channels))
    g = image(c, "g", (c.batch, size, size, c.out))
    if c.what == "forward":
        f = compiled(c, lambda x, w: F.conv2d(x, w, None, c.stride, pad))
        return lambda: [f(x, w)], images
    mask = [c.what == "input", c.what == "weight", False]

    def once():
        all_ = torch.ops.aten.convolution_backward(g, x, w, None, [c.stride] * 2, [pad] * 2, [1, 1],
                                                   False, [0, 0], 1, mask)
        return [t for t, wanted in zip(all_, mask) if wanted]
    return once, images


def two_passes(c, f, inputs, g=None, back=plain):
    """f(inputs) alone, or its gradients for all of them, with a graph that is kept."""
    f = compiled(c, f)
    if c.what == "forward":
        def once():
            with torch.no_grad():
                return [f(*inputs)]
        return once, back
    for t in inputs:
        t.requires_grad_()
    y = f(*inputs)
    return lambda: torch.autograd.grad(y, inputs, g, retain_graph=True), back


def batch_norm(c):
    k = c.shape[3]
    mean, var = torch.zeros(k), torch.ones(k)
    return two_passes(c, lambda x, w, b: F.batch_norm(x, mean, var, w, b, True),
                      [image(c, "x", c.shape), noise("w", [k]), noise("b", [k])],
                      image(c, "g", c.shape), images)


def layer_norm(c):
    shape, n = (c.rows, c.width), [c.width]
    inputs = [noise("x", shape), noise("w", n), noise("b", n)]
    return two_passes(c, lambda x, w, b: F.layer_norm(x, n, w, b), [cast(c, t) for t in inputs],
                      cast(c, noise("g", shape)))


def cross_entropy(c):
    y = labels("y", [c.rows], c.classes)
    return two_passes(c, lambda x: F.cross_entropy(x, y),
                      [cast(c, noise("x", (c.rows, c.classes), 4))])


def attention(c):
    q, k, v, g = (cast(c, noise(name, (c.batch, c.heads, c.time, c.size))) for name in "qkvg")
    return two_passes(
        c, lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), [q, k, v], g)


def relu(c):
    x, f = cast(c, noise("x", c.shape)), compiled(c, F.relu)
    return lambda: [f(x)], plain


def add(c):
    a, b, f = (cast(c, noise("a", c.shape)), cast(c, noise("b", c.shape)),
               compiled(c, lambda a, b: a + b))
    return lambda: [f(a, b)], plain


def optimiser_of(name, params, **options):
    """The fused one where PyTorch has it, which is its fastest."""
    return getattr(torch.optim, name)(params, fused=True, **options)


def optimiser(c):
    params = [nn.Parameter(noise(f"p{i + 1}", [c.numel])) for i in range(c.sizes)]
    for i, p in enumerate(params):
        p.grad = noise(f"g{i + 1}", [c.numel])
    momentum = {"momentum": 0.9} if c.name_of == "SGD" else {}
    opt = optimiser_of(c.name_of, params, lr=1e-3, **momentum)
    step = compiled(c, opt.step)

    def once():
        step()
        return [params[0], params[-1]]
    return once, plain


def loader(c):
    x = labels("x", (c.images, 32, 32, 3), 256, np.uint8).permute(0, 3, 1, 2).contiguous()
    order = torch.arange(c.images)

    def once():
        for i in range(0, c.images - c.batch + 1, c.batch):
            last = x[order[i:i + c.batch]].float().div_(255)
        return [last]
    return once, images


def fill(c, model, scale=None):
    for name, p in model.named_parameters():
        if p.ndim == 4:
            ours = list(to_ours(p).shape)
            t = from_ours(c, noise(name, ours, math.sqrt(6 / math.prod(ours[1:]))))
        elif p.ndim > 1:
            t = noise(name, p.shape, scale or math.sqrt(6 / p.shape[1]))
        else:
            t = torch.ones_like(p) if name.endswith("weight") else noise(name, p.shape, 0.02)
        p.data = t


def train_step(model, opt, loss_of, back):
    def once():
        opt.zero_grad()
        loss = loss_of()
        loss.backward()
        opt.step()
        return [loss, *(p.grad for p in model.parameters())]
    return once, back


def gradient_of_input(loss_of, x, back):
    def once():
        loss = loss_of()
        return [loss, *torch.autograd.grad(loss, x)]
    return once, back


def distance(g, v):
    gv = sum((a * b).sum() for a, b in zip(g, v))
    gg, vv = sum((a * a).sum() for a in g), sum((b * b).sum() for b in v)
    return 1 - gv / (gg.sqrt() * vv.sqrt())


def resnet18(c):
    model = nets.ResNet18(c.width)
    fill(c, model)
    x = from_ours(c, noise("x", (c.batch, 32, 32, 3)))
    y = labels("y", [c.batch], 10)
    net = compiled(c, model)

    def loss_of():
        with autocast(c):
            return F.cross_entropy(net(x), y)
    if c.what == "step":
        return train_step(model, optimiser_of("SGD", model.parameters(), lr=0.01, momentum=0.9),
                          loss_of, images)
    model.eval()
    if c.what == "forward":
        def forward():
            with torch.no_grad(), autocast(c):
                return [net(x)]
        return forward, plain
    x.requires_grad_()
    if c.what == "input":
        model.requires_grad_(False)
        return gradient_of_input(loss_of, x, images)
    params = list(model.parameters())
    target = [from_ours(c, noise(f"target {name}", to_ours(p).shape)) if p.ndim == 4
              else noise(f"target {name}", p.shape) for name, p in model.named_parameters()]

    def match():
        loss = loss_of()
        g = torch.autograd.grad(loss, params, create_graph=True)
        return [loss, *torch.autograd.grad(distance(g, target), x)]
    return match, images


# ---- GPT-2, its parameters named and ordered as those of transformers ----
class Conv1D(nn.Module):
    """GPT-2's linear layer: its weight is (in,out)."""

    def __init__(self, i, o):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(i, o)), nn.Parameter(torch.empty(o))

    def forward(self, x):
        return torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight).reshape(
            *x.shape[:-1], -1)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"c_attn": Conv1D(width, 3 * width),
                                   "c_proj": Conv1D(width, width)})
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": Conv1D(width, 4 * width),
                                  "c_proj": Conv1D(4 * width, width)})

    def forward(self, x):
        b, t, width = x.shape
        q, k, v = (part.view(b, t, self.heads, -1).transpose(1, 2)
                   for part in self.attn["c_attn"](self.ln_1(x)).split(width, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn["c_proj"](y.transpose(1, 2).reshape(b, t, width))
        y = F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        return x + self.mlp["c_proj"](y)


class GPT2(nn.Module):
    SIZES = {"124m": (12, 12, 768), "355m": (24, 16, 1024)}

    def __init__(self, size, vocabulary, context=1024):
        super().__init__()
        layers, heads, width = self.SIZES[size]
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.h = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(width)

    def forward(self, ids, embedded=None):
        x = self.wte(ids) if embedded is None else embedded
        x = x + self.wpe.weight[:x.shape[1]]
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)  # the head is the embedding


# ---- More kinds ----
def gpt2(c):
    model = GPT2(c.size, c.vocabulary)
    fill(c, model, 0.035)
    ids = labels("ids", (c.batch, c.time), c.vocabulary)
    next_ids = labels("next", (c.batch, c.time), c.vocabulary)
    net = compiled(c, model)

    def loss_of(*inputs):
        with autocast(c):
            return F.cross_entropy(net(*inputs).reshape(-1, c.vocabulary), next_ids.reshape(-1))
    if c.what == "step":
        return train_step(model, optimiser_of("AdamW", model.parameters(), lr=1e-4),
                          lambda: loss_of(ids), plain)
    model.eval().requires_grad_(False)
    x = model.wte(ids).detach().requires_grad_()
    return gradient_of_input(lambda: loss_of(None, x), x, plain)


def small_add(c):
    a, b = noise("a", (4, 4)).requires_grad_(bool(c.tape)), noise("b", (4, 4))
    return lambda: [a + b], plain


def small_grad(c):
    a, w = noise("a", (4, 4)), noise("w", (4, 4)).requires_grad_()
    return lambda: torch.autograd.grad((a @ w).relu().sum(), w), plain


def small_mlp(c):
    model = nn.Sequential()
    model.add_module("hidden1", nn.Linear(8, 16))
    model.add_module("relu", nn.ReLU())
    model.add_module("fc", nn.Linear(16, 4))
    fill(c, model)
    x, y = noise("x", (32, 8)), labels("y", [32], 4)
    return train_step(model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
                      lambda: F.cross_entropy(model(x), y), plain)


# ---- Answers ----
def peak_bytes(once):
    """The most that PyTorch's allocator holds during a round beyond what it holds before. Where a
    step makes gradients, those of the round before are part of what it holds before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        once()
    live = most = 0
    for event in p.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    return most


def rounds_of(once):
    n = 1
    while True:
        seconds = seconds_of(once, n)
        if seconds >= 0.05:
            return n
        n = math.ceil(n * min(max(0.06 / seconds, 2), 100))


def seconds_of(once, n):
    start = time.perf_counter()
    for _ in range(n):
        once()
    return time.perf_counter() - start


class Worker:
    def __init__(self, cases):
        self.cases = {case["name"]: case for case in cases}
        self.once, self.rounds = None, None

    def drop(self, ask=None):
        self.once = self.rounds = None
        gc.collect()
        if "torch._dynamo" in sys.modules:
            torch._dynamo.reset()
        return {}

    def check(self, ask):
        self.drop()
        c = SimpleNamespace(**{"tape": False, **self.cases[ask["case"]], **ask})
        self.once, back = globals()[c.kind](c)
        return {"checksum": [checksum(t) for t in back(self.once())]}

    def bytes(self, ask):
        return {"bytes": peak_bytes(self.once)}

    def time(self, ask):
        self.rounds = self.rounds or rounds_of(self.once)
        return {"seconds": [seconds_of(self.once, self.rounds) / self.rounds
                            for _ in range(ask["repeats"])]}


def main():
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes with the errors
    worker = Worker(json.loads(pathlib.Path(sys.argv[1]).read_text()))
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            answer = getattr(worker, ask["do"])(ask)
        except Exception as e:  # whatever PyTorch refuses is an answer
            worker.drop()
            answer = {"error": f"{type(e).__name__}: {e}".strip().split("\n")[0][:200]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
