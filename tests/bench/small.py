"""The same small jobs in PyTorch, in microseconds; one line a job."""
import math
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(2)


def measure(name, n, f):
    best = math.inf
    f(max(1, n // 10))
    for _ in range(7):
        start = time.perf_counter()
        f(n)
        best = min(best, (time.perf_counter() - start) / n)
    print(f"{name} {best * 1e6:.4f}", flush=True)


a, b = torch.rand(4, 4, requires_grad=True), torch.rand(4, 4)


def add(n):
    for _ in range(n):
        a + b


measure("add 4x4 in a scope", 20000, add)
measure("add 4x4 outside", 20000, add)

w = torch.rand(4, 4, requires_grad=True)


def product(n):
    for _ in range(n):
        torch.autograd.grad((b @ w).relu().sum(), w)


measure("matmul relu sum grad", 2000, product)

model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 16), torch.nn.ReLU(),
                            torch.nn.Linear(16, 4))
opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
x, y = torch.rand(32, 8), torch.randint(0, 4, (32,))


def step(n):
    for _ in range(n):
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        opt.step()


measure("mlp step 8-16-4 b32", 1000, step)
