"""A full-size network in PyTorch, for compare.lua: compare.py resnet18|gpt2-124m|gpt2-355m SEED FILE

Writes its parameters, a batch, loss and gradients in f64, and PyTorch's own f32 error against them,
one number a tensor.
"""
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from nets import ResNet18

name, seed, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(2)
torch.manual_seed(seed)


def resnet18():
    x, y = torch.rand(32, 3, 32, 32), torch.randint(0, 10, (32,))
    return ResNet18(64), {"x": x, "y": y}, lambda m, t: F.cross_entropy(m(x.to(t)), y)


def gpt2(size):
    from transformers import GPT2Config, GPT2LMHeadModel
    layers, heads, width = {"124m": (12, 12, 768), "355m": (24, 16, 1024)}[size]
    model = GPT2LMHeadModel(GPT2Config(n_layer=layers, n_head=heads, n_embd=width, resid_pdrop=0.0,
                                       embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)).eval()
    ids = torch.randint(0, 50257, (2, 64))

    def loss(m, _):
        logits = m(ids).logits
        return F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))

    return model, {"ids": ids}, loss


model, out, loss_of = resnet18() if name == "resnet18" else gpt2(name.removeprefix("gpt2-"))
out |= {f"param/{n}": p.detach().clone() for n, p in model.named_parameters()}
steps = {}
for dtype in (torch.float32, torch.float64):
    model.to(dtype).zero_grad()
    loss = loss_of(model, dtype)
    loss.backward()
    steps[dtype] = {"loss": loss.detach().double().reshape(1)}
    steps[dtype] |= {n: p.grad.double().clone() for n, p in model.named_parameters()}
for n, t in steps[torch.float64].items():
    out[f"f64/{n}"] = t
    out[f"f32/{n}"] = ((steps[torch.float32][n] - t).norm() / t.norm()).reshape(1)
save_file({n: t.contiguous() for n, t in out.items()}, path)
