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

-- The positions of a dimension that are shown; false stands for the gap.
local function shown(n, summary)
  local list = {}
  if summary and n > 2 * EDGE then
    for i = 1, EDGE do list[i] = i end
    list[EDGE + 1] = false
    for i = n - EDGE + 1, n do list[#list + 1] = i end
  else
    for i = 1, n do list[i] = i end
  end
  return list
end

--- print.tostring(x): x's elements (summarised beyond 1,000), shape, type and device.
function M.tostring(x)
  if not x:alive() then return 'tensor (released)' end
  local shape, dtype = x:shape(), x:dtype()
  local flat, numel = x:tolist(), x:numel()
  local summary = numel > THRESHOLD
  local visible = {}
  local step = {}
  local s = 1
  for d = #shape, 1, -1 do
    step[d] = s
    s = s * shape[d]
  end
  local function gather(d, at)
    if d > #shape then
      visible[#visible + 1] = flat[at + 1]
      return
    end
    for _, i in ipairs(shown(shape[d], summary)) do
      if i then gather(d + 1, at + (i - 1) * step[d]) end
    end
  end
  gather(1, 0)
  local form = format_for(visible, dtype)
  local width = 0
  for _, v in ipairs(visible) do width = math.max(width, #form(v)) end
  local function text(d, at)
    if d > #shape then
      local t = form(flat[at + 1])
      return (' '):rep(width - #t) .. t
    end
    local parts = {}
    for _, i in ipairs(shown(shape[d], summary)) do
      parts[#parts + 1] = i and text(d + 1, at + (i - 1) * step[d]) or '...'
    end
    local gap = d == #shape and ', '
                or ',' .. ('\n'):rep(#shape - d) .. (' '):rep(7 + d)
    return '[' .. table.concat(parts, gap) .. ']'
  end
  local tail = ('  # %s (%s) %s'):format(dtype, table.concat(shape, ','), x:device())
  if x:requires_grad() then
    tail = tail .. (x:is_leaf() and ' requires_grad' or ' with history')
  end
  return 'tensor(' .. (numel == 0 and '[]' or text(1, 0)) .. ')' .. tail
end

return M
