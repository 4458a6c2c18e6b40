"""The nets of the golden data, the comparisons and the bench, in PyTorch; names as ours."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

# The least |input| of any relu in f64 since it was last set: near 0 the two sides may part.
closest = [math.inf]


def relu(x):
    if x.dtype == torch.float64:
        closest[0] = min(closest[0], x.detach().abs().min().item())
    return F.relu(x)


class Relu(nn.Module):
    def forward(self, x):
        return relu(x)


class Block(nn.Module):
    def __init__(self, c, k, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c, k, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(k)
        self.conv2 = nn.Conv2d(k, k, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(k)
        if stride != 1 or c != k:
            self.downsample = nn.Sequential(nn.Conv2d(c, k, 1, stride, bias=False),
                                            nn.BatchNorm2d(k))

    def forward(self, x):
        y = relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet18(nn.Module):
    def __init__(self, w=4):
        super().__init__()
        self.conv1 = nn.Conv2d(3, w, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(w)
        c = w
        for i, k in enumerate([w, 2 * w, 4 * w, 8 * w]):
            setattr(self, f"layer{i + 1}",
                    nn.Sequential(Block(c, k, 1 if i == 0 else 2), Block(k, k, 1)))
            c = k
        self.fc = nn.Linear(8 * w, 10)

    def forward(self, x):
        x = relu(self.bn1(self.conv1(x)))
        for i in range(4):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)))


class VGG(nn.Module):
    def __init__(self, w=4):
        super().__init__()
        layers, c = [], 3
        for i in range(3):
            layers += [nn.Conv2d(c, w * 2**i, 3, padding=1), Relu(), nn.MaxPool2d(2)]
            c = w * 2**i
        self.convs = nn.Sequential(*layers)
        self.hidden = nn.Linear(c * 4, 32)
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        return self.fc(relu(self.hidden(self.convs(x).flatten(1))))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden1 = nn.Linear(48, 32)
        self.hidden2 = nn.Linear(32, 16)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = x.flatten(1)
        return self.fc(relu(self.hidden2(relu(self.hidden1(x)))))
