--- Tensors as text, the way PyTorch prints them.
local M = {}

local EDGE, THRESHOLD = 3, 1000

-- How numbers are written so that all fit one column: integers, decimals or with an exponent.
local function format_for(values, dtype)
  if dtype == 'bool' then return function(v) return tostring(v) end end
  if dtype ~= 'f32' and dtype ~= 'f64' and dtype ~= 'bf16' then
    return function(v) return ('%d'):format(v) end
  end
  local largest, smallest, whole = 0, math.huge, true
  for _, v in ipairs(values) do
    local a = math.abs(v)
    if a == a and a < math.huge then
      if a > largest then largest = a end
      if a > 0 and a < smallest then smallest = a end
      whole = whole and v == math.floor(v)
    end
  end
  local spec = '%.4f'
  if whole and largest < 1e8 then
    spec = '%.0f.'
  elseif largest >= 1e8 or (largest > 0 and (smallest < 1e-4 or largest / smallest > 1000)
                            and (smallest < 1e-4 or largest > 1e5)) then
    spec = '%.4e'
  end
  return function(v)
    if v ~= v then return 'nan' end
    if v == math.huge then return 'inf' elseif v == -math.huge then return '-inf' end
    return spec:format(v)
  end
end

-- The edges of a large tensor in every dimension, as a small tensor: only they are copied.
local function edges(x, shape)
  local vestige = require 'vestige'
  for d, n in ipairs(shape) do
    if n > 2 * EDGE then
      x = vestige.cat({ x:narrow(d, 1, EDGE), x:narrow(d, n - EDGE + 1, EDGE) }, d)
    end
  end
  return x
end

--- print.tostring(x): x's elements (summarised beyond 1,000), shape, type and device.
function M.tostring(x)
  if not x:alive() then return 'tensor (released)' end
  local shape, dtype, numel = x:shape(), x:dtype(), x:numel()
  local summary = numel > THRESHOLD
  local flat
  if summary then
    local vestige = require 'vestige'
    flat = vestige.scope(vestige.no_grad, function() return edges(x, shape):tolist() end)
  else
    flat = x:tolist()
  end
  local form = format_for(flat, dtype)
  local width = 0
  for _, v in ipairs(flat) do width = math.max(width, #form(v)) end
  local at = 0 -- elements written so far
  local function text(d)
    if d > #shape then
      at = at + 1
      local t = form(flat[at])
      return (' '):rep(width - #t) .. t
    end
    local parts = {}
    local cut = summary and shape[d] > 2 * EDGE
    for i = 1, cut and 2 * EDGE or shape[d] do
      if cut and i == EDGE + 1 then parts[#parts + 1] = '...' end
      parts[#parts + 1] = text(d + 1)
    end
  local gap = d == #shape and ', '
                or ',' .. ('\n'):rep(#shape - d) .. (' '):rep(7 + d)
    return '[' .. table.concat(parts, gap) .. ']'
  end
  local tail = ('  # %s (%s) %s'):format(dtype, table.concat(shape, ','), x:device())
  if x:requires_grad() then
    tail = tail .. (x:is_leaf() and ' requires_grad' or ' with history')
  end
  return 'tensor(' .. (numel == 0 and '[]' or text(1)) .. ')' .. tail
end

return M
