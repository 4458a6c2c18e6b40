"""The same step in PyTorch: resnet.py WIDTH STEPS contiguous|channels_last"""
import pathlib
import statistics
import sys
import time

import torch
import torch.nn.functional as F

width, steps, layout = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(2)
golden = pathlib.Path(__file__).parent.parent / "golden"
sys.path.insert(0, str(golden))
source = (golden / "make_models.py").read_text().replace("\nmain()\n", "\n")
scope = {}
exec(compile(source, "make_models.py", "exec"), scope)  # its ResNet18, without its main
model = scope["ResNet18"](width)
x, y = torch.rand(128, 3, 32, 32), torch.randint(0, 10, (128,))
if layout == "channels_last":
    model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
seconds = []
for i in range(steps + 1):
    start = time.perf_counter()
    opt.zero_grad()
    F.cross_entropy(model(x), y).backward()
    opt.step()
    seconds.append(time.perf_counter() - start)
print(f"{statistics.median(seconds[1:]):.4f}")
