-- A loop of steps that can be stopped anywhere and goes on to the same bits: what the trainer and
-- ctx:steps share. It opens a scope round each step, shows one live line, keeps Ctrl-C back until
-- the step is over, writes a checkpoint every so many seconds and at Ctrl-C, and reads it when the
-- same loop is started again.
--
-- A checkpoint is one safetensors file, replaced as a whole: the states of the model, the optimiser
-- and others under their prefixes (model.conv1.weight, optim.conv1.weight.momentum_buffer), in
-- PyTorch's layouts; in its metadata the step, the random streams, plain numbers, and what run it
-- belongs to.
local ffi = require 'ffi'
local C = require('vestige.ffi').C
local fail = require 'vestige.fail'
local fs = require 'vestige.fs'
local handle = require 'vestige.handle'
local json = require 'vestige.json'
local term = require 'vestige.term'
local vestige = require 'vestige'

local M = {}

local Loop = {}
Loop.__index = Loop

local in_program, host = pcall(require, 'vestige.host')
if not in_program then host = nil end

--- loop.pending(): whether Ctrl-C (or vestige_interrupt) waits for the end of the step.
function M.pending()
  return host ~= nil and host.pending() or C.vestige_interrupt_pending() ~= 0
end

-- Numbers as text, NaN and infinities too.
local function to_texts(numbers)
  local texts = {}
  for name, v in pairs(numbers) do
    texts[name] = v ~= v and 'nan' or ('%.17g'):format(v)
  end
  return texts
end

local function to_numbers(numbers, texts)
  for name, text in pairs(texts) do
    numbers[name] = text == 'nan' and 0 / 0 or tonumber(text)
  end
end

--- loop.new(t): a loop. for step in loop:iterate() do ... end, or loop:begin(), loop:next(),
-- loop:stop(). t:
-- total: steps in all; label; quiet (false).
-- states: prefix -> object with state_dict, load_state_dict and perhaps layouts.
-- streams: name -> generator, saved and restored; stream: a generator that operators draw from
-- while the loop runs (it is among them as 'current').
-- numbers: a table of plain numbers, saved and restored in place; first_flops, the floating-point
-- operations of the first step, is put there.
-- identity: a flat table that tells this loop from others; a checkpoint of another one raises.
-- checkpoint: path, nil for none; every (60): seconds; fresh (false): do not read it.
-- rewind(step): told where the loop begins, to drop what was logged after that step.
-- before_save(): called before each checkpoint.
function M.new(t)
  local self = { step = 0, total = t.total, label = t.label or 'steps', quiet = t.quiet,
                 states = t.states or {}, streams = t.streams or {}, stream = t.stream,
                 numbers = t.numbers or {}, identity = t.identity or {},
                 checkpoint = t.checkpoint, every = t.every or 60, fresh = t.fresh,
                 rewind = t.rewind, before_save = t.before_save, seconds = 0,
                 outer = ffi.new 'vestige_stream' }
  return setmetatable(self, Loop)
end

-- ---- Checkpoints ----

local function identity_text(identity)
  local names, parts = {}, {}
  for name in pairs(identity) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do parts[i] = ('%s %s'):format(name, tostring(identity[name])) end
  return table.concat(parts, ', ')
end

--- loop:save(done): writes the checkpoint. done: the loop is over.
function Loop:save(done)
  if self.before_save then self.before_save() end
  if self.stream then C.vestige_stream_get(self.stream.stream) end
  local tensors, layout, streams = {}, {}, {}
  vestige.scope(function()
    for prefix, object in pairs(self.states) do
      local layouts = object.layouts and object:layouts() or {}
      for name, tensor in pairs(object:state_dict()) do
        tensors[prefix .. '.' .. name] = tensor
        layout[prefix .. '.' .. name] = layouts[name]
      end
    end
    for name, stream in pairs(self.streams) do streams[name] = stream:state() end
    if self.stream then streams.current = self.stream:state() end
    vestige.save(self.checkpoint, tensors, { layout = layout, metadata = {
      loop = json.encode{ step = self.step, done = done or false, streams = streams,
                          numbers = to_texts(self.numbers),
                          seconds = self.seconds + fs.monotonic() - self.began,
                          identity = identity_text(self.identity) },
    } })
  end)
  self.saved = fs.monotonic()
end

-- The entries of a checkpoint under a prefix, without it.
local function under(tensors, prefix)
  local part = {}
  for name, tensor in pairs(tensors) do
    if name:sub(1, #prefix + 1) == prefix .. '.' then part[name:sub(#prefix + 2)] = tensor end
  end
  return part
end

local function restore(self)
  vestige.scope(function()
    local tensors, metadata = vestige.load(self.checkpoint)
    if not metadata.loop then fail('%s is no checkpoint', self.checkpoint) end
    local state = json.decode(metadata.loop, self.checkpoint)
    local here = identity_text(self.identity)
    if state.identity ~= here then
      fail('%s belongs to another run (%s), this is (%s); fresh=true starts over',
           self.checkpoint, state.identity, here)
    end
    for prefix, object in pairs(self.states) do object:load_state_dict(under(tensors, prefix)) end
    for name, stream in pairs(self.streams) do
      if state.streams[name] then stream:restore(state.streams[name]) end
    end
    if self.stream then self.stream:restore(state.streams.current) end
    to_numbers(self.numbers, state.numbers)
    self.step, self.done, self.seconds = state.step, state.done, state.seconds
  end)
end

-- ---- Operations of the first step, by the engine's profile ----

local profile_row = ffi.new 'vestige_profile_row'

local function flops_so_far()
  local total, i = 0, 0
  while C.vestige_profile_get(i, profile_row) == 0 do
    total, i = total + profile_row.flops, i + 1
  end
  return total
end

-- Begins to count; a profile that someone else runs goes on.
local function start_counting(self)
  local theirs = C.vestige_profile(-1) == 1
  if not theirs then C.vestige_profile(1) end
  self.counting = { theirs = theirs, before = flops_so_far() }
end

local function stop_counting(self)
  local c = self.counting
  if not c then return end
  self.counting = nil
  self.numbers.first_flops = flops_so_far() - c.before
  if not c.theirs then C.vestige_profile(0) end
end

-- ---- The loop ----

--- loop:begin(): reads the checkpoint when there is one. True when the loop is already over.
function Loop:begin()
  self.began = fs.monotonic()
  self.saved = self.began
  if self.checkpoint and not self.fresh and fs.exists(self.checkpoint) then
    restore(self)
    self.resumed = true
  end
  if self.done then return true end
  if self.rewind then self.rewind(self.step) end
  self.bar = term.bar{ label = self.label, total = self.total, start = self.step,
                       quiet = self.quiet }
  if self.stream then
    C.vestige_stream_get(self.outer)
    C.vestige_stream_set(self.stream.stream)
  end
  if host then host.hold() end
  self.running = true
  return false
end

-- Ends what begin and the last step opened. Safe to call at any time, any number of times.
local function leave(self)
  if not self.running then return end
  self.running = false
  stop_counting(self)
  if self.scope then pcall(handle.close_scope, self.scope) end
  self.scope = nil
  self.bar:clear()
  if self.stream then
    C.vestige_stream_get(self.stream.stream)
    C.vestige_stream_set(self.outer)
  end
  self.seconds = self.seconds + fs.monotonic() - self.began
  if host then host.release() end
end

--- loop:stop(): leaves the loop early, without a checkpoint: after an error, or a break.
function Loop:stop() leave(self) end

local function interrupt(self)
  C.vestige_clear_interrupt()
  if self.checkpoint then self:save() end
  self.bar:finish(('interrupted at step %d%s'):format(self.step, self.checkpoint
    and '; started again it goes on from there' or ''))
  leave(self) -- which raises by itself where Ctrl-C was held back
  error('interrupted', 0)
end

--- loop:boundary(): what happens between steps: a waiting Ctrl-C stops the loop, after a
-- checkpoint; a checkpoint whose time has come is written.
function Loop:boundary()
  if M.pending() then interrupt(self) end
  if self.checkpoint and fs.monotonic() - self.saved >= self.every then self:save() end
end

--- loop:close_step(): closes the scope of the step that ends.
function Loop:close_step()
  local scope = self.scope
  self.scope = nil
  stop_counting(self)
  if scope then handle.close_scope(scope) end
end

--- loop:next(): ends the step before and begins the next, whose number (from 1) it returns, or nil
-- after the last one.
function Loop:next()
  if not self.running then return nil end
  self:close_step()
  if self.step > 0 then self:boundary() end
  if self.step >= self.total then
    self:finish()
    return nil
  end
  self.scope = handle.open_scope()
  self.step = self.step + 1
  if not self.numbers.first_flops then start_counting(self) end
  return self.step
end

--- loop:show(fields): what the live line says.
function Loop:show(fields)
  self.bar:update(self.step, fields)
end

--- loop:finish(text): the end: the last checkpoint, marked as done, and the line that stays.
function Loop:finish(text)
  if not self.running then return end
  self:close_step()
  if self.checkpoint then self:save(true) end
  self.bar:finish(text)
  leave(self)
end

--- loop:iterate(): for step in loop:iterate() do ... end. A loop that is left by break or an error
-- is ended by loop:stop().
function Loop:iterate()
  if self:begin() then return function() end end
  return function()
    local step = self:next()
    if step and step > 1 then self:show() end
    return step
  end
end

return M
