-- Runs cases of the bench: vestige tests/bench/ours.lua, asked by bench.py. Each line of standard
-- input is a JSON object {do=, case=, precision=, repeats=}, each line of output the answer:
--   check  builds the case and runs it once: checksum (of each result), flops (as the operators
--          count them), bytes (peak beyond parameters, gradients, optimiser state and data)
--   time   seconds (a list, one a repeat)
--   drop   frees the case
-- What cannot run answers {skip=why}, what fails {error=message}.
local here = arg[0]:match '^(.*)/' or '.'
local ffi = require 'ffi'
local bit = require 'bit'
local cases = dofile(here .. '/cases.lua')
local data = require 'vestige.data'
local fs = require 'vestige.fs'
local json = require 'vestige.json'
local models = require 'vestige.models'
local optim = require 'vestige.optim'
local vestige = require 'vestige'

-- ---- Numbers that both sides make: a hash of the element's place, in [-1,1) ----
local function seed_of(name)
  local h = 0x811C9DC5
  for i = 1, #name do
    h = bit.bxor(h, name:byte(i))
    h = bit.tobit(h * 403 + bit.lshift(h, 24)) -- times 0x01000193, modulo 2^32
  end
  return h
end

-- a * b modulo 2^32 without leaving the integers that a double holds.
local function multiply(a, b)
  local low, high = bit.band(a, 0xFFFF), bit.rshift(a, 16)
  return bit.tobit(low * b + high * b % 65536 * 65536)
end

local function hash(h)
  h = multiply(bit.bxor(h, bit.rshift(h, 15)), 0x85EBCA77)
  return bit.rshift(bit.bxor(h, bit.rshift(h, 13)), 8) * 2 ^ -23 - 1
end

local STEP = bit.tobit(0x9E3779B1)

local function numel(shape)
  local n = 1
  for _, d in ipairs(shape) do n = n * d end
  return n
end

-- A tensor named so: hash * scale, or labels from 0 to classes - 1.
local function noise(name, shape, scale)
  local n, h = numel(shape), seed_of(name)
  local p = ffi.new('float[?]', n)
  scale = scale or 1
  for i = 0, n - 1 do
    p[i] = hash(h) * scale
    h = bit.tobit(h + STEP)
  end
  return vestige.from_data(p, shape)
end

local function labels(name, shape, classes, dtype)
  local n, h = numel(shape), seed_of(name)
  local p = ffi.new(dtype == 'u8' and 'uint8_t[?]' or 'int64_t[?]', n)
  for i = 0, n - 1 do
    p[i] = math.floor((hash(h) + 1) / 2 * classes)
    h = bit.tobit(h + STEP)
  end
  return vestige.from_data(p, shape, dtype or 'i64')
end

-- Sixteen sums of the elements times signs and sizes of a hash: the relative difference of two
-- checksums is close to that of the tensors.
local function checksum(t)
  local p, n = t:to('f32'):data()
  local sums, h = {}, seed_of 'checksum'
  for i = 1, 16 do sums[i] = 0 end
  for i = 0, n - 1 do
    local slot = i % 16 + 1
    sums[slot] = sums[slot] + p[i] * hash(h)
    h = bit.tobit(h + STEP)
  end
  return sums
end

-- ---- The kinds. Each returns {once = function that returns the list of results} and, as needed,
-- round, which does the same and returns nothing; loop(n), which runs n rounds its own way; made,
-- the bytes of gradients that a step makes ----
local kinds = {}

local function cast(c, x) return c.precision == 'bf16' and x:to('bf16') or x end

function kinds.matmul(c)
  local a = cast(c, noise('a', c.ta and { c.k, c.m } or { c.m, c.k }))
  local b = cast(c, noise('b', c.tb and { c.n, c.k } or { c.k, c.n }))
  return { once = function() return { vestige.matmul(a, b, { ta = c.ta, tb = c.tb }) } end }
end

function kinds.conv(c)
  local size, pad = c.size / c.stride, (c.kernel - 1) / 2
  local image, kernel = { c.size, c.size }, { c.kernel, c.kernel }
  local x = cast(c, noise('x', { c.batch, c.size, c.size, c.channels }))
  local w = cast(c, noise('w', { c.out, c.kernel, c.kernel, c.channels }))
  local g = cast(c, noise('g', { c.batch, size, size, c.out }))
  local o = { stride = c.stride, padding = pad }
  if c.what == 'forward' then
    return { once = function() return { vestige.conv2d(x, w, o) } end }
  elseif c.what == 'input' then
    o.size = image
    return { once = function() return { vestige.conv2d_input(g, w, o) } end }
  end
  o.size = kernel
  return { once = function() return { vestige.conv2d_weight(x, g, o) } end }
end

-- f(inputs) alone, or its gradients for all of them, with a graph that is kept.
local function two_passes(c, f, inputs, g)
  if c.what == 'forward' then
    return { once = function() return { f(unpack(inputs)) } end }
  end
  for _, t in ipairs(inputs) do t:requires_grad_() end
  local y = f(unpack(inputs))
  return { once = function()
    return vestige.grad(y, inputs, { grad_outputs = g, retain_graph = true })
  end }
end

function kinds.batch_norm(c)
  local k = c.shape[4]
  local mean, var = vestige.zeros{ k }, vestige.ones{ k }
  return two_passes(c, function(x, w, b)
    return (vestige.batch_norm(x, w, b, mean, var, { training = true }))
  end, { cast(c, noise('x', c.shape)), noise('w', { k }), noise('b', { k }) },
  cast(c, noise('g', c.shape)))
end

function kinds.layer_norm(c)
  return two_passes(c, function(x, w, b)
    return (vestige.layer_norm(x, { c.width }, w, b))
  end, { cast(c, noise('x', { c.rows, c.width })), noise('w', { c.width }),
         noise('b', { c.width }) }, cast(c, noise('g', { c.rows, c.width })))
end

function kinds.cross_entropy(c)
  local y = labels('y', { c.rows }, c.classes)
  return two_passes(c, function(x) return (vestige.cross_entropy(x, y)) end,
                    { cast(c, noise('x', { c.rows, c.classes }, 4)) })
end

function kinds.attention(c)
  local shape = { c.batch, c.heads, c.time, c.size }
  local function input(name) return cast(c, noise(name, shape)) end
  return two_passes(c, function(q, k, v)
    return (vestige.scaled_dot_product_attention(q, k, v, { is_causal = true }))
  end, { input 'q', input 'k', input 'v' }, input 'g')
end

function kinds.relu(c)
  local x = cast(c, noise('x', c.shape))
  return { once = function() return { vestige.relu(x) } end }
end

function kinds.add(c)
  local a, b = cast(c, noise('a', c.shape)), cast(c, noise('b', c.shape))
  return { once = function() return { a + b } end }
end

function kinds.optimiser(c)
  local params, grads = {}, {}
  for i = 1, c.sizes do
    params[i] = noise('p' .. i, { c.numel }):requires_grad_()
    grads[i] = noise('g' .. i, { c.numel })
  end
  local opt = optim[c.name_of](params, { lr = 1e-3, momentum = c.name_of == 'SGD' and 0.9 or nil })
  return { once = function()
    opt:step(grads)
    return { params[1], params[c.sizes] }
  end }
end

function kinds.loader(c)
  local ds = data.new{ x = labels('x', { c.images, 32, 32, 3 }, 256, 'u8'),
                       y = labels('y', { c.images }, 10) }
  return { once = function()
    local last
    for b in ds:batches(c.batch, { drop_last = true }) do last = b.x end
    return { last }
  end }
end

-- Parameters by their names: matrices and kernels uniform, scales 1, shifts small.
local function fill(model, scale)
  for name, p in model:named_parameters() do
    name = name:gsub('^transformer%.', '')
    local shape = p:shape()
    local t
    if #shape > 1 then
      t = noise(name, shape, scale or math.sqrt(6 / (numel(shape) / shape[1])))
    elseif name:find 'weight$' then
      t = vestige.ones(shape)
    else
      t = noise(name, shape, 0.02)
    end
    vestige.no_grad(p.copy_, p, t)
  end
end

local function parameter_bytes(list)
  local n = 0
  for _, p in ipairs(list) do n = n + 4 * p:numel() end
  return n
end

-- fn with products in bf16 where the case asks for it.
local function in_precision(c, fn)
  if c.precision ~= 'bf16' then return fn end
  return function() return vestige.autocast('bf16', fn) end
end

local function train_step(loss_of, opt)
  local list = opt:parameters()
  local function round()
    local loss = loss_of()
    local grads = vestige.grad(loss, list)
    opt:step(grads)
    return loss, grads
  end
  return { made = parameter_bytes(list), round = function() round() end, once = function()
    local loss, grads = round()
    return { loss, unpack(grads) }
  end }
end

local function gradient_of_input(loss_of, x)
  return { once = function()
    local loss = loss_of()
    return { loss, vestige.grad(loss, x) }
  end }
end

-- 1 - cos(g, v) over lists
local function distance(g, v)
  local gv, gg, vv = 0, 0, 0
  for i = 1, #g do
    gv = gv + (g[i] * v[i]):sum()
    gg = gg + (g[i] * g[i]):sum()
    vv = vv + (v[i] * v[i]):sum()
  end
  return 1 - gv / (gg:sqrt() * vv:sqrt())
end

function kinds.resnet18(c)
  local model = models.resnet18{ width = c.width }
  fill(model)
  local x, y = noise('x', { c.batch, 32, 32, 3 }), labels('y', { c.batch }, 10)
  local loss_of = in_precision(c, function() return (model(x):cross_entropy(y)) end)
  if c.what == 'forward' then
    model:eval()
    local forward = in_precision(c, function() return model(x) end)
    return { once = function() return { vestige.no_grad(forward) } end }
  elseif c.what == 'step' then
    return train_step(loss_of, optim.SGD(model, { lr = 0.01, momentum = 0.9 }))
  end
  model:eval()
  x:requires_grad_()
  if c.what == 'input' then
    model:requires_grad_(false)
    return gradient_of_input(loss_of, x)
  end
  local list, target = model:parameters(), {}
  for name, p in model:named_parameters() do
    target[#target + 1] = noise('target ' .. name, p:shape())
  end
  return { once = function()
    local loss = loss_of()
    local g = vestige.grad(loss, list, { create_graph = true })
    return { loss, vestige.grad(distance(g, target), x) }
  end }
end

function kinds.gpt2(c)
  local model = models.gpt2{ size = c.size, dropout = 0 }
  fill(model, 0.035)
  local ids = labels('ids', { c.batch, c.time }, c.vocabulary)
  local next_ids = labels('next', { c.batch, c.time }, c.vocabulary)
  local function loss(logits)
    return (logits:reshape(-1, c.vocabulary):cross_entropy(next_ids:reshape(-1)))
  end
  if c.what == 'step' then
    return train_step(in_precision(c, function() return loss(model(ids)) end),
                      optim.AdamW(model, { lr = 1e-4 }))
  end
  -- The gradient for the embedded tokens.
  model:eval():requires_grad_(false)
  local x = model:embed(ids):detach():requires_grad_()
  local loss_of = in_precision(c, function() return loss(model:from_embedding(x)) end)
  return gradient_of_input(loss_of, x)
end

function kinds.small_add(c)
  local a, b = noise('a', { 4, 4 }), noise('b', { 4, 4 })
  if c.tape then a:requires_grad_() end
  local function hundred()
    for _ = 1, 100 do local _ = a + b end
  end
  return {
    once = function() return { a + b } end,
    loop = c.scope and function(n)
      for _ = 1, n / 100 do vestige.scope(hundred) end
    end or function(n)
      for _ = 1, n do local _ = a + b end
    end,
  }
end

function kinds.small_grad()
  local a, w = noise('a', { 4, 4 }), noise('w', { 4, 4 }):requires_grad_()
  return {
    once = function() return { vestige.grad(a:matmul(w):relu():sum(), w) } end,
    loop = function(n)
      local function one() vestige.grad(a:matmul(w):relu():sum(), w) end
      for _ = 1, n do vestige.scope(one) end
    end,
  }
end

function kinds.small_mlp()
  local model = models.mlp{ inputs = 8, hidden = { 16 }, classes = 4 }
  fill(model)
  local opt = optim.SGD(model, { lr = 0.01, momentum = 0.9 })
  local x, y = noise('x', { 32, 8 }), labels('y', { 32 }, 4)
  return train_step(function() return (model(x):cross_entropy(y)) end, opt)
end

-- ---- The case that is built ----
local current

local function find(name)
  for _, c in ipairs(cases) do
    if c.name == name then return c end
  end
  error(('no case %q'):format(name))
end

-- vestige.a.b.c by its dotted name, nil when it is not there.
local function named(path)
  local t = vestige
  for word in path:gmatch '[^.]+' do
    if type(t) ~= 'table' then return nil end
    t = t[word]
  end
  return t
end

-- Whether an operator's bf16 kernel is a fast one.
local function fast_bf16(op)
  for _, k in ipairs(vestige.kernels()) do
    if k.name == op and k.device == 'cpu' and k.dtype == 'bf16' then return k.level ~= 'ref' end
  end
  return false
end

local function why_not(c)
  for _, need in ipairs(c.needs or {}) do
    if named(need) == nil then return ('there is no vestige.%s'):format(need) end
  end
  if c.precision ~= 'bf16' then return nil end
  if c.autocast and not named 'autocast' then return 'there is no vestige.autocast' end
  if c.op and not fast_bf16(c.op) then return ('%s has no fast kernel in bf16'):format(c.op) end
end

local function drop()
  current = nil
  collectgarbage()
  vestige.collect()
  vestige.empty_cache()
end

local function default_loop(made)
  local round = made.round or function() made.once() end -- what it makes goes with the scope
  return function(n)
    for _ = 1, n do vestige.scope(round) end
  end
end

local function seconds_of(loop, n)
  local start = fs.monotonic()
  loop(n)
  return fs.monotonic() - start
end

-- How many rounds take at least 50 ms.
local function rounds_of(loop)
  local n = 1
  while true do
    local t = seconds_of(loop, n)
    if t >= 0.05 then return n end
    n = math.ceil(n * math.min(math.max(0.06 / t, 2), 100))
  end
end

-- The case ready to run, and the answer of `check`.
local function build(c)
  local made = kinds[c.kind](c)
  made.loop = made.loop or default_loop(made)
  local sums, flops = {}, 0
  vestige.scope(function()
    local results
    for _, row in ipairs(vestige.profile(function() results = made.once() end,
                                         { print = false })) do
      flops = flops + row.flops
    end
    for i, t in ipairs(results) do sums[i] = checksum(t) end
  end)
  collectgarbage()
  vestige.collect()
  vestige.reset_peak()
  local before = vestige.memory().live
  made.loop(1)
  local bytes = vestige.memory().peak - before - (made.made or 0)
  return made, { checksum = sums, flops = flops, bytes = c.memory == false and json.null or bytes }
end

local actions = {}

function actions.check(ask)
  drop()
  local c = setmetatable({ precision = ask.precision }, { __index = find(ask.case) })
  local why = why_not(c)
  if why then return { skip = why } end
  local made, answer = build(c)
  current = made
  return answer
end

function actions.time(ask)
  current.rounds = current.rounds or rounds_of(current.loop)
  local list = {}
  for i = 1, ask.repeats do list[i] = seconds_of(current.loop, current.rounds) / current.rounds end
  return { seconds = list }
end

function actions.drop()
  drop()
  return {}
end

for line in io.lines() do
  local ask = json.decode(line)
  local ok, answer = pcall(actions[ask['do']], ask)
  io.write(json.encode(ok and answer or { error = tostring(answer) }), '\n')
  io.flush()
end
