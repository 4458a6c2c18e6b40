-- vestige.train: the one trainer, and evaluation.
--
-- train(model, {...}) runs optimiser steps over batches: a scope round each, one live line, losses
-- read every few steps, checkpoints, Ctrl-C at the step's end (loop.lua). What a step does depends
-- on (seed, step) and the checkpoint alone, so a run that was stopped anywhere and started again
-- ends on the same bits as one that was not, for any number of loader and compute threads.
local batches = require 'vestige.data.batches'
local data = require 'vestige.data'
local fail = require 'vestige.fail'
local loops = require 'vestige.loop'
local optim = require 'vestige.optim'
local options = require 'vestige.options'
local vestige = require 'vestige'

local M = {}

local defaults = {
  epochs = options.maybe 'number', steps = options.maybe 'number', batch_size = 128,
  augment = { crop = 0, flip = false, shift = 0 }, drop_last = false, loaders = 1, seed = 0,
  checkpoint = options.maybe 'string', every = 60, fresh = false, quiet = false, read = 10,
  label = 'train', eval_epochs = 1, clip_norm = options.maybe 'number',
  autocast = options.maybe 'any',
}
-- Values that are no plain options.
local objects = { 'data', 'parts', 'optim', 'schedule', 'loss', 'objective', 'mask', 'log',
                  'rewind', 'eval', 'on_gradients', 'on_step', 'states', 'streams', 'stream' }

-- Plain options checked; objects taken as they are.
local function read_options(o)
  local plain, taken, known = {}, {}, {}
  for k, v in pairs(o) do plain[k] = v end
  for _, name in ipairs(objects) do
    taken[name], plain[name] = o[name], nil
    known[name] = options.maybe 'any'
  end
  for name, v in pairs(defaults) do known[name] = v end
  local out = options.merge(known, plain, { where = 'train' })
  for name, v in pairs(taken) do out[name] = v end
  return out
end

-- ---- Parts: named data sets, each with its batches ----

local function open_parts(o)
  local parts = o.parts or { data = o.data }
  if data.is_dataset(parts) then parts = { data = parts } end
  if next(parts) == nil then fail('train: no data: give data= or parts={name = data set}') end
  local list = {}
  for name, part in pairs(parts) do
    if data.is_dataset(part) then part = { data = part } end
    if type(part) ~= 'table' or not data.is_dataset(part.data) then
      fail('train: part %s: expected a data set', tostring(name))
    end
    list[#list + 1] = { name = name, data = part.data, weight = part.weight or 1,
                        batch_size = part.batch_size or o.batch_size }
  end
  -- Epochs are those of `retain`, else of the first by name.
  table.sort(list, function(a, b)
    if (a.name == 'retain') ~= (b.name == 'retain') then return a.name == 'retain' end
    return a.name < b.name
  end)
  return list
end

local function close_parts(parts)
  for _, part in ipairs(parts) do
    if part.batches then part.batches:close() end
  end
end

local function start_parts(parts, o)
  for _, part in ipairs(parts) do
    part.batches = batches.new(part.data, part.batch_size, {
      shuffle = true, augment = o.augment, drop_last = o.drop_last, loaders = o.loaders,
      seed = o.seed })
    part.count = part.batches:count()
    if part.count == 0 then
      fail('train: part %s: %d rows give no whole batch of %d', part.name, part.data:size(),
           part.batch_size)
    end
  end
end

-- The batches of step (from 1), one a part. Each part's pass follows from the step alone.
local function draw(parts, step)
  local list, rows = {}, 0
  for _, part in ipairs(parts) do
    local epoch, place = math.floor((step - 1) / part.count), (step - 1) % part.count
    if part.epoch ~= epoch or part.place ~= place then part.batches:start(epoch, place) end
    local b = part.batches:next()
    part.epoch, part.place = epoch, place + 1
    list[part.name] = b
    rows = rows + b.n
  end
  return list, rows
end

-- ---- One step ----

local function loss_function(loss)
  if type(loss) == 'function' then return loss end
  local f = vestige[loss or 'cross_entropy']
  if not f then fail("train: no loss '%s'", tostring(loss)) end
  return function(logits, y) return f(logits, y) end
end

-- An objective whose products are in a type.
local function cast_objective(objective, autocast)
  return function(...) return vestige.autocast(autocast, objective, ...) end
end

-- The sum over parts of weight times loss; logits and labels of the first part, for the accuracy.
local function default_objective(parts, loss)
  return function(model, list)
    local total, first_logits, first_y
    for _, part in ipairs(parts) do
      local b = list[part.name]
      local logits = model(b.x, b.noise)
      local one = loss(logits, b.y, b)
      if part.weight ~= 1 then one = one * part.weight end
      total = total and total + one or one
      first_logits, first_y = first_logits or logits, first_y or b.y
    end
    return total, first_logits, first_y
  end
end

local function correct_of(logits, y)
  if not logits or not y or y:dtype() ~= 'i64' or y:dim() ~= 1 or logits:dim() ~= 2 then
    return nil
  end
  local _, best = logits:detach():max_dim(2)
  return best:eq(y):sum(), y:size(1)
end

-- ---- The trainer ----

local Trainer = {}
Trainer.__index = Trainer

-- Losses of steps not read yet go into the sums of the window.
function Trainer:read()
  local n = self.numbers
  for _, u in ipairs(self.unread) do
    n.window_loss = n.window_loss + u.loss:item()
    n.window_steps = n.window_steps + 1
    u.loss:release()
    if u.correct then
      n.window_correct = n.window_correct + u.correct:item()
      n.window_rows = n.window_rows + u.rows
      u.correct:release()
    end
  end
  self.unread = {}
end

local function fields_of(n)
  return { loss = n.window_steps > 0 and n.window_loss / n.window_steps or nil,
           accuracy = n.window_rows > 0 and n.window_correct / n.window_rows or nil }
end

-- Ends a window of o.read steps: its means are shown and logged.
function Trainer:report(step)
  self:read()
  local n, o = self.numbers, self.o
  local fields = fields_of(n)
  if o.log then
    o.log{ step = step, epoch = step / self.epoch_steps, loss = fields.loss,
           accuracy = fields.accuracy, lr = self.opt:lr() }
  end
  n.loss, n.accuracy = fields.loss, fields.accuracy
  n.window_loss, n.window_steps, n.window_correct, n.window_rows = 0, 0, 0, 0
  self.shown = fields
  for name, v in pairs(self.tested or {}) do self.shown[name] = v end
end

function Trainer:one_step(step)
  local o, n = self.o, self.numbers
  local lr, momentum = self.schedule(step - 1)
  self.opt:set_lr(lr)
  if momentum then self.opt:set_momentum(momentum) end
  local list, rows = draw(self.parts, step)
  local loss, logits, y = self.objective(self.model, list, step)
  local grads = vestige.grad(loss, self.opt:parameters(), { allow_unused = true })
  if o.clip_norm then optim.clip_grad_norm_(grads, o.clip_norm) end
  if o.on_gradients then grads = o.on_gradients(grads, step) or grads end
  self.opt:step(grads)
  if o.on_step then o.on_step(step) end
  local correct, of = correct_of(logits, y)
  self.unread[#self.unread + 1] = { loss = loss:detach():keep(), rows = of,
                                    correct = correct and correct:keep() }
  n.rows = n.rows + rows
  n.first_rows = n.first_rows or rows
  if step % o.read == 0 or step == self.loop.total then self:report(step) end
end

-- Tests the model where an epoch ends. A waiting Ctrl-C leaves it for the next start.
function Trainer:test(step)
  local o, n = self.o, self.numbers
  local every = o.eval_epochs * self.epoch_steps
  local due = o.eval and step > 0 and (step % every == 0 or step == self.loop.total)
  if not due or n.tested == step then return end
  local result
  if data.is_dataset(o.eval) then
    result = M.evaluate(self.model, o.eval, { batch_size = o.batch_size, poll = loops.pending })
    if not result then return end
    result = { test_accuracy = result.accuracy, test_loss = result.loss }
  else
    result = o.eval(self.model, step) or {}
  end
  n.tested, self.tested = step, result
  local row = { step = step, epoch = step / self.epoch_steps }
  for name, v in pairs(result) do
    row[name] = v
    n['test.' .. name] = v
  end
  if o.log then o.log(row) end
  for name, v in pairs(result) do self.shown[name] = v end
end

local function make_optimizer(model, o)
  local opt = o.optim or { name = 'sgd' }
  if type(opt) == 'function' then opt = opt(model) end
  if type(opt) == 'table' and not opt.step then opt = optim.make(model, opt) end
  if o.mask then opt:set_masks(o.mask) end
  return opt
end

local function result_of(self)
  local n = self.numbers
  local per_row = n.rows > 0 and n.first_flops / n.first_rows or 0
  local out = { steps = self.loop.step, flops = per_row * n.rows, rows = n.rows,
                loss = n.loss, accuracy = n.accuracy, seconds = self.loop.seconds,
                resumed = self.loop.resumed or false, optim = self.opt }
  for name, v in pairs(n) do
    local tested = name:match '^test%.(.*)$'
    if tested then out[tested] = v end
  end
  return out
end

local function check(o)
  if not o.epochs and not o.steps then fail('train: how long: give epochs or steps') end
  if o.autocast and o.autocast ~= 'bf16' then
    fail("train: autocast: expected 'bf16' or false, got %s", tostring(o.autocast))
  end
  for _, name in ipairs { 'epochs', 'steps', 'read', 'eval_epochs' } do
    if o[name] and not (o[name] >= 0 and o[name] < math.huge) then
      fail('train: %s: expected at least 0, got %s', name, tostring(o[name]))
    end
  end
end

local function run(self, loop)
  if loop:begin() then return end
  self:test(loop.step) -- an interrupted test is made up for
  self.model:train()
  local step = loop:next()
  while step do
    self:one_step(step)
    loop:show(self.shown)
    loop:close_step()
    self:test(step)
    step = loop:next()
  end
end

--- train(model, options): trains the model in place. Returns {steps, flops, rows, seconds, loss,
-- accuracy, resumed, optim} and what eval gave; loss and accuracy are means over the last steps.
-- data: a data set; or parts: name -> data set or {data=, weight=1, batch_size=}: each step draws a
-- batch of each part, and the loss is the sum of weight times its loss; epochs are those of
-- `retain`, else of the first name.
-- epochs or steps: how long (steps goes before); batch_size (128); augment {crop=, flip=, shift=};
-- drop_last (false); loaders (1): threads that make batches; seed (0): of order, augmentation and
-- dropout.
-- optim: a table {name='sgd', lr=, ...}, an optimiser, or a function of the model; schedule: a
-- table for optim.schedule.make, or a function of the step; mask: see optim.SGD; clip_norm: see
-- optim.clip_grad_norm_.
-- loss: a function(logits, y, batch) or an operator's name (cross_entropy); objective:
-- function(model, batches by part, step) returning loss, logits and labels, instead of both;
-- autocast (false): 'bf16' runs model and loss under vestige.autocast: products in bf16, while
-- weights, their gradients and the optimiser stay as they are, in f32;
-- on_gradients: function(gradients, step), which may change or replace them; on_step:
-- function(step), after the optimiser's.
-- checkpoint: a path: written every `every` (60) seconds, at Ctrl-C and at the end, and read when
-- it is there unless fresh; streams: name -> generator, and states: name -> object with state_dict
-- and load_state_dict, saved with it; rewind(step).
-- read (10): steps between readings of the loss; log(row); quiet; label; eval: a data set or a
-- function(model, step) that returns a table of numbers, every eval_epochs (1) epochs.
-- Errors: unknown options with the nearest name; a checkpoint of another run.
-- Example:
-- > local y = vestige.tensor({ 0, 1, 0, 1, 0, 1, 0, 1 }, { dtype = 'i64' })
-- > local data = vestige.data.new{ x = vestige.randn{ 8, 3 }, y = y }
-- > local model = vestige.models.logistic_regression{ inputs = 3, classes = 2 }
-- > local r = vestige.train(model, { data = data, steps = 4, batch_size = 4, quiet = true })
-- > assert(r.steps == 4)
function M.train(model, given)
  local o = read_options(given or {})
  check(o)
  local parts = open_parts(o)
  local self = setmetatable({ model = model, o = o, parts = parts, unread = {}, shown = {},
    opt = make_optimizer(model, o),
    numbers = { window_loss = 0, window_steps = 0, window_correct = 0, window_rows = 0, rows = 0,
                tested = -1 } }, Trainer)
  local ok, err = pcall(function()
    start_parts(parts, o)
    self.epoch_steps = parts[1].count
    local total = o.steps or math.ceil(o.epochs * self.epoch_steps)
    self.schedule = type(o.schedule) == 'function' and o.schedule
                    or optim.schedule.make(o.schedule, self.opt:lr(), total, self.epoch_steps)
    self.objective = o.objective or default_objective(parts, loss_function(o.loss))
    if o.autocast then self.objective = cast_objective(self.objective, o.autocast) end
    local rows = 0
    for _, part in ipairs(parts) do rows = rows + part.data:size() end
    local states = { model = model, optim = self.opt }
    for name, state in pairs(o.states or {}) do states[name] = state end
    self.loop = loops.new{ total = total, label = o.label, quiet = o.quiet,
      states = states, streams = o.streams,
      stream = o.stream or vestige.generator(o.seed, 'dropout'), numbers = self.numbers,
      identity = { steps = total, batch_size = o.batch_size, seed = o.seed, rows = rows,
                   autocast = o.autocast or nil },
      checkpoint = o.checkpoint, every = o.every, fresh = o.fresh, rewind = o.rewind,
      before_save = function() self:read() end }
    run(self, self.loop)
  end)
  close_parts(parts)
  if not ok then
    for _, u in ipairs(self.unread) do
      u.loss:release()
      if u.correct then u.correct:release() end
    end
    if self.loop then self.loop:stop() end
    error(err, 0)
  end
  return result_of(self)
end

-- ---- Evaluation ----

local eval_defaults = { batch_size = 256, loaders = 1, noise = false }

-- Calls f(b, logits) for each batch of ds in eval mode, without recording. False when poll said so.
local function over_batches(model, ds, o, f)
  local poll = o and o.poll
  local plain = {}
  for k, v in pairs(o or {}) do
    if k ~= 'poll' and k ~= 'loss' then plain[k] = v end
  end
  plain = options.merge(eval_defaults, plain, { where = 'evaluate' })
  local was_training, whole = model.training, true
  local it = ds:batches(plain.batch_size, { loaders = plain.loaders })
  model:eval()
  local ok, err = pcall(vestige.no_grad, function()
    local more = true
    while more do
      vestige.scope(function()
        local b = it()
        more = b ~= nil
        if b then f(b, model(b.x, plain.noise and b.noise or nil)) end
      end)
      if more and poll and poll() then more, whole = false, false end
    end
  end)
  it:close()
  model:train(was_training)
  if not ok then error(err, 0) end
  return whole
end

--- train.evaluate(model, ds, options): {accuracy, loss (mean cross entropy), n, correct} of a model
-- on a data set, in eval mode.
-- options: batch_size (256), loaders (1), noise (false): with the planted noise; loss: another
-- function(logits, y) that gives a mean; poll: a function; the evaluation ends with nil when it
-- returns true.
function M.evaluate(model, ds, o)
  local loss_of = o and o.loss or vestige.cross_entropy
  local correct, loss, rows, labelled = 0, 0, 0, 0
  local whole = over_batches(model, ds, o, function(b, logits)
    loss, rows = loss + loss_of(logits, b.y):item() * b.n, rows + b.n
    local right, of = correct_of(logits, b.y)
    if right then correct, labelled = correct + right:item(), labelled + of end
  end)
  if not whole then return nil end
  return { accuracy = labelled > 0 and correct / labelled or nil, loss = loss / rows, n = rows,
           correct = correct }
end

--- train.predict(model, ds, options): the logits (N, classes) of a model on a data set, in the
-- order of its rows, in eval mode. options: as train.evaluate.
function M.predict(model, ds, o)
  return vestige.scope(function()
    local list = {}
    over_batches(model, ds, o, function(_, logits) list[#list + 1] = logits:keep() end)
    local all = vestige.cat(list, 1)
    for _, t in ipairs(list) do t:release() end
    return all
  end)
end

return setmetatable(M, { __call = function(_, ...) return M.train(...) end })
