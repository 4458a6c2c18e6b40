"""Writes tests/golden/optim.lua: what PyTorch's optimisers, schedules and clipping give.

    python tests/golden/make_optim.py > tests/golden/optim.lua

Gradients are 0.7 p + ((7 i + 3 t) % 11 - 5) / 7 for element i at step t: both sides compute them.
"""
import math
import warnings

import torch
from torch.optim import lr_scheduler as S

warnings.filterwarnings("ignore")
torch.set_default_dtype(torch.float64)
STEPS = 7


def start():
    a = torch.tensor([[0.5, -1.0], [0.25, 2.0], [-0.75, 0.0]])
    b = torch.tensor([1.5, -0.5, 0.125, -2.0])
    return [torch.nn.Parameter(a), torch.nn.Parameter(b)]


def gradient(p, t):
    i = torch.arange(p.numel()).reshape(p.shape)
    return 0.7 * p.detach() + ((7 * i + 3 * t) % 11 - 5) / 7


def steps(opt, params, skip=None):
    for t in range(STEPS):
        for k, p in enumerate(params):
            p.grad = None if skip and skip(k, t) else gradient(p, t)
        opt.step()
    return [float(v) for p in params for v in p.detach().flatten()]


SGD = [
    dict(lr=0.1),
    dict(lr=0.1, weight_decay=0.01),
    dict(lr=0.1, momentum=0.9),
    dict(lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.02),
    dict(lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.02),
    dict(lr=0.1, momentum=0.9, maximize=True, weight_decay=0.1),
]
ADAM = [
    dict(),
    dict(lr=0.05, betas=(0.8, 0.95), eps=1e-3),
    dict(lr=0.05, weight_decay=0.1),
    dict(lr=0.05, weight_decay=0.1, amsgrad=True, betas=(0.5, 0.6)),
    dict(lr=0.05, weight_decay=0.1, maximize=True),
]


def optimisers():
    out = []
    for name, cases in (("SGD", SGD), ("Adam", ADAM), ("AdamW", ADAM)):
        for o in cases:
            params = start()
            out.append((name, o, "", steps(getattr(torch.optim, name)(params, **o), params)))
    # The second parameter has no gradient at first: its momentum and step count begin later.
    late = lambda k, t: k == 1 and t < 3
    for name, o in (("SGD", SGD[3]), ("AdamW", ADAM[1])):
        params = start()
        out.append((name, o, "late", steps(getattr(torch.optim, name)(params, **o), params, late)))
    params = start()
    groups = [dict(params=[params[0]]), dict(params=[params[1]], lr=0.02, momentum=0.5)]
    out.append(("SGD", SGD[2], "groups", steps(torch.optim.SGD(groups, **SGD[2]), params)))
    return out


def schedules():
    def run(make, n=30, momentum=False, lr=0.5):
        opt = torch.optim.SGD(start(), lr=lr, momentum=0.9)
        s, rates, moments = make(opt), [], []
        for _ in range(n):
            g = opt.param_groups[0]
            rates.append(g["lr"])
            moments.append(g["momentum"])
            opt.step()
            s.step()
        return rates, moments if momentum else None

    def warm(make, factor=0.1, warmup=6):
        return lambda opt: S.SequentialLR(
            opt, [S.LinearLR(opt, factor, 1.0, warmup), make(opt)], [warmup])

    def cycle(**o):
        return lambda opt: S.OneCycleLR(opt, 0.5, total_steps=31, **o)

    w = dict(warmup=6, warmup_factor=0.1)
    return [
        ("step", dict(step_size=4, gamma=0.5), *run(lambda o: S.StepLR(o, 4, 0.5))),
        ("multi_step", dict(milestones=[3, 9, 20]), *run(lambda o: S.MultiStepLR(o, [3, 9, 20]))),
        ("cosine", dict(total=30, eta_min=0.02), *run(lambda o: S.CosineAnnealingLR(o, 30, 0.02))),
        ("linear", dict(), *run(lambda o: S.LinearLR(o))),
        ("linear", dict(start_factor=1, end_factor=0.1, total=12),
         *run(lambda o: S.LinearLR(o, 1.0, 0.1, 12))),
        ("cosine", dict(total=24, **w), *run(warm(lambda o: S.CosineAnnealingLR(o, 24)))),
        ("step", dict(step_size=5, **w), *run(warm(lambda o: S.StepLR(o, 5)))),
        ("one_cycle", dict(total=31), *run(cycle(), momentum=True)),
        ("one_cycle", dict(total=31, anneal="linear", pct_start=0.4, div_factor=10,
                           final_div_factor=100),
         *run(cycle(anneal_strategy="linear", pct_start=0.4, div_factor=10, final_div_factor=100),
              momentum=True)),
        ("one_cycle", dict(total=31, three_phase=True, base_momentum=0.8),
         *run(cycle(three_phase=True, base_momentum=0.8), momentum=True)),
    ]


def clips():
    out = []
    for norm in (1.0, 2.0, math.inf):
        for most in (0.5, 100.0):
            params = start()
            for p in params:
                p.grad = gradient(p, 0)
            total = torch.nn.utils.clip_grad_norm_(params, most, norm)
            out.append((norm, most, float(total),
                        [float(v) for p in params for v in p.grad.flatten()]))
    return out


def valley(params):
    """Rosenbrock's function of all elements one after the other."""
    x = torch.cat([p.flatten() for p in params])
    return (10 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def lbfgs():
    out = []
    for o, calls in ((dict(max_iter=1), 1), (dict(max_iter=6), 1), (dict(max_iter=5), 3),
                     (dict(max_iter=12, history_size=2), 1), (dict(max_iter=200), 1),
                     (dict(max_iter=30, max_eval=9), 1), (dict(max_iter=8, lr=0.1), 1),
                     (dict(max_iter=9, lr=0.02, line_search="none"), 2)):
        params = start()
        torch_o = {k: v for k, v in o.items() if k != "line_search"}
        search = None if "line_search" in o else "strong_wolfe"
        opt = torch.optim.LBFGS(params, line_search_fn=search, **torch_o)

        def closure():
            opt.zero_grad()
            loss = valley(params)
            loss.backward()
            return loss
        for _ in range(calls):
            opt.step(closure)
        state = opt.state[params[0]]
        out.append((o, calls, state["n_iter"], [float(v) for p in params
                                                for v in p.detach().flatten()]))
    return out


def lua(v):
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, str):
        return f"'{v}'"
    if isinstance(v, (int, float)):
        return "math.huge" if v == math.inf else repr(v)
    if isinstance(v, dict):
        return "{ " + ", ".join(f"{k} = {lua(x)}" for k, x in v.items()) + " }" if v else "{}"
    return "{ " + ", ".join(lua(x) for x in v) + " }"


def rows(name, list_, fields):
    print(f"  {name} = {{")
    for row in list_:
        print("    { " + ",\n      ".join(
            f"{k} = {lua(v)}" for k, v in zip(fields, row) if v is not None) + " },")
    print("  },")


print("-- Made by make_optim.py with PyTorch", torch.__version__.split("+")[0])
print("-- luacheck: ignore 631")
print("return {")
rows("optimisers", optimisers(), ("name", "options", "how", "want"))
rows("lbfgs", lbfgs(), ("options", "calls", "iterations", "want"))
rows("schedules", schedules(), ("name", "options", "lr", "momentum"))
rows("clips", clips(), ("norm", "most", "total", "want"))
print("}")
