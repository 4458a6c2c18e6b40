"""Golden data of training: ResNet-18 (width 4), the VGG-like net and the MLP in PyTorch.

    python tests/golden/make_models.py tests/golden/models.safetensors

For each net: loss and gradients of the first step and the parameters after 20 steps in f64 (seed 1,
whole tensors), and for five seeds PyTorch's own f32 error against its f64, one number a tensor:
|f32 - f64| / |f64| for the loss, each gradient and each parameter's drift after 20 steps.
The seeds are the first whose f64 run keeps every relu input at least MARGIN from 0, and whose f32 run
stays with it (drift of fc.weight below 1e-5): otherwise which side of the kink a unit falls on
decides, and a run in f32 jumps away by 1e-2 at one step, in PyTorch as well.
Parameters, inputs and labels are formulas of the Philox streams; see tests/lua/test_golden_models.lua.
"""
import math
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from nets import MLP, VGG, ResNet18, closest
from philox import uniforms

STEPS, SEEDS, MARGIN = 20, 5, 3e-6

SGD = dict(lr=0.002, momentum=0.9, weight_decay=5e-4, nesterov=True)
RUNS = {
    "resnet18": (ResNet18, 16, lambda p: torch.optim.SGD(p, **SGD)),
    "vgg": (VGG, 16, lambda p: torch.optim.SGD(p, **SGD)),
    "mlp_adam": (MLP, 4, lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=1e-2)),
    "mlp_adamw": (MLP, 4, lambda p: torch.optim.AdamW(p, lr=1e-3)),
}


def initial(name, shape, seed):
    """A parameter's start, rounded to f32 so that both precisions begin at the same point."""
    n = math.prod(shape)
    u = torch.from_numpy(uniforms(f"init/{name}", n, seed)) * 2 - 1
    if len(shape) > 1:
        u = u * math.sqrt(3 / (n / shape[0]))
    else:
        u = u * 0.1 + (1 if ".bn" in "." + name and name.endswith("weight")
                       or "downsample.1.weight" in name else 0)
    return u.to(torch.float32).reshape(shape)


def batch(step, size, seed):
    n = 8 * 3 * size * size
    x = torch.from_numpy(uniforms(f"x/{step}", n, seed)).to(torch.float32)
    y = torch.from_numpy((uniforms(f"y/{step}", 8, seed) * 10).astype("int64"))
    return x.reshape(8, 3, size, size), y


def train(net, size, optim, seed, dtype):
    """The loss and gradients of the first step, and the parameters after STEPS."""
    model = net()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(initial(name, p.shape, seed))
    model = model.to(dtype)
    opt = optim(model.parameters())
    first = None
    for step in range(STEPS):
        x, y = batch(step, size, seed)
        loss = F.cross_entropy(model(x.to(dtype)), y)
        opt.zero_grad()
        loss.backward()
        if first is None:
            first = loss.detach().double(), {n: p.grad.double().clone()
                                             for n, p in model.named_parameters()}
        opt.step()
    return *first, {n: p.detach().double() for n, p in model.named_parameters()}


def error(a, b):
    return (a - b).norm() / b.norm().clamp_min(1e-300)


def main():
    torch.set_num_threads(1)
    out = {}
    for run, (net, size, optim) in RUNS.items():
        errors, seeds, seed = {}, [], 0
        while len(seeds) < SEEDS:
            seed += 1
            closest[0] = math.inf
            loss, grads, params = train(net, size, optim, seed, torch.float64)
            if closest[0] < MARGIN:
                continue
            low_loss, low_grads, low_params = train(net, size, optim, seed, torch.float32)
            if error(low_params["fc.weight"], params["fc.weight"]) > 1e-5:
                continue
            errors.setdefault("loss", []).append((low_loss - loss).abs() / loss.abs())
            for name in grads:
                errors.setdefault(f"grad/{name}", []).append(error(low_grads[name], grads[name]))
                errors.setdefault(f"param/{name}", []).append(
                    error(low_params[name], params[name]))
            if not seeds:
                out[f"{run}/loss"] = loss.reshape(1)
                for name in grads:
                    out[f"{run}/grad/{name}"] = grads[name].contiguous()
                    out[f"{run}/param/{name}"] = params[name].contiguous()
            seeds.append(seed)
        out[f"{run}/seeds"] = torch.tensor(seeds)
        for key, list_ in errors.items():
            out[f"{run}/f32/{key}"] = torch.stack(list_)
        print(run, seeds, {k: max(v).item() for k, v in errors.items() if "fc.weight" in k})
    save_file(out, sys.argv[1])


if __name__ == "__main__":
    main()
