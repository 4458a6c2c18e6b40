import torch

TYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "i64": torch.int64,
         "i32": torch.int32, "u8": torch.uint8, "bool": torch.bool}


def zero(d):
    """A dimension or a list of them, which count from 1, as PyTorch counts."""
    if isinstance(d, list):
        return tuple(zero(i) for i in d)
    return d - 1 if d > 0 else d


def squeeze(ins, o):
    return ins[0].squeeze(zero(o["dim"])) if "dim" in o else ins[0].squeeze()


def cat(ins, o):
    widest = ins[0][0].dtype
    for x in ins[0]:
        widest = torch.promote_types(widest, x.dtype)
    return torch.cat([x.to(widest) for x in ins[0]], zero(o.get("dim", 1)))


OPS = {
    "to": lambda ins, o: ins[0].to(TYPES[o["dtype"]]),
    "clone": lambda ins, o: ins[0].clone(),
    "reshape": lambda ins, o: ins[0].reshape(o["size"] or []),
    "view": lambda ins, o: ins[0].view(o["size"]),
    "squeeze": squeeze,
    "unsqueeze": lambda ins, o: ins[0].unsqueeze(zero(o["dim"])),
    "flatten": lambda ins, o: ins[0].flatten(zero(o.get("start_dim", 1)), zero(o.get("end_dim", -1))),
    "unflatten": lambda ins, o: ins[0].unflatten(zero(o["dim"]), o["sizes"]),
    "expand": lambda ins, o: ins[0].expand(o["size"]),
    "sum_to": lambda ins, o: ins[0].sum_to_size(o["size"] or []),
    "permute": lambda ins, o: ins[0].permute(zero(o["dims"])),
    "transpose": lambda ins, o: ins[0].transpose(zero(o["dim0"]), zero(o["dim1"])),
    "flip": lambda ins, o: ins[0].flip(zero(o["dims"])),
    "cat": cat,
    "stack": lambda ins, o: torch.stack(ins[0], zero(o.get("dim", 1))),
}
