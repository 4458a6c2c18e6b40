"""Golden data of a small GPT-2 from the transformers library: logits, loss and gradients.

    python tests/golden/make_gpt2.py tests/golden/gpt2.safetensors

f64 for seed 1, and for five seeds PyTorch's own f32 error against its f64, one number a tensor.
Parameters and tokens are formulas of the Philox streams; see tests/lua/test_gpt2.lua.
"""
import math
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

from philox import uniforms

SEEDS = range(1, 6)
CONFIG = dict(n_layer=2, n_head=4, n_embd=32, vocab_size=97, n_positions=24,
              resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
BATCH, LENGTH = 2, 20


def initial(name, shape, seed):
    """A parameter's start, rounded to f32 so that both precisions begin at the same point."""
    n = math.prod(shape)
    u = torch.from_numpy(uniforms(f"init/{name}", n, seed)) * 2 - 1
    u = u * 0.25 if len(shape) > 1 else u * 0.1 + (1 if ".ln_" in name and "weight" in name else 0)
    return u.to(torch.float32).reshape(shape)


def run(seed, dtype):
    model = GPT2LMHeadModel(GPT2Config(**CONFIG, use_cache=False)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(initial(name, p.shape, seed))
    model = model.to(dtype)
    ids = (uniforms("ids", BATCH * LENGTH, seed) * CONFIG["vocab_size"]).astype("int64")
    ids = torch.from_numpy(ids).reshape(BATCH, LENGTH)
    logits = model(ids).logits
    # The library's own loss rounds the logits to f32 first, whatever their type.
    loss = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
    loss.backward()
    result = {"loss": loss.detach().double().reshape(1), "logits": logits.detach().double()}
    result |= {f"grad/{n}": p.grad.double().clone() for n, p in model.named_parameters()}
    return result


def main():
    torch.set_num_threads(1)
    out, errors = {}, {}
    for seed in SEEDS:
        exact, low = run(seed, torch.float64), run(seed, torch.float32)
        for name, t in exact.items():
            errors.setdefault(name, []).append((low[name] - t).norm() / t.norm().clamp_min(1e-300))
        if seed == 1:
            out |= {name: t.contiguous() for name, t in exact.items()}
    out |= {f"f32/{name}": torch.stack(list_) for name, list_ in errors.items()}
    save_file(out, sys.argv[1])


main()
