"""Golden data of the attacks' losses in f64: gradient matching's phi and its gradient for the images,
on the ResNet-18 of width 1 of make_unlearn.py, in evaluation mode.

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


def main():
    torch.set_num_threads(1)
    m = model(1).eval()
    x = RETAIN[0].clone().requires_grad_()
    phi = gradient_matching(m, x, RETAIN[1], FORGET[0][:1])
    save_file({"gradient_matching/phi": phi.detach().reshape(1),
               "gradient_matching/x": torch.autograd.grad(phi, x)[0].contiguous()}, sys.argv[1])
    print("phi", phi.item())


main()
