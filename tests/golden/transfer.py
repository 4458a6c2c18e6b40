"""PyTorch's half of transfer.sh: brews gradient matching's poisons, and trains victims on those of
Vestige, by the same recipe. One pair each: DIR/<seed>.safetensors in, DIR/<seed>-theirs.safetensors
and .json out; pairs that are there are not made again.

    python tests/golden/transfer.py DIR [JOBS]    JOBS processes side by side (1)
"""
import json
import math
import os
import sys

import torch
import torch.multiprocessing as multiprocessing
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn


def block(c, k, pool=False):
    layers = [nn.Conv2d(c, k, 3, padding=1, bias=False), nn.BatchNorm2d(k), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


class ResNet9(nn.Module):
    def __init__(self, w, mean, std):
        super().__init__()
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))
        self.conv1, self.conv2 = block(3, w), block(w, 2 * w, True)
        self.res1 = nn.Sequential(block(2 * w, 2 * w), block(2 * w, 2 * w))
        self.conv3, self.conv4 = block(2 * w, 4 * w, True), block(4 * w, 8 * w, True)
        self.res2 = nn.Sequential(block(8 * w, 8 * w), block(8 * w, 8 * w))
        self.fc = nn.Linear(8 * w, 10)

    def forward(self, x):
        x = self.conv2(self.conv1((x - self.mean) / self.std))
        x = self.res1(x) + x
        x = self.conv4(self.conv3(x))
        return self.fc((self.res2(x) + x).amax((2, 3)))


def cut(x, pad, flip, rng):
    """Each image shifted within a black border of `pad`, and mirrored or not."""
    n, _, h, w = x.shape
    big = F.pad(x, (pad,) * 4)
    dy, dx = (torch.randint(0, 2 * pad + 1, (n,), generator=rng) for _ in range(2))
    ys = dy[:, None] + torch.arange(h)
    xs = dx[:, None] + torch.arange(w)
    out = big[torch.arange(n)[:, None, None], :, ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2)
    if flip:
        out = torch.where((torch.rand(n, generator=rng) < 0.5)[:, None, None, None], out.flip(3), out)
    return out


def train(data, x, y, settings, seed):
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    recipe = settings["recipe"]
    model = ResNet9(settings["width"], data["mean"], data["std"]).train()
    model = model.to(memory_format=torch.channels_last)
    how = recipe["optim"]
    opt = torch.optim.SGD(model.parameters(), lr=how["lr"], momentum=how["momentum"],
                          weight_decay=how["weight_decay"])
    size = recipe["batch_size"]
    steps = recipe["epochs"] * math.ceil(len(x) / size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, how["lr"], steps)
    augment = recipe["augment"]
    for _ in range(recipe["epochs"]):
        for rows in torch.randperm(len(x), generator=rng).split(size):
            batch = cut(x[rows], augment["crop"], augment["flip"], rng)
            loss = F.cross_entropy(model(batch.to(memory_format=torch.channels_last)), y[rows])
            opt.zero_grad()
            loss.backward()
            opt.step()
            schedule.step()
    return model.eval()


def gradient(model, x, y, **how):
    return torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()), **how)


def moved(x, o, rng):
    """The shift and flip that the poisons are made for, differentiable."""
    n, _, h, w = x.shape
    dx, dy = ((torch.rand(n, generator=rng) * 2 - 1) * 2 * o["shift"] / s for s in (w, h))
    side = (torch.rand(n, generator=rng) < 0.5) * 2.0 - 1 if o["flip"] else torch.ones(n)
    zero, one = torch.zeros(n), torch.ones(n)
    theta = torch.stack([side, zero, dx, zero, one, dy], 1).view(n, 2, 3)
    return F.grid_sample(x, F.affine_grid(theta, x.shape, align_corners=False),
                         align_corners=False)


def brew(model, base, y, target, y_adv, o, rng):
    """Witches' Brew with signed Adam, one start; steps are in units of the deviation."""
    goal = torch.cat([g.flatten() for g in gradient(model, target, y_adv)])
    bound, std = o["eps"] / 255, model.std

    def project(delta):
        p = (delta * std).clamp(-bound, bound)
        return ((base + p).clamp(0, 1) - base) / std

    delta = project(torch.randn(base.shape, generator=rng) * bound / std).requires_grad_()
    opt = torch.optim.Adam([delta], lr=o["lr"])
    rate = o["lr"] * o["batch_size"] / 512
    ends = [math.floor(o["steps"] / m) for m in (2.667, 1.6, 1.142)]
    for step in range(1, o["steps"] + 1):
        own = gradient(model, moved(base + delta * std, o, rng), y, create_graph=True)
        phi = 1 - F.cosine_similarity(torch.cat([g.flatten() for g in own]), goal, dim=0)
        delta.grad = torch.autograd.grad(phi, delta)[0].sign()
        opt.param_groups[0]["lr"] = rate * 0.1 ** sum(step > end for end in ends)
        opt.step()
        with torch.no_grad():
            delta.copy_(project(delta))
    return (base + delta * std).detach(), phi.item()


def margin(model, t):
    with torch.no_grad():
        logp = model(t["target"]).double().log_softmax(1)[0]
    return (logp[t["labels"][1]] - logp[t["labels"][0]]).item()


def pair(folder, seed):
    settings = json.load(open(f"{folder}/settings.json"))
    data = load_file(f"{folder}/data.safetensors")
    o = settings["attack"]
    x, y = data["x"].permute(0, 3, 1, 2).float() / 255, data["y"].long()
    t = load_file(f"{folder}/{seed}.safetensors")
    t["target"] = t["target"].permute(0, 3, 1, 2)
    ours = x.clone()
    ours[t["rows"]] = t["x"].permute(0, 3, 1, 2)
    clean = train(data, x, y, settings, seed + 100003)
    made, phi = brew(clean, x[t["rows"]], y[t["rows"]], t["target"], t["labels"][1:], o,
                     torch.Generator().manual_seed(seed))
    victim = train(data, ours, y, settings, seed)
    out = f"{folder}/{seed}-theirs"
    save_file({"x": made.permute(0, 2, 3, 1).contiguous()}, out + ".safetensors")
    found = {"phi": phi, "clean": margin(clean, t), "victim": margin(victim, t)}
    with open(out + ".part", "w") as f:
        json.dump(found, f)
    os.replace(out + ".part", out + ".json")
    print(seed, found, flush=True)


def work(k, folder, seeds, jobs):
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    for seed in seeds[k::jobs]:
        pair(folder, seed)


def main():
    folder, jobs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    settings = json.load(open(f"{folder}/settings.json"))
    o = settings["attack"]
    assert o["restarts"] == 1 and o["ensemble"] == 1 and o["optimizer"] == "signed_adam"
    seeds = [seed for seed in range(settings["first"], settings["last"] + 1)
             if not os.path.exists(f"{folder}/{seed}-theirs.json")]
    multiprocessing.spawn(work, (folder, seeds, jobs), nprocs=jobs)


if __name__ == "__main__":
    main()
