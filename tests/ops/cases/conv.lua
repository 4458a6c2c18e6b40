-- Convolution and its two gradients: every option, alone and together, sizes that leave a rest.
local list = {}
local options = {
  {}, { stride = 2 }, { padding = 1 }, { dilation = 2, padding = { 1, 2 } }, { groups = 2 },
  { stride = { 2, 3 }, padding = { 2, 1 }, dilation = { 1, 2 }, groups = 2 },
}

local function pair(v, i)
  return type(v) == 'table' and v[i] or v
end

local function out_size(size, kernel, o, i)
  local s, p, d = pair(o.stride or 1, i), pair(o.padding or 0, i), pair(o.dilation or 1, i)
  return math.floor((size + 2 * p - d * (kernel - 1) - 1) / s) + 1
end

local function with(o, more)
  local t = {}
  for k, v in pairs(o) do t[k] = v end
  for k, v in pairs(more) do t[k] = v end
  return t
end

-- The three operators on images (n,h,w,c) and weights (out,kh,kw,c/groups).
local function add(n, h, w, c, out, kh, kw, o, bias, more)
  local g = o.groups or 1
  local oh, ow = out_size(h, kh, o, 1), out_size(w, kw, o, 2)
  local x, y, k = { n, h, w, c }, { n, oh, ow, out }, { out, kh, kw, c / g }
  list[#list + 1] = with({ op = 'conv2d', x, k, bias and { out }, opts = o }, more)
  list[#list + 1] = with({ op = 'conv2d_input', y, k, opts = with(o, { size = { h, w } }) }, more)
  -- In place, added to what is there: the walk's, in the order y, then what is convolved.
  list[#list + 1] = with({ op = 'conv2d_add_', with(y, { const = true }), x, k, opts = o }, more)
  list[#list + 1] = with({ op = 'conv2d_input_add_', with(x, { const = true }), y, k,
                           opts = with(o, { size = { h, w } }) }, more)
  list[#list + 1] = with({ op = 'conv2d_weight', x, y, opts = with(o, { size = { kh, kw } }) },
                         more)
end

for i, o in ipairs(options) do add(1, 4, 5, 2, 2, 2, 3, o, i % 2 == 0, {}) end
add(2, 3, 3, 1, 2, 1, 1, { stride = 2 }, true, {})
add(2, 2, 2, 3, 2, 1, 1, {}, true, {})
add(0, 3, 3, 2, 2, 2, 2, {}, true, {})

local big = { no_grad = 'big' }
add(3, 9, 10, 16, 32, 3, 3, { padding = 1 }, true, big)
add(2, 9, 8, 17, 5, 3, 3, { padding = 1, stride = 2 }, true, big)
add(2, 9, 8, 33, 40, 1, 1, { stride = 2 }, false, big)
add(2, 9, 8, 33, 40, 1, 1, {}, true, big)
add(2, 9, 8, 33, 40, 1, 1, {}, false, big)
add(2, 12, 11, 3, 19, 5, 4, { padding = { 2, 1 }, dilation = { 1, 2 } }, true, big)
add(2, 6, 6, 6, 9, 3, 3, { padding = 1, groups = 3 }, true, big)
add(8, 16, 16, 64, 64, 3, 3, { padding = 1 }, false, big)

for _, case in ipairs {
  { { 1, 3, 2, 2 }, { 2, 2, 3, 1 }, { 1 }, opts = { stride = { 2, 3 }, padding = 1,
                                                    output_padding = { 1, 2 } } },
  { { 1, 2, 3, 2 }, { 2, 2, 2, 2 } },
  { { 2, 2, 2, 2 }, { 2, 2, 2, 1 }, { 2 }, opts = { groups = 2, dilation = { 2, 1 } } },
  { { 0, 2, 2, 2 }, { 2, 2, 2, 1 } },
} do
  case.op = 'conv_transpose2d'
  list[#list + 1] = case
end
list[#list + 1] = { op = 'conv_transpose2d', { 2, 5, 4, 32 }, { 32, 3, 3, 16 }, { 16 },
                    opts = { stride = 2, padding = 1, output_padding = 1 }, no_grad = 'big' }

-- Depthwise, a multiple of the channels, a few channels a group, many; more strips than pieces.
add(2, 9, 10, 40, 40, 3, 3, { padding = 1, groups = 40 }, true, big)
add(2, 9, 8, 32, 96, 5, 3, { stride = 2, padding = { 2, 1 }, groups = 32 }, false, big)
add(2, 8, 8, 32, 32, 3, 3, { padding = 1, groups = 8 }, true, big)
add(2, 9, 8, 30, 20, 3, 2, { stride = { 2, 1 }, dilation = { 1, 2 }, padding = 2, groups = 10 },
    true, big)
add(2, 8, 8, 64, 48, 3, 3, { stride = { 1, 2 }, padding = 1, dilation = { 2, 1 }, groups = 2 },
    true, big)
add(35, 8, 8, 24, 24, 3, 3, { padding = 1, groups = 24 }, false, big)
return list
