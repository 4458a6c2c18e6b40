--- Gradients against finite differences, in f64.
local ffi = require 'ffi'
local base = require 'vestige.ffi'

local M = {}

local function vestige() return require 'vestige' end

-- The sum of all outputs times fixed directions: one number whose gradient is checked.
local function directional(outs, directions)
  local total
  for i = 1, #outs do
    local part = (outs[i] * directions[i]):sum()
    total = total and total + part or part
  end
  return total
end

local function as_list(...)
  local list = {}
  for i = 1, select('#', ...) do
    local v = select(i, ...)
    if vestige().is_tensor(v) then
      list[#list + 1] = v
    elseif type(v) == 'table' then
      for _, t in ipairs(v) do
        if t then list[#list + 1] = t end
      end
    end
  end
  return list
end

-- Outputs that carry a gradient, and which of all they are.
local function differentiable(outs)
  local list, places = {}, {}
  for i, y in ipairs(outs) do
    if y:requires_grad() then list[#list + 1], places[#places + 1] = y, i end
  end
  return list, places
end

-- The derivative of the directional sum for each element of an input, by central differences.
local function differences(fn, inputs, which, places, directions, step)
  local x = inputs[which]
  local data, n = x:data()
  local numeric = ffi.new('double[?]', math.max(1, n))
  local V = vestige()
  local function value()
    return V.scope(function()
      local outs = V.no_grad(function() return as_list(fn(unpack(inputs))) end)
      local floats = {}
      for k, i in ipairs(places) do floats[k] = outs[i] end
      return directional(floats, directions):item()
    end)
  end
  for i = 0, n - 1 do
    local keep = data[i]
    local h = step * math.max(1, math.abs(keep))
    data[i] = keep + h
    x:set_data(data)
    local up = value()
    data[i] = keep - h
    x:set_data(data)
    local down = value()
    data[i] = keep
    x:set_data(data)
    numeric[i] = (up - down) / (2 * h)
  end
  return numeric, n
end

-- The largest distance relative to the largest gradient (1 at least); raises when it is too large.
local function compare(analytic, numeric, n, which, how, tolerance)
  local worst, at, scale = 0, 0, 1
  for i = 0, n - 1 do
    local off = math.abs(numeric[i] - analytic[i])
    scale = math.max(scale, math.abs(numeric[i]), math.abs(analytic[i]))
    if off > worst or off ~= off then worst, at = off, i end
    if off ~= off then break end
  end
  if not (worst / scale <= tolerance) then
    base.raise(('gradcheck: input %d, element %d: gradient %.10g%s, finite difference %.10g')
               :format(which, at + 1, analytic[at], how, numeric[at]))
  end
  return worst / scale
end

local function directions_for(outs)
  local V = vestige()
  local list = {}
  for i, y in ipairs(outs) do
    list[i] = V.rand(y:shape(), { dtype = 'f64',
                                  generator = V.generator(7, 'direction' .. i) }) * 2 - 1
  end
  return list
end

--- vestige.gradcheck(fn, inputs, options): compares the gradient of fn with central differences.
-- fn(...) takes the inputs and returns tensors; inputs: a list of f64 tensors, of which those that
-- require grad are checked, both as a walk alone computes them, where fused rules may run, and as
-- one under create_graph does. Raises with the first element that is off.
-- Options: step (1e-6, relative), tolerance (1e-6, relative to the largest gradient).
-- Returns the worst error.
-- @example
-- > local x = vestige.tensor({1, 2}, {dtype='f64', requires_grad=true})
-- > vestige.gradcheck(function(v) return v * v end, {x})
function M.gradcheck(fn, inputs, options)
  local o = options or {}
  local V = vestige()
  local outs, places = differentiable(as_list(fn(unpack(inputs))))
  if #outs == 0 then base.raise('gradcheck: no output requires grad') end
  local directions = directions_for(outs)
  local wanted, place = {}, {}
  for i, x in ipairs(inputs) do
    if V.is_tensor(x) and x:requires_grad() then
      if x:dtype() ~= 'f64' then base.raise('gradcheck: input ' .. i .. ' is not f64') end
      wanted[#wanted + 1], place[#place + 1] = x, i
    end
  end
  local total = directional(outs, directions)
  local alone = V.grad(total, wanted, { allow_unused = true, retain_graph = true })
  local recorded = V.grad(total, wanted, { allow_unused = true, create_graph = true })
  local worst = 0
  for k, i in ipairs(place) do
    local numeric, n = differences(fn, inputs, i, places, directions, o.step or 1e-6)
    for how, grads in pairs { [''] = alone, [' under create_graph'] = recorded } do
      local analytic = grads[k] and grads[k]:data() or ffi.new('double[?]', math.max(1, n))
      worst = math.max(worst, compare(analytic, numeric, n, i, how, o.tolerance or 1e-6))
    end
  end
  return worst
end

--- vestige.gradgradcheck(fn, inputs, options): the same for the gradient of the gradient.
function M.gradgradcheck(fn, inputs, options)
  local V = vestige()
  local outs = differentiable(as_list(fn(unpack(inputs))))
  local seeds = directions_for(outs)
  for i = 1, #seeds do seeds[i] = seeds[i]:detach():requires_grad_() end
  local n = #inputs
  local all = {}
  for i = 1, n do all[i] = inputs[i] end
  for i = 1, #seeds do all[n + i] = seeds[i] end
  local wanted = {}
  for i = 1, n do
    if V.is_tensor(inputs[i]) and inputs[i]:requires_grad() then wanted[#wanted + 1] = i end
  end
  local function gradients(...)
    local args = { ... }
    return V.enable_grad(function()
      local ys = differentiable(as_list(fn(unpack(args, 1, n))))
      local ins, gs = {}, {}
      for i, w in ipairs(wanted) do ins[i] = args[w] end
      for i = 1, #ys do gs[i] = args[n + i] end
      local grads = V.grad(ys, ins, { create_graph = true, grad_outputs = gs,
                                      allow_unused = true })
      for i = #grads, 1, -1 do -- what does not depend on anything is checked by gradcheck
        if not grads[i] then table.remove(grads, i) end
      end
      return grads
    end)
  end
  return M.gradcheck(gradients, all, options)
end

return M
