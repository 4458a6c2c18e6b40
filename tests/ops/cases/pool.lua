-- Pooling: every option, windows that overlap, leave gaps, and hang over the edge.
local list = {}

local function add(op, x, o, more)
  local case = { op = op, x, opts = o }
  for k, v in pairs(more or {}) do case[k] = v end
  list[#list + 1] = case
end

local function pair(v, i)
  return type(v) == 'table' and v[i] or v
end

local function out_size(size, o, i)
  local k, p, d = pair(o.kernel_size, i), pair(o.padding or 0, i), pair(o.dilation or 1, i)
  local s, up = pair(o.stride or o.kernel_size, i), o.ceil_mode
  local n = (up and math.ceil or math.floor)((size + 2 * p - d * (k - 1) - 1) / s) + 1
  return up and (n - 1) * s >= size + p and n - 1 or n
end

local hidden = { golden = false, why = 'hidden' }
local function with(o, more)
  local t = {}
  for k, v in pairs(o) do t[k] = v end
  for k, v in pairs(more) do t[k] = v end
  return t
end

-- x of distinct values: near a tie a difference quotient crosses it.
local function max_cases(n, h, w, c, o, more)
  more = more or {}
  local x = { n, h, w, c, distinct = true }
  local y = { n, out_size(h, o, 1), out_size(w, o, 2), c }
  add('max_pool2d', x, o, more)
  list[#list + 1] = with({ op = 'max_pool2d_backward', y, x, opts = o }, with(hidden, more))
  list[#list + 1] = with({ op = 'max_pool2d_gather', { n, h, w, c }, x, opts = o },
                         with(hidden, more))
end

local function avg_cases(n, h, w, c, o, more)
  more = more or {}
  add('avg_pool2d', { n, h, w, c }, o, more)
  add('avg_pool2d_backward', { n, out_size(h, o, 1), out_size(w, o, 2), c },
      with(o, { size = { h, w } }), with(hidden, more))
end

for _, o in ipairs {
  { kernel_size = 2 }, { kernel_size = { 2, 3 }, stride = 1, padding = 1 },
  { kernel_size = 2, stride = { 1, 2 }, ceil_mode = true }, { kernel_size = 1, stride = 2 },
} do
  max_cases(1, 4, 5, 2, o)
  avg_cases(1, 4, 5, 2, o)
end
max_cases(1, 5, 4, 1, { kernel_size = 2, stride = 1, dilation = { 2, 1 }, padding = 1 })
avg_cases(1, 3, 4, 1, { kernel_size = 3, stride = 2, padding = 1, count_include_pad = false })
avg_cases(1, 4, 4, 1, { kernel_size = 3, stride = 2, padding = 1, ceil_mode = true })
avg_cases(1, 3, 4, 1, { kernel_size = 2, stride = 1, divisor_override = 3 })
max_cases(0, 4, 4, 2, { kernel_size = 2 })
avg_cases(0, 4, 4, 2, { kernel_size = 2 })

local function adaptive_cases(n, h, w, c, size, more)
  more = more or {}
  local oh, ow = pair(size, 1), pair(size, 2)
  add('adaptive_avg_pool2d', { n, h, w, c }, { output_size = size }, more)
  add('adaptive_avg_pool2d_backward', { n, oh, ow, c },
      { output_size = size, size = { h, w } }, with(hidden, more))
end
adaptive_cases(2, 3, 4, 2, 1)
adaptive_cases(1, 5, 4, 2, { 2, 3 })
adaptive_cases(1, 2, 3, 1, { 4, 3 })
adaptive_cases(0, 2, 2, 3, 1)

local big = { no_grad = 'big' }
for _, c in ipairs { 16, 37, 130 } do
  max_cases(3, 9, 10, c, { kernel_size = 3, stride = 2, padding = 1 }, big)
  avg_cases(3, 9, 10, c, { kernel_size = 3, stride = 2, padding = 1 }, big)
  max_cases(3, 8, 8, c, { kernel_size = 2 }, big)
  avg_cases(3, 8, 8, c, { kernel_size = 2 }, big)
  adaptive_cases(3, 8, 7, c, 1, big)
  adaptive_cases(3, 9, 7, c, { 4, 3 }, big)
end
return list
