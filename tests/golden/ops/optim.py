"""One step of torch.optim from a given state; sizes and order as in the rows: what changes is
returned, list by list."""
import torch


def stepped(ps, gs, masks, olds, optimiser, state_of, state):
    """Puts the state in, steps, and returns parameters and state; masked elements stay."""
    params = [p.detach().clone().requires_grad_() for p in ps]
    opt = optimiser(params)
    for i, p in enumerate(params):
        p.grad = gs[i].detach().clone()
        for key, value in state_of(i).items():
            opt.state[p][key] = value
    opt.step()
    news = [params] + [[opt.state[p][key] for p in params] for key in state]
    result = []
    for old, new in zip(olds, news):
        for i, n in enumerate(new):
            n = n.detach()
            result.append(n if masks is None else torch.where(masks[i] != 0, n, old[i]))
    return tuple(result)


def sgd_step(ins, o):
    ps, gs, ms, masks = ins
    o = dict(o)
    first = o.pop("first", False)
    state = [] if ms is None else ["momentum_buffer"]
    return stepped(ps, gs, masks, [ps] + ([ms] if ms else []),
                   lambda p: torch.optim.SGD(p, foreach=False, **o),
                   lambda i: {} if first or ms is None else {"momentum_buffer": ms[i].clone()}, state)


def adamw_step(ins, o):
    ps, gs, ms, vs, mosts, masks = ins
    o = dict(o)
    step = o.pop("step")
    betas = (o.pop("beta1", 0.9), o.pop("beta2", 0.999))
    kind = torch.optim.AdamW if o.pop("decoupled", True) else torch.optim.Adam
    o.setdefault("weight_decay", 0.01)

    def state_of(i):
        s = {"step": torch.tensor(step - 1.0), "exp_avg": ms[i].clone(), "exp_avg_sq": vs[i].clone()}
        if mosts:
            s["max_exp_avg_sq"] = mosts[i].clone()
        return s

    state = ["exp_avg", "exp_avg_sq"] + (["max_exp_avg_sq"] if mosts else [])
    return stepped(ps, gs, masks, [ps, ms, vs] + ([mosts] if mosts else []),
                   lambda p: kind(p, betas=betas, amsgrad=bool(mosts), foreach=False, **o),
                   state_of, state)


def total_norm(ins, o):
    p = float(o.get("norm_type_nan") or o.get("norm_type") or 2)
    return torch.linalg.vector_norm(torch.cat([x.reshape(-1) for x in ins[0]]), p)


def clip_norm(ins, o):
    xs, total = ins
    scale = (o["max_norm"] / (total + 1e-6)).clamp(max=1.0)
    return tuple(x * scale for x in xs)


OPS = {"sgd_step_": sgd_step, "adamw_step_": adamw_step, "total_norm": total_norm,
       "clip_norm_": clip_norm}
