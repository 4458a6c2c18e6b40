-- A small training as a stage, for test_train.lua to kill and start again:
--   vestige tests/lua/child/train.lua FOLDER LOADERS THREADS [int|kill STEP | oom ALLOCATION]
-- int and kill strike in the middle of a step of this process. The net is small, and has all that a
-- checkpoint must carry: momentum, batch norm, dropout, augmentation, a stream of the method's own,
-- a schedule, tests between epochs.
local context = require 'vestige.context'
local data = require 'vestige.data'
local ffi = require 'ffi'
local fs = require 'vestige.fs'
local nn = require 'vestige.nn'
local study = require 'vestige.study'
local vestige = require 'vestige'
local C = require('vestige.ffi').C

local folder, loaders, threads, mode, value = arg[1], tonumber(arg[2]), tonumber(arg[3]), arg[4],
                                              tonumber(arg[5])
vestige.set_num_threads(threads)
if mode == 'oom' then require('vestige.handle').no_retry = true end

ffi.cdef 'int kill(int, int);'
local steps = 0
local function strike()
  steps = steps + 1
  if steps ~= value or mode == 'oom' then return end
  ffi.C.kill(ffi.C.getpid(), mode == 'kill' and 9 or 2)
end

local function images(n, seed)
  local pixels, labels, key = ffi.new('uint8_t[?]', n * 64), {}, vestige.generator(seed, 'images')
  local order = require('vestige.data.streams').permutation(n * 64, key)
  for i = 1, n do
    labels[i] = i % 3
    for k = 0, 63 do
      pixels[(i - 1) * 64 + k] = (order[(i - 1) * 64 + k + 1] % 160 + (k % 8) * labels[i] * 6) % 256
    end
  end
  return data.new{ x = vestige.from_data(pixels, { n, 8, 8, 1 }, 'u8'),
                   y = vestige.tensor(labels, { dtype = 'i64' }) }
end

local function make()
  return nn.Sequential(nn.Conv2d(1, 4, 3, { padding = 1, bias = false }), nn.BatchNorm2d(4),
                       nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2),
                       nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 3))
end

local stage = study.stage{ name = 'small', run = function(_, inputs, stage_ctx)
  local every = mode == 'int' and 1000 or 0 -- what is kept then is what Ctrl-C keeps
  local ctx = context.new{ seed = 4, make = make, every = every,
    recipe = { epochs = 8, batch_size = 16, augment = { crop = 1, flip = true },
               optim = { name = 'sgd', lr = 0.05, momentum = 0.9, weight_decay = 1e-3 },
               schedule = { name = 'one_cycle' } },
    loaders = loaders, quiet = true, log = stage_ctx.log, rewind = stage_ctx.rewind,
    checkpoint = stage_ctx.checkpoint }
  local model, rng = ctx:fresh(), ctx:rng 'unlearn'
  if mode == 'oom' then C.vestige_fail_allocation(value) end
  ctx:train(model, { data = inputs.train, budget = false, read = 3, eval = inputs.test,
    streams = { unlearn = rng }, on_gradients = function(grads)
      strike()
      for i, g in ipairs(grads) do
        grads[i] = g + vestige.randn(g:shape(), { generator = rng }) * 1e-3
      end
    end })
  -- A second training in the same stage, with another optimiser.
  local r = ctx:train(model, { data = inputs.train, budget = false, steps = 6,
                               optim = { name = 'adamw', lr = 1e-3 }, on_gradients = strike })
  -- And a loop of the method's own.
  local opt = require('vestige.optim').SGD(model, { lr = 0.01, momentum = 0.5 })
  for step in ctx:steps(5, { states = { model = model, optim = opt } }) do
    strike()
    local b = inputs.train:batches(8, { shuffle = true, epoch = step, loaders = 0 }):next()
    opt:step(vestige.grad(model(b.x):cross_entropy(b.y), opt:parameters()))
  end
  C.vestige_fail_allocation(0)
  model:save(stage_ctx.path 'model.safetensors')
  return { loss = r.loss, steps = ctx.spent.steps, flops = ctx.spent.flops }
end }

local record = study.new{ root = folder, quiet = true }:run(stage, {},
  { train = images(52, 1), test = images(20, 2) })
local rows = {}
for i, row in ipairs(record:metrics()) do
  row.time = nil
  rows[i] = require('vestige.json').encode(row)
end
local e = record.estimates
fs.write(folder .. '/metrics', table.concat(rows, '\n')
         .. ('\n%.17g %d %.17g\n'):format(e.loss, e.steps, e.flops))
fs.write(folder .. '/model', fs.read(record:path 'model.safetensors'))
