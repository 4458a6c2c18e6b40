-- Seconds of a train step of ResNet-18 (f32, batch 128): forward, backward, SGD with momentum.
-- vestige tests/bench/resnet.lua [WIDTH [STEPS]]
local fs = require 'vestige.fs'
local models = require 'vestige.models'
local optim = require 'vestige.optim'
local vestige = require 'vestige'

local width, steps = tonumber(arg[1]) or 64, tonumber(arg[2]) or 5
local model = models.resnet18{ width = width }
local opt = optim.SGD(model, { lr = 0.01, momentum = 0.9 })
local x, y = vestige.rand{ 128, 32, 32, 3 }, vestige.randint(0, 10, { 128 })

local function step()
  vestige.scope(function()
    local loss = model(x):cross_entropy(y)
    opt:step(vestige.grad(loss, opt:parameters()))
  end)
end

step()
local seconds = {}
for i = 1, steps do
  local start = fs.monotonic()
  step()
  seconds[i] = fs.monotonic() - start
end
table.sort(seconds)
print(('%.4f'):format(seconds[math.ceil(steps / 2)]))
