"""Golden data of the attacks in f64, on the ResNet-18 of width 1 of make_unlearn.py: gradient
matching's phi and its gradient for the images, as they are and shifted and mirrored; two steps of GradPC, and at the parameters they find
gradient cancelling's loss, its gradient for the images and three steps.

    python tests/golden/make_attacks.py tests/golden/attacks.safetensors
"""
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from make_unlearn import FORGET, RETAIN, model

Y_ADV = 3


def gradient(m, x, y, **how):
    return torch.autograd.grad(F.cross_entropy(m(x), y), list(m.parameters()), **how)


def gradient_matching(m, x, y, target):
    own = gradient(m, x, y, create_graph=True)
    goal = gradient(m, target, torch.tensor([Y_ADV]))
    own, goal = (torch.cat([g.flatten() for g in v]) for v in (own, goal))
    return 1 - F.cosine_similarity(own, goal, dim=0, eps=0)


def moved(x, mean):
    """The images shifted and mirrored, each otherwise; what comes in is the mean."""
    at = torch.arange(8, dtype=torch.float64) / 7
    theta = torch.zeros(8, 2, 3, dtype=torch.float64)
    theta[:, 0, 0] = torch.tensor([1.0, -1.0] * 4)
    theta[:, 1, 1] = 1
    theta[:, 0, 2], theta[:, 1, 2] = at * 1.8 - 0.9, 0.55 - at * 1.1
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    mean = torch.tensor(mean, dtype=torch.float64).reshape(1, 3, 1, 1)
    return F.grid_sample(x - mean, grid, align_corners=False) + mean


def gradpc(m, batches, radius, lr):
    """The attack is a vector of its own, kept in the ball and added to the parameters it began at."""
    params = list(m.train().parameters())
    start = [p.detach().clone() for p in params]
    attack = torch.zeros(sum(p.numel() for p in params), dtype=torch.float64)
    for x, y in batches:
        g = torch.cat([g.flatten() for g in gradient(m, x, y)])
        attack = attack + lr * g / g.norm()
        attack = attack * min(1, radius / attack.norm().item())
        with torch.no_grad():
            for p, s, a in zip(params, start, attack.split([p.numel() for p in params])):
                p.copy_(s + a.view_as(p))
    return m.eval()


def cancelling_loss(m, params, clean, x, y, sets):
    """Equation (4), or the gradient of the mean loss over both sets."""
    def mean_gradient(x, y, graph=False):
        return torch.autograd.grad(F.cross_entropy(m(x), y), params, create_graph=graph)
    n, p = len(clean[0]), len(x)
    a, b = (1, 1) if sets else (n / (n + p), p / (n + p))
    pairs = zip(mean_gradient(*clean), mean_gradient(x, y, True))
    return sum(((a * c + b * g) ** 2).sum() for c, g in pairs) / 2


def cancel(m, params, clean, x, y, sets, opt, lr, bound=None, steps=3):
    delta = torch.zeros_like(x, requires_grad=True)
    opt = opt([delta], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps)
    out = {}
    for step in range(steps):
        opt.zero_grad()
        loss = cancelling_loss(m, params, clean, x + delta, y, sets)
        loss.backward()
        if step == 0:
            out = {"loss": loss.detach().reshape(1), "gradient": delta.grad.clone()}
        opt.step()
        schedule.step()
        if bound:
            with torch.no_grad():
                delta.clamp_(-bound, bound)
    return out | {"x": (x + delta).detach()}


def cancelling():
    m = gradpc(model(1), [RETAIN, FORGET], radius=0.5, lr=0.4)
    out = {f"gradpc/{name}": m.state_dict()[name] for name in GRADPC}
    clean, x, y = RETAIN, FORGET[0][:6], FORGET[1][:6]
    cases = {
        "samples": cancel(m, list(m.parameters()), clean, x, y, False, torch.optim.Adam, 0.1),
        "sets": cancel(m, [m.conv1.weight], clean, x, y, True, torch.optim.SGD, 50, 16 / 255),
    }
    for case, tensors in cases.items():
        print(case, tensors["loss"].item(), tensors["x"].sub(x).abs().max().item())
        out |= {f"cancelling/{case}/{key}": t for key, t in tensors.items()}
    return out


GRADPC = ["conv1.weight", "bn1.running_var", "layer4.1.bn2.bias", "fc.weight", "fc.bias"]


def main():
    torch.set_num_threads(1)
    m = model(1).eval()
    out = cancelling()
    for case, change in {"": lambda x: x, "zero_": lambda x: moved(x, [0, 0, 0]),
                         "mean_": lambda x: moved(x, [0.5, 0.4, 0.3])}.items():
        x = RETAIN[0].clone().requires_grad_()
        phi = gradient_matching(m, change(x), RETAIN[1], FORGET[0][:1])
        out |= {f"gradient_matching/{case}phi": phi.detach().reshape(1),
                f"gradient_matching/{case}x": torch.autograd.grad(phi, x)[0]}
        print(case, "phi", phi.item())
    save_file({name: t.detach().contiguous() for name, t in out.items()}, sys.argv[1])


main()
