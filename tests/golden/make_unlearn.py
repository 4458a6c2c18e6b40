"""Golden data of the unlearning methods: three steps in f64 on a ResNet-18 of width 1, transcribed
from their sources (see lua/vestige/unlearn).

    python tests/golden/make_unlearn.py tests/golden/unlearn.safetensors

A method's tensor holds the state of its model, one tensor after the other by name.

Eight samples are retained, eight forgotten, so that a batch is the whole of either. Parameters, inputs
and labels are those of make_models.py: seed 1 is the model, seed 2 the initial weights.
"""
import copy
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from make_models import batch, initial
from nets import ResNet18

STEPS, SIZE = 3, 8
SGD = dict(momentum=0.9, weight_decay=5e-4)


def model(seed):
    m = ResNet18(1)
    with torch.no_grad():
        for name, p in m.named_parameters():
            p.copy_(initial(name, p.shape, seed))
    return m.double()


def part(k):
    x, y = batch(k, SIZE, 1)
    return x.double(), y


RETAIN, FORGET = part(0), part(1)


def ce(m, data):
    return F.cross_entropy(m(data[0]), data[1])


def run(m, losses, params=None, **sgd):
    opt = torch.optim.SGD(params or m.parameters(), **(SGD | sgd))
    m.train()
    for loss in losses:
        opt.zero_grad()
        loss(m).backward()
        opt.step()
    return m


def kl(teacher, m, data, z=None, T=4.0):
    with torch.no_grad():
        old = F.softmax(teacher(data[0]) / T, 1)
    new = F.log_softmax((m(data[0]) if z is None else z) / T, 1)
    return F.kl_div(new, old, reduction="sum") * T * T / len(old)


def tail(m, names):
    for name, p in m.named_parameters():
        p.requires_grad_(any(name.startswith(n + ".") for n in names))
    return [p for p in m.parameters() if p.requires_grad]


LAST3 = ["layer4.1.conv1", "layer4.1.bn1", "layer4.1.conv2", "layer4.1.bn2", "fc"]


def cfk(m):
    return run(m, [lambda m: ce(m, RETAIN)] * STEPS, tail(m, LAST3), lr=1e-3)


def cfk_split(m):
    """Everything before the last three in evaluation mode."""
    def loss(m):
        for name, child in m.named_modules():
            if not list(child.children()):
                child.train(any(name == n for n in LAST3))
        return ce(m, RETAIN)
    return run(m, [loss] * STEPS, tail(m, LAST3), lr=1e-3)


def anew(m, names):
    """Weights, biases and batch norm of these modules as model 2 has them."""
    other = dict(model(2).named_modules())
    for name in names:
        m.get_submodule(name).load_state_dict(other[name].state_dict())
    return m


def euk_modules(m):
    """New weights (here model 2's) for convolutions and linear layers, zero biases; batch norm stays."""
    anew(m, ["layer4.1.conv1", "layer4.1.conv2", "fc"])
    with torch.no_grad():
        m.fc.bias.zero_()
    return cfk(m)


def ngd(m, langevin=False, sigma2=0.04):
    """The noise of a step is that of make_models.initial, seed 10 + step."""
    opt = torch.optim.SGD(m.parameters(), lr=1e-3, momentum=0 if langevin else 0.9, weight_decay=5e-4)
    m.train()
    for step in range(STEPS):
        xi = [initial(name, p.shape, 10 + step).double() for name, p in m.named_parameters()]
        opt.zero_grad()
        ce(m, RETAIN).backward()
        if not langevin:
            for p, x in zip(m.parameters(), xi):
                p.grad += sigma2**0.5 * x
        opt.step()
        if langevin:
            with torch.no_grad():
                for p, x in zip(m.parameters(), xi):
                    p -= (2 * 1e-3 * sigma2) ** 0.5 * x
    return m


def euk_stage(m):
    m.layer4.load_state_dict(model(2).layer4.state_dict())
    return run(m, [lambda m: ce(m, RETAIN)] * STEPS, tail(m, ["layer4"]), lr=1e-3)


def scrub(m, joint=False, alpha=0.999):
    teacher = copy.deepcopy(m).eval()

    def up(m):
        return -kl(teacher, m, FORGET)

    def down(m):
        z = m(RETAIN[0])
        return 0.99 * F.cross_entropy(z, RETAIN[1]) + alpha * kl(teacher, m, RETAIN, z)

    def both(m):
        return down(m) - 0.001 * kl(teacher, m, FORGET)
    return run(m, [both] * STEPS if joint else [up, down, up], lr=5e-4)


def ssd(m, alpha=1.0, size=4):
    m.eval()
    full = [torch.cat(v) for v in zip(RETAIN, FORGET)]

    def importance(x, y):
        sums = [torch.zeros_like(p) for p in m.parameters()]
        for i in range(0, len(x), size):
            loss = ce(m, (x[i:i + size], y[i:i + size]))
            for s, g in zip(sums, torch.autograd.grad(loss, list(m.parameters()))):
                s += g**2
        return [s / (len(x) / size) for s in sums]
    with torch.no_grad():
        own, all_ = (torch.enable_grad()(importance)(*v) for v in (FORGET, full))
        for p, u, s in zip(m.parameters(), own, all_):
            chosen = u > alpha * s
            p[chosen] *= (s / u)[chosen].clamp(max=1)
    return m


METHODS = {
    "gd": lambda m: run(m, [lambda m: ce(m, RETAIN)] * STEPS, lr=1e-3),
    "ga": lambda m: run(m, [lambda m: -ce(m, FORGET)] * STEPS, lr=5e-6),
    "neggrad_plus": lambda m: run(
        m, [lambda m: 0.999 * ce(m, RETAIN) - 0.001 * ce(m, FORGET)] * STEPS, lr=1e-3),
    "cfk": cfk, "cfk_split": cfk_split, "euk_stage": euk_stage,
    "cfk_stage": lambda m: run(m, [lambda m: ce(m, RETAIN)] * STEPS, tail(m, ["layer4"]), lr=1e-3),
    "euk": euk_modules, "euk_split": lambda m: cfk_split(anew(m, LAST3)),
    "ngd": ngd, "ngd_langevin": lambda m: ngd(m, True),
    "retrain": lambda m: run(model(2), [lambda m: ce(m, RETAIN)] * STEPS, lr=0.05),
    "scrub": scrub, "scrub_joint": lambda m: scrub(m, True),
    "scrub_authors": lambda m: scrub(m, alpha=0.001), "ssd": ssd,
}


def main():
    torch.set_num_threads(1)
    out = {}
    for name, method in METHODS.items():
        state = method(model(1)).state_dict()
        out[name] = torch.cat([state[key].detach().double().flatten() for key in sorted(state)])
    save_file(out, sys.argv[1])
    print(len(METHODS), "methods,", len(out[name]), "numbers each")


if __name__ == "__main__":
    main()
