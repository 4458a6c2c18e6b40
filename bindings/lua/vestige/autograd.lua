--- Gradients: walks from outputs to inputs, and rules that live in Lua.
local ffi = require 'ffi'
local bit = require 'bit'
local base = require 'vestige.ffi'
local handle = require 'vestige.handle'
local call = require 'vestige.call'
local convert = require 'vestige.convert'
local nearest = require 'vestige.nearest'
local C, H, raise, check = base.C, base.H, base.raise, base.check
local finish, is_tensor = handle.finish, handle.is_tensor

local M = {}

local NEEDS_LUA = 3
local CREATE, RETAIN, UNUSED, ACCUMULATE = 1, 2, 4, 8
local HOOK = 2

-- Rules and hooks that live here, by the engine's number for them.
local rules, hooks = {}, {}

local function drain()
  local id = tonumber(C.vestige_custom_dead())
  while id >= 0 do
    rules[id], hooks[id] = nil, nil
    id = tonumber(C.vestige_custom_dead())
  end
end
handle.after_drop(drain)

-- ---- Whether operators are recorded ----
local function restore(was, ok, ...)
  C.vestige_grad_mode(was)
  if not ok then error((...), 0) end
  return ...
end

local function with_mode(on, f, ...)
  return restore(C.vestige_grad_mode(on and 1 or 0), pcall(f, ...))
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

-- ---- Products in bf16 ----
local OFF, BF16 = -1, convert.dtypes.bf16

local function restore_autocast(was, ok, ...)
  C.vestige_autocast(was)
  if not ok then error((...), 0) end
  return ...
end

-- dtype: its number, or OFF.
local function with_autocast(dtype, f, ...)
  return restore_autocast(C.vestige_autocast(dtype), pcall(f, ...))
end

local function autocast_mode()
  local mode = C.vestige_autocast(OFF)
  C.vestige_autocast(mode)
  return mode
end

--- vestige.autocast('bf16', fn, ...): runs fn(...) with products in bf16: matmul, linear and the
-- convolutions cast what is f32, and their sums run in f32. Losses, softmax, sums, means and norms
-- cast bf16 to f32; batch_norm computes in f32; everything else follows its inputs. A weight is
-- cast once, and its gradient comes back in its own type. f64 stays f64. A backward walk runs each
-- rule as its operator ran, wherever it is called. vestige.autocast(false, fn, ...) switches it off
-- inside.
-- @example
-- > local w = vestige.ones({2, 2}, {requires_grad=true})
-- > local y = vestige.autocast('bf16', function() return w:matmul(w) end)
-- > assert(y:dtype() == 'bf16' and vestige.grad(y:sum(), w):dtype() == 'f32')
function M.autocast(dtype, fn, ...)
  if dtype ~= 'bf16' and dtype ~= false then
    raise(("autocast: expected 'bf16' or false, got %s"):format(
            type(dtype) == 'string' and "'" .. dtype .. "'" or tostring(dtype)))
  end
  if type(fn) ~= 'function' then
    raise('autocast: expected a function, got ' .. type(fn))
  end
  return with_autocast(dtype and BF16 or OFF, fn, ...)
end

-- ---- Lists of tensors as C takes them ----
-- The array points at the handles, so whoever calls C with it names the list once more afterwards.
local function pointers(list, what, n, holes)
  local p = ffi.new('const vestige_tensor *[?]', n + 1)
  for i = 1, n do
    local t = list[i]
    if is_tensor(t) then
      p[i - 1] = t
    elseif t or not holes then
      raise(('%s %d: expected a tensor, got %s'):format(what, i, type(t)))
    end
  end
  return p
end

local function still_needed() end

local function as_list(x, what)
  if is_tensor(x) then return { x } end
  if type(x) == 'table' then return x end
  raise(('%s: expected a tensor or a list of tensors, got %s'):format(what, type(x)))
end

-- ---- Rules and hooks at which a walk stops ----
local function given_gradients(walk, n)
  local given = {}
  for i = 1, n do
    local g = H()
    local s = check(C.vestige_walk_gradient(walk, i - 1, g))
    given[i] = g._p ~= nil and finish(s, g) or nil
  end
  return given
end

local function run_hook(walk, stop, create)
  local hook = hooks[tonumber(stop.id)]
  local back = hook and with_mode(create, hook, given_gradients(walk, 1)[1])
  if back == nil then
    check(C.vestige_walk_answer(walk, 0, nil))
  else
    local list = { back }
    check(C.vestige_walk_answer(walk, 1, pointers(list, 'gradient hook: result', 1)))
    still_needed(list)
  end
end

-- A rule is called with the gradients of the outputs, the tensors that its node keeps, which
-- inputs' gradients are wanted, its node's number and whether it is recorded; it returns a list of
-- gradients with holes, and its length.
local function run_rule(walk, stop, create)
  local id = tonumber(stop.id)
  local given, saved, needs = given_gradients(walk, stop.nout), {}, {}
  for i = 1, stop.nsaved do
    local t = H()
    saved[i] = finish(check(C.vestige_walk_saved(walk, i - 1, t)), t)
  end
  for i = 1, stop.nin do needs[i] = C.vestige_walk_needs(walk, i - 1) ~= 0 end
  local back, n = with_mode(create, rules[id], given, saved, needs, id, create)
  local p = pointers(back, "custom: backward's gradient", n, true)
  check(C.vestige_walk_answer(walk, n, p))
  still_needed(back)
end

-- What a rule makes is dropped when it was answered: the walk holds the gradients. A hook's
-- gradient lives as long as what surrounds the walk, because hooks are there to look at it.
local function answer(walk, create)
  local stop = ffi.new 'vestige_walk_stop'
  C.vestige_walk_lua(walk, stop)
  if stop.kind == HOOK then return run_hook(walk, stop, create) end
  local scope = handle.open_scope()
  local ok, message = pcall(run_rule, walk, stop, create)
  handle.close_scope(scope)
  if not ok then error(message, 0) end
end

local function go_on(walk, create)
  local s = NEEDS_LUA
  while s == NEEDS_LUA do
    answer(walk, create)
    s = check(C.vestige_walk_run(walk))
  end
end

-- ---- Walks ----
local walk_out = ffi.new 'vestige_walk *[1]'

local function plan(outs, gs, ins, flags)
  local no, ni = #outs, #ins
  local po = pointers(outs, 'grad: output', no)
  local pi = pointers(ins, 'grad: input', ni)
  local pg = gs and pointers(gs, 'grad: grad_outputs', no, true)
  local s = C.vestige_walk_new(walk_out, no, po, pg, ni, pi, flags)
  if s < 0 and handle.retry(s) then
    s = C.vestige_walk_new(walk_out, no, po, pg, ni, pi, flags)
  end
  check(s)
  still_needed(outs, gs, ins)
  return walk_out[0]
end

-- The gradients of n inputs, false where none arrived; or the status of what failed.
local function results(walk, n)
  local list = {}
  for i = 1, n do
    local g = H()
    local s = C.vestige_walk_result(walk, i - 1, g)
    if s < 0 then return nil, s end
    list[i] = g._p ~= nil and finish(s, g)
  end
  return list, 0
end

-- Runs a planned walk and frees it whatever happens.
local function walk_through(walk, flags, n)
  local ok, message, list = true, nil, nil
  local s = C.vestige_walk_run(walk)
  if s == NEEDS_LUA then
    s, ok, message = 0, pcall(go_on, walk, bit.band(flags, CREATE) ~= 0)
  end
  if ok and s >= 0 then list, s = results(walk, n) end
  C.vestige_walk_free(walk)
  drain()
  if not ok then error(message, 0) end
  check(s)
  return list
end

local grad_options = { create_graph = CREATE, retain_graph = RETAIN, allow_unused = UNUSED }
local option_names = { 'create_graph', 'retain_graph', 'allow_unused', 'grad_outputs' }

local function read_options(what, o)
  local flags = 0
  if o == nil then return flags end
  if type(o) ~= 'table' then
    raise(('%s: expected a table of options, got %s'):format(what, type(o)))
  end
  for k, v in pairs(o) do
    if grad_options[k] then
      if v then flags = flags + grad_options[k] end
    elseif k ~= 'grad_outputs' then
      raise(("%s: unknown option '%s'%s"):format(what, tostring(k), nearest.hint(k, option_names)))
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
  local outs, ins = as_list(outputs, 'grad: outputs'), as_list(inputs, 'grad: inputs')
  local gs = options and options.grad_outputs
  if gs then gs = as_list(gs, 'grad: grad_outputs') end
  local list = walk_through(plan(outs, gs, ins, flags), flags, #ins)
  if is_tensor(inputs) then return list[1] or nil end
  return list
end

--- x:backward(gradient, options): adds the gradients of x into .grad of the leaves it came from.
-- gradient: needed when x has more than one element. Options: retain_graph.
function M.backward(x, gradient, options)
  if type(gradient) == 'table' then gradient, options = nil, gradient end
  local flags = read_options('backward', options) + ACCUMULATE
  if bit.band(flags, CREATE) ~= 0 then
    raise('backward: is of first order; use vestige.grad with create_graph')
  end
  walk_through(plan({ x }, gradient and { gradient }, {}, flags), flags, 0)
end

--- x:register_hook(fn): calls fn(gradient) when a walk has x's whole gradient; what fn returns, if
-- anything, takes its place. Returns a function that removes the hook.
function M.register_hook(x, fn)
  if type(fn) ~= 'function' then
    raise('register_hook: expected a function, got ' .. type(fn))
  end
  local id = ffi.new 'int64_t[1]'
  check(C.vestige_hook(x, id))
  local n = tonumber(id[0])
  hooks[n] = fn
  return function()
    if hooks[n] and x:alive() then check(C.vestige_unhook(x, n)) end
    hooks[n] = nil
  end
end

-- ---- vestige.custom ----
local Context = {}
Context.__index = Context

--- ctx:save(...): keeps tensors for backward, which reads them with ctx:saved().
function Context:save(...)
  self._save, self._count = { ... }, select('#', ...)
end

--- ctx:saved(): the tensors that forward saved.
function Context:saved()
  return unpack(self._saved, 1, self._count)
end

local function pack(...)
  return { ... }, select('#', ...)
end

-- A result that is an argument, or another result, would get two histories: it becomes a copy.
local function separate(outs, n, ins)
  for i = 1, n do
    if not is_tensor(outs[i]) then
      raise(('custom: forward: result %d: expected a tensor, got %s'):format(i, type(outs[i])))
    end
    for j = 1, #ins + i - 1 do
      local other = ins[j] or outs[j - #ins]
      if outs[i]._p == other._p then outs[i] = outs[i]:detach():clone() end
    end
  end
end

local function apply_custom(o, ...)
  local ctx = setmetatable({ _save = {}, _count = 0 }, Context)
  local ins, recorded = {}, false
  for i = 1, select('#', ...) do
    local v = select(i, ...)
    if is_tensor(v) then
      ins[#ins + 1] = v
      recorded = recorded or v:requires_grad()
    end
  end
  local outs, n = pack(with_mode(false, o.forward, ctx, ...))
  if not (recorded and M.is_grad_enabled()) then return unpack(outs, 1, n) end
  separate(outs, n, ins)
  local id, saved = ffi.new 'int64_t[1]', ctx._save
  local pi = pointers(ins, 'custom: argument', #ins)
  local po = pointers(outs, 'custom: forward: result', n)
  local ps = pointers(saved, 'custom: saved tensor', ctx._count)
  check(C.vestige_custom(#ins, pi, n, po, ctx._count, ps, id))
  still_needed(ins, outs, saved)
  ctx._save = nil -- the node holds them
  local mode = autocast_mode()
  rules[tonumber(id[0])] = function(given, kept, needs)
    ctx._saved, ctx.needs = kept, needs
    local back, count = pack(with_autocast(mode, o.backward, ctx, unpack(given, 1, n)))
    ctx._saved = nil
    return back, count
  end
  return unpack(outs, 1, n)
end

--- vestige.custom{forward=, backward=}: a function with a gradient rule of its own.
-- forward(ctx, ...) computes without recording and returns one tensor or several; it keeps what
-- backward reads with ctx:save(...), arguments and results alike. backward(ctx, g1, ...) gets the
-- gradients of the results (nil where none arrived) and returns one gradient for each tensor
-- argument, in order, nil allowed; ctx.needs[i] says whether the i-th is wanted. What else it makes
-- is dropped when it returns. Under create_graph backward is recorded, so it can be differentiated
-- when it is written in operators.
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
  return function(...) return apply_custom(o, ...) end
end

-- ---- vestige.checkpoint ----
local function edge_walk(outs, gs, node, flags)
  local n = #outs
  local po = pointers(outs, 'checkpoint: result', n)
  local pg = pointers(gs, 'checkpoint: gradient', n)
  check(C.vestige_walk_new_edges(walk_out, n, po, pg, node, flags))
  still_needed(outs, gs)
  return walk_out[0]
end

-- Runs fn again on its arguments: the tensors that the node kept, at their places, and the rest.
local function run_again(draws, fn, args, n, kept, at)
  local all = {}
  for i = 1, n do all[i] = args[i] end
  for i = 1, #at do all[at[i]] = kept[i] end
  return { call.replay(draws, M.enable_grad, fn, unpack(all, 1, n)) }
end

--- vestige.checkpoint(fn, ...): fn(...) without keeping what its gradient needs; the backward walk
-- runs fn once more instead. Random draws inside are replayed. fn runs in a scope of its own: what
-- it does not return is dropped.
-- @example
-- > local x = vestige.tensor({2}, {requires_grad=true})
-- > local y = vestige.checkpoint(function(v) return (v * v * v):sum() end, x)
-- > assert(vestige.grad(y, x):item() == 12)
function M.checkpoint(fn, ...)
  if not M.is_grad_enabled() then return fn(...) end
  local args, n = pack(...)
  local mode = autocast_mode() -- which forgets the weights cast before: fn casts its own
  local since = C.vestige_tape_mark()
  local draws, outs, nout = call.watch(handle.scope, fn, ...)
  local saved, at = {}, {} -- tensors stay out of the rule's closure: the node holds them
  for i = 1, n do
    if is_tensor(args[i]) then
      saved[#saved + 1], at[#at + 1], args[i] = args[i], i, false
    end
  end
  local tensors, place = {}, {}
  for i = 1, nout do
    if is_tensor(outs[i]) and outs[i]:requires_grad() then
      tensors[#tensors + 1], place[#place + 1] = outs[i], i
    end
  end
  if #tensors == 0 then return unpack(outs, 1, nout) end
  local id = ffi.new 'int64_t[1]'
  local po = pointers(tensors, 'checkpoint: result', #tensors)
  local ps = pointers(saved, 'checkpoint: argument', #saved)
  check(C.vestige_custom_edges(since, #tensors, po, #saved, ps, id))
  still_needed(tensors, saved)
  rules[tonumber(id[0])] = function(given, kept, _, node, create)
    local again = with_autocast(mode, run_again, draws, fn, args, n, kept, at)
    local targets, gs = {}, {}
    for i = 1, #place do
      if given[i] then
        targets[#targets + 1], gs[#gs + 1] = again[place[i]], given[i]
      end
    end
    local count, flags = C.vestige_custom_edge_count(node), create and CREATE or 0
    return walk_through(edge_walk(targets, gs, node, flags), flags, count), count
  end
  return unpack(outs, 1, nout)
end

return M
