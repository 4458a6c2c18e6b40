import torch

TYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "i64": torch.int64,
         "i32": torch.int32, "u8": torch.uint8, "bool": torch.bool}

OPS = {
    "to": lambda ins, o: ins[0].to(TYPES[o["dtype"]]),
    "clone": lambda ins, o: ins[0].clone(),
    "reshape": lambda ins, o: ins[0].reshape(o["size"]),
    "expand": lambda ins, o: ins[0].expand(o["size"]),
    "sum_to": lambda ins, o: ins[0].sum_to_size(o["size"]),
}
