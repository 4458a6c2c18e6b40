"""Golden data of the operators: PyTorch's forward, gradient and second gradient in f64.

    luajit tests/golden/dump_cases.lua cases.json
    python tests/golden/make_ops.py cases.json tests/golden/ops.safetensors

Needs torch, numpy and safetensors. ops/<family>.py says which torch function an operator is.
With fixed directions v and w:  L = sum_k <out_k, v_k>,  g = dL/dx,  M = sum_i <g_i, w_i>,  h = dM/dx.
"""
import importlib.util
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

from philox import uniforms, values

HERE = pathlib.Path(__file__).parent


def torch_functions():
    table = {}
    for path in sorted((HERE / "ops").glob("*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        table.update(module.OPS)
    return table


def direction(name, like):
    u = torch.from_numpy(uniforms(name, like.numel())) * 2 - 1
    return u.reshape(like.shape)


def build(spec, floats, grad):
    if "absent" in spec:
        return None
    if "number" in spec:
        return spec["number"]
    if "list" in spec:
        return [build(s, floats, grad) for s in spec["list"]]
    x = torch.from_numpy(values(spec))
    if x.is_floating_point() and not spec.get("const"):
        x.requires_grad_(grad)
        floats.append(x)
    elif spec.get("dtype") == "u8":
        x = x.to(torch.uint8)
    return x


def run(case, function, out):
    floats = []
    ins = [build(s, floats, case["grad"]) for s in case["ins"]]
    ys = function(ins, case["opts"] or {})
    ys = [y for y in (ys if isinstance(ys, (tuple, list)) else (ys,))]
    name = case["name"]
    for k, y in enumerate(ys):
        y = y.detach()
        out[f"{name}/out{k + 1}"] = y.double().contiguous() if y.is_floating_point() else y.contiguous()
    if not case["grad"]:
        return
    live = [(k, y) for k, y in enumerate(ys) if y.requires_grad]
    total = sum((y * direction(f"{name}/v{k + 1}", y)).sum() for k, y in live)
    grads = torch.autograd.grad(total, floats, create_graph=case["second"], allow_unused=True)
    m = 0
    for i, g in enumerate(grads):
        if g is None:
            continue
        out[f"{name}/grad{i + 1}"] = g.detach().contiguous()
        if case["second"] and g.requires_grad:
            m = m + (g * direction(f"{name}/w{i + 1}", g)).sum()
    if case["second"] and torch.is_tensor(m):
        for i, h in enumerate(torch.autograd.grad(m, floats, allow_unused=True)):
            if h is not None:
                out[f"{name}/second{i + 1}"] = h.contiguous()


def main():
    cases = json.load(open(sys.argv[1]))["cases"]
    table, out, missing = torch_functions(), {}, set()
    for case in cases:
        if case["op"] not in table:
            missing.add(case["op"])
            continue
        run(case, table[case["op"]], out)
    save_file({k: v.clone() for k, v in out.items()}, sys.argv[2])
    print(len(cases), "cases,", len(out), "tensors")
    if missing:
        sys.exit("no torch function for: " + ", ".join(sorted(missing)))


main()
