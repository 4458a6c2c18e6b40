-- Microseconds of small jobs: vestige tests/bench/small.lua; one line a job, as small.py prints.
local fs = require 'vestige.fs'
local optim = require 'vestige.optim'
local models = require 'vestige.models'
local vestige = require 'vestige'

-- The least of seven runs of f(n), in microseconds a round.
local function measure(name, n, f)
  local best = math.huge
  f(math.ceil(n / 10)) -- the loop is compiled, memory is there
  for _ = 1, 7 do
    local start = fs.monotonic()
    f(n)
    best = math.min(best, (fs.monotonic() - start) / n)
  end
  print(('%s %.4f'):format(name, best * 1e6))
end

local a, b = vestige.rand{ 4, 4 }:requires_grad_(), vestige.rand{ 4, 4 }
measure('add 4x4 in a scope', 100000, function(n)
  for _ = 1, n / 100 do
    vestige.scope(function()
      for _ = 1, 100 do local _ = a + b end
    end)
  end
end)
measure('add 4x4 outside', 100000, function(n)
  for _ = 1, n do local _ = a + b end
end)

local w = vestige.rand{ 4, 4 }:requires_grad_()
measure('matmul relu sum grad', 20000, function(n)
  for _ = 1, n do
    vestige.scope(function() return nil, vestige.grad(b:matmul(w):relu():sum(), w) and nil end)
  end
end)

local model = models.mlp{ inputs = 8, hidden = { 16 }, classes = 4 }
local opt = optim.SGD(model, { lr = 0.01, momentum = 0.9 })
local parameters = opt:parameters()
local x, y = vestige.rand{ 32, 8 }, vestige.randint(0, 4, { 32 })
measure('mlp step 8-16-4 b32', 5000, function(n)
  for _ = 1, n do
    vestige.scope(function()
      opt:step(vestige.grad(model(x):cross_entropy(y), parameters))
    end)
  end
end)
