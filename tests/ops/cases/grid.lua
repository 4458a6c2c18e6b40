-- grid_sample and its adjoint: both meanings of the corners, every derivative, places outside.
local list = {}
local hidden = { golden = false, why = 'hidden' }

local function add(n, h, w, c, oh, ow, o, more)
  more = more or {}
  local function case(t, extra)
    for _, from in ipairs { more, extra or {} } do
      for k, v in pairs(from) do t[k] = v end
    end
    list[#list + 1] = t
  end
  local spread = { size = { h, w } }
  for k, v in pairs(o) do spread[k] = v end
  case({ op = 'grid_sample', { n, h, w, c }, { n, oh, ow, 2 }, opts = o })
  case({ op = 'grid_sample_input', { n, oh, ow, c }, { n, oh, ow, 2 }, opts = spread }, hidden)
end

for _, align in ipairs { false, true } do
  for _, order in ipairs { 0, { 0, 1 }, { 1, 0 }, 1 } do
    add(2, 3, 4, 2, 2, 3, { align_corners = align, order = order })
  end
end
add(1, 1, 1, 2, 2, 2, {})
add(1, 1, 3, 1, 2, 2, { align_corners = true })
add(0, 3, 3, 2, 2, 2, {})
add(1, 0, 3, 2, 2, 2, {})
add(2, 3, 3, 0, 2, 2, {})
local big = { no_grad = 'big' }
add(5, 32, 32, 3, 32, 32, {}, big)
add(3, 9, 10, 37, 12, 7, { align_corners = true, order = { 1, 0 } }, big)
return list
