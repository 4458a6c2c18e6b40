--- Gradients: walks from outputs to inputs, and rules that live in Lua.
local ffi = require 'ffi'
local base = require 'vestige.ffi'
local handle = require 'vestige.handle'
local C, H, raise, check = base.C, base.H, base.raise, base.check
local finish = handle.finish

local M = {}

local NEEDS_LUA = 3
local CREATE, RETAIN, UNUSED, ACCUMULATE = 1, 2, 4, 8

-- Rules and hooks that live here, by the engine's number for them.
local rules, hooks = {}, {}

local function drain()
  local id = C.vestige_custom_dead()
  while id >= 0 do
    rules[tonumber(id)], hooks[tonumber(id)] = nil, nil
    id = C.vestige_custom_dead()
  end
end
handle.at_scope_end(drain)

local function with_mode(on, f, ...)
  local was = C.vestige_grad_mode(on and 1 or 0)
  local function back(ok, ...)
    C.vestige_grad_mode(was)
    if not ok then error((...), 0) end
    return ...
  end
  return back(pcall(f, ...))
end

--- Runs fn(...) without recording.
-- @example
-- > local x = vestige.ones({2}, {requires_grad=true})
-- > assert(not vestige.no_grad(function() return x * 2 end):requires_grad())
function M.no_grad(fn, ...) return with_mode(false, fn, ...) end

--- Runs fn(...) with recording, also inside no_grad or a Lua rule.
function M.enable_grad(fn, ...) return with_mode(true, fn, ...) end

--- true while operators are recorded.
function M.is_grad_enabled() return C.vestige_grad_enabled() == 1 end

local function pointers(list, what, holes)
  local n = #list
  local p = ffi.new('const vestige_tensor *[?]', math.max(n, 1))
  for i = 1, n do
    if handle.is_tensor(list[i]) then
      p[i - 1] = list[i]
    elseif not holes or list[i] then
      raise(('%s %d: expected a tensor, got %s'):format(what, i, type(list[i])))
    end
  end
  return p, n
end

local function as_list(x)
  if x == nil then return nil end
  return handle.is_tensor(x) and { x } or x
end

-- Answers the rule or hook before which a walk stopped.
local function answer(walk, create)
  local stop = ffi.new 'vestige_walk_stop'
  C.vestige_walk_lua(walk, stop)
  local id = tonumber(stop.id)
  local given = {}
  for i = 1, stop.nout do
    local g = H()
    local s = check(C.vestige_walk_gradient(walk, i - 1, g))
    given[i] = g._p ~= nil and finish(s, g) or false
  end
  if stop.kind == 2 then
    local back = with_mode(create, hooks[id], given[1])
    if back ~= nil then
      if not handle.is_tensor(back) then
        raise('gradient hook: expected a tensor or nil, got ' .. type(back))
      end
      check(C.vestige_walk_answer(walk, 1, (pointers({ back }, 'gradient hook'))))
    else
      check(C.vestige_walk_answer(walk, 0, nil))
    end
    return
  end
  local saved = {}
  for i = 1, stop.nsaved do
    local t = H()
    saved[i] = finish(check(C.vestige_walk_saved(walk, i - 1, t)), t)
  end
  local needs = {}
  for i = 1, stop.nin do needs[i] = C.vestige_walk_needs(walk, i - 1) ~= 0 end
  local back = with_mode(create, rules[id], given, saved, needs, id, create)
  local p = ffi.new('const vestige_tensor *[?]', math.max(stop.nin, 1))
  for i = 1, stop.nin do
    local g = back[i]
    if g then
      if not handle.is_tensor(g) then
        raise(('custom: backward: gradient %d: expected a tensor or nil, got %s'):format(i, type(g)))
      end
      p[i - 1] = g
    end
  end
  check(C.vestige_walk_answer(walk, stop.nin, p))
end

local function run_walk(walk, create)
  local s = check(C.vestige_walk_run(walk))
  while s == NEEDS_LUA do
    answer(walk, create)
    s = check(C.vestige_walk_run(walk))
  end
end

local function results(walk, n)
  local list = {}
  for i = 1, n do
    local g = H()
    local s = check(C.vestige_walk_result(walk, i - 1, g))
    list[i] = g._p ~= nil and finish(s, g) or false
  end
  return list
end

local walk_out = ffi.new 'vestige_walk *[1]'

-- Runs a planned walk and frees it whatever happens.
local function walk_through(status, create, n)
  if status == -5 and handle.retry(status) then raise('%s', ffi.string(C.vestige_message())) end
  check(status)
  local walk = walk_out[0]
  local ok, result = pcall(function()
    run_walk(walk, create)
    return n and results(walk, n)
  end)
  C.vestige_walk_free(walk)
  drain()
  if not ok then error(result, 0) end
  return result
end

local grad_options = { create_graph = CREATE, retain_graph = RETAIN, allow_unused = UNUSED }

local function read_options(what, o)
  local flags = 0
  for k, v in pairs(o or {}) do
    if grad_options[k] then
      if v then flags = flags + grad_options[k] end
    elseif k ~= 'grad_outputs' then
      local near = require('vestige.nearest').find(k, { 'create_graph', 'retain_graph',
                                                        'allow_unused', 'grad_outputs' })
      raise(("%s: unknown option '%s'%s"):format(what, k,
            near and (", did you mean '%s'?"):format(near) or ''))
    end
  end
  return flags
end

--- vestige.grad(outputs, inputs, options): the gradients of outputs for inputs.
-- outputs: a tensor or a list; without grad_outputs each has one element.
-- inputs: a tensor, then its gradient is returned; or a list, then the list of gradients.
-- Options: create_graph (the result can be differentiated again), retain_graph, grad_outputs
-- (a tensor or a list), allow_unused (false in the list where an input was not used).
-- @example
-- > local x = vestige.tensor({3}, {requires_grad=true})
-- > assert(vestige.grad((x * x):sum(), x):item() == 6)
function M.grad(outputs, inputs, options)
  local flags = read_options('grad', options)
  local outs, ins = as_list(outputs), as_list(inputs)
  if type(outs) ~= 'table' then raise('grad: expected a tensor or a list of outputs') end
  if type(ins) ~= 'table' then raise('grad: expected a tensor or a list of inputs') end
  local po, no = pointers(outs, 'grad: output')
  local pi, ni = pointers(ins, 'grad: input')
  local gs = as_list(options and options.grad_outputs)
  local pg = gs and pointers(gs, 'grad: grad_outputs', true)
  local create = options and options.create_graph or false
  local list = walk_through(C.vestige_walk_new(walk_out, no, po, pg, ni, pi, flags), create, ni)
  if handle.is_tensor(inputs) then return list[1] or nil end
  return list
end

--- x:backward(gradient, options): adds the gradients of x into .grad of the leaves it came from.
-- gradient: needed when x has more than one element. Options: retain_graph.
function M.backward(x, gradient, options)
  if type(gradient) == 'table' then gradient, options = nil, gradient end
  local flags = read_options('backward', options)
  if options and options.create_graph then
    raise('backward: is of first order; use vestige.grad with create_graph')
  end
  local po = pointers({ x }, 'backward: output')
  local pg = gradient and pointers({ gradient }, 'backward: gradient')
  walk_through(C.vestige_walk_new(walk_out, 1, po, pg, 0, nil, flags + ACCUMULATE), false)
end

--- x:register_hook(fn): calls fn(gradient) when a walk has x's whole gradient; what fn returns, if
-- anything, takes its place. Returns a function that removes the hook.
function M.register_hook(x, fn)
  local id = ffi.new 'int64_t[1]'
  check(C.vestige_hook(x, id))
  local n = tonumber(id[0])
  hooks[n] = fn
  return function()
    if hooks[n] then
      check(C.vestige_unhook(x, n))
      hooks[n] = nil
    end
  end
end

local Context = {}
Context.__index = Context

--- ctx:save(...): keeps tensors for backward, which reads them with ctx:saved().
function Context:save(...)
  self._save = { ... }
end

--- ctx:saved(): the tensors that forward saved.
function Context:saved()
  return unpack(self._saved)
end

--- vestige.custom{forward=, backward=}: a function with a gradient rule of its own.
-- forward(ctx, ...) computes without recording and returns one tensor or several; it keeps what
-- backward reads with ctx:save(...). backward(ctx, g1, ...) gets the gradients of the results (nil
-- where none arrived) and returns one gradient for each tensor argument, in order, nil allowed.
-- Under create_graph backward is recorded, so it can be differentiated when written in operators.
-- @example
-- > local cube = vestige.custom{
-- >   forward = function(ctx, x) ctx:save(x) return x * x * x end,
-- >   backward = function(ctx, g) local x = ctx:saved() return g * 3 * x * x end }
-- > local x = vestige.tensor({2}, {requires_grad=true})
-- > assert(vestige.grad(cube(x):sum(), x):item() == 12)
function M.custom(o)
  if type(o) ~= 'table' or type(o.forward) ~= 'function' or type(o.backward) ~= 'function' then
    raise('custom: expected {forward=function, backward=function}')
  end
  return function(...)
    local ctx = setmetatable({ _save = {} }, Context)
    local ins, recorded = {}, false
    for i = 1, select('#', ...) do
      local v = select(i, ...)
      if handle.is_tensor(v) then
        ins[#ins + 1] = v
        recorded = recorded or v:requires_grad()
      end
    end
    local outs = { with_mode(false, o.forward, ctx, ...) }
    if not (recorded and M.is_grad_enabled()) then return unpack(outs) end
    for i = 1, #outs do
      if not handle.is_tensor(outs[i]) then
        raise(('custom: forward: result %d: expected a tensor, got %s'):format(i, type(outs[i])))
      end
      for j = 1, #ins do -- a result that is an input would get two histories
        if outs[i]._p == ins[j]._p then outs[i] = outs[i]:clone():detach() end
      end
    end
    local id = ffi.new 'int64_t[1]'
    local pi, ni = pointers(ins, 'custom: input')
    local po, no = pointers(outs, 'custom: result')
    local ps, ns = pointers(ctx._save, 'custom: saved tensor')
    check(C.vestige_custom(ni, pi, no, po, ns, ps, id))
    ctx._save = nil
    rules[tonumber(id[0])] = function(given, saved)
      ctx._saved = saved
      for i = 1, #given do given[i] = given[i] or nil end
      local back = { o.backward(ctx, unpack(given, 1, no)) }
      ctx._saved = nil
      return back
    end
    return unpack(outs)
  end
end

--- vestige.checkpoint(fn, ...): fn(...) without keeping what its gradient needs; the backward walk
-- runs fn once more instead. Random draws inside are replayed.
-- @example
-- > local x = vestige.tensor({2}, {requires_grad=true})
-- > local y = vestige.checkpoint(function(v) return (v * v * v):sum() end, x)
-- > assert(vestige.grad(y, x):item() == 12)
function M.checkpoint(fn, ...)
  if not M.is_grad_enabled() then return fn(...) end
  local args, n = { ... }, select('#', ...)
  local state = ffi.new 'vestige_stream'
  C.vestige_stream_get(state)
  local since = C.vestige_tape_mark()
  local outs = { fn(...) }
  local at, saved = {}, {}
  for i = 1, n do
    if handle.is_tensor(args[i]) then
      saved[#saved + 1] = args[i]
      at[#at + 1] = i
      args[i] = false
    end
  end
  local tensors, place = {}, {}
  for i = 1, #outs do
    if handle.is_tensor(outs[i]) and outs[i]:requires_grad() and not outs[i]:is_leaf() then
      tensors[#tensors + 1] = outs[i]
      place[#place + 1] = i
    end
  end
  if #tensors == 0 then return unpack(outs) end
  local id = ffi.new 'int64_t[1]'
  local po, no = pointers(tensors, 'checkpoint: result')
  local ps, ns = pointers(saved, 'checkpoint: input')
  check(C.vestige_custom_edges(since, no, po, ns, ps, id))
  rules[tonumber(id[0])] = function(given, kept, _, node, create)
    local replay = {}
    for i = 1, n do replay[i] = args[i] end
    for i = 1, #at do replay[at[i]] = kept[i] end
    local now = ffi.new 'vestige_stream'
    C.vestige_stream_get(now)
    C.vestige_stream_set(state)
    local again = { M.enable_grad(fn, unpack(replay, 1, n)) }
    C.vestige_stream_set(now)
    local targets, gs = {}, {}
    for i = 1, #place do
      if given[i] then
        targets[#targets + 1] = again[place[i]]
        gs[#gs + 1] = given[i]
      end
    end
    local p = pointers(targets, 'checkpoint: result')
    local pg = pointers(gs, 'checkpoint: gradient')
    local count = C.vestige_custom_edge_count(node)
    local flags = UNUSED + (create and CREATE or 0)
    return walk_through(C.vestige_walk_new_edges(walk_out, #targets, p, pg, node, flags), create,
                        count)
  end
  return unpack(outs)
end

return M
