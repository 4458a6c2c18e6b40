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
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

from philox import uniforms

STEPS, SEEDS, MARGIN = 20, 5, 1.5e-6


closest = [math.inf]


def relu(x):
    if x.dtype == torch.float64:
        closest[0] = min(closest[0], x.detach().abs().min().item())
    return F.relu(x)


class Relu(nn.Module):
    def forward(self, x):
        return relu(x)


class Block(nn.Module):
    def __init__(self, c, k, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c, k, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(k)
        self.conv2 = nn.Conv2d(k, k, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(k)
        if stride != 1 or c != k:
            self.downsample = nn.Sequential(nn.Conv2d(c, k, 1, stride, bias=False),
                                            nn.BatchNorm2d(k))

    def forward(self, x):
        y = relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet18(nn.Module):
    def __init__(self, w=4):
        super().__init__()
        self.conv1 = nn.Conv2d(3, w, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(w)
        c = w
        for i, k in enumerate([w, 2 * w, 4 * w, 8 * w]):
            setattr(self, f"layer{i + 1}",
                    nn.Sequential(Block(c, k, 1 if i == 0 else 2), Block(k, k, 1)))
            c = k
        self.fc = nn.Linear(8 * w, 10)

    def forward(self, x):
        x = relu(self.bn1(self.conv1(x)))
        for i in range(4):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


class VGG(nn.Module):
    def __init__(self, w=4):
        super().__init__()
        layers, c = [], 3
        for i in range(3):
            layers += [nn.Conv2d(c, w * 2**i, 3, padding=1), Relu(), nn.MaxPool2d(2)]
            c = w * 2**i
        self.convs = nn.Sequential(*layers)
        self.hidden = nn.Linear(c * 4, 32)
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        return self.fc(relu(self.hidden(self.convs(x).flatten(1))))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden1 = nn.Linear(48, 32)
        self.hidden2 = nn.Linear(32, 16)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = x.flatten(1)
        return self.fc(relu(self.hidden2(relu(self.hidden1(x)))))


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


main()
