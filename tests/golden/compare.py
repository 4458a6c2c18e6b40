"""Full-width ResNet-18 in PyTorch, for compare.lua: compare.py WIDTH BATCH SEED FILE

Writes its parameters, a batch, loss and gradients in f64, and PyTorch's own f32 loss and gradients.
"""
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from nets import ResNet18

width, size, seed = (int(word) for word in sys.argv[1:4])
torch.set_num_threads(2)
torch.manual_seed(seed)
model = ResNet18(width)
x, y = torch.rand(size, 3, 32, 32), torch.randint(0, 10, (size,))
out = {"x": x.clone(), "y": y}
out |= {f"param/{n}": p.detach().clone() for n, p in model.named_parameters()}
for dtype, kind in ((torch.float32, "f32"), (torch.float64, "f64")):
    model.to(dtype).zero_grad()
    loss = F.cross_entropy(model(x.to(dtype)), y)
    loss.backward()
    out[f"{kind}/loss"] = loss.detach().double().reshape(1)
    out |= {f"{kind}/grad/{n}": p.grad.double().clone() for n, p in model.named_parameters()}
save_file(out, sys.argv[4])
