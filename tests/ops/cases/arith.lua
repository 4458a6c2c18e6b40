-- Arithmetic: equal shapes, every way of broadcasting, numbers on either side, nothing, sizes that
-- leave a remainder, sizes above one thread's piece; then what is particular to an operator.
local list = {}
local function add(case) list[#list + 1] = case end

local shapes = {
  { { 2, 3 }, { 2, 3 } }, { { 2, 3 }, { 3 } }, { { 3, 1 }, { 2, 1, 4 } }, { {}, { 2 } }, { {}, {} },
  { { 2, 3 }, 2.5 }, { 1.5, { 2, 3 } }, { { 0, 3 }, { 3 } }, { { 17, 33 }, { 17, 1 } },
  { { 40, 7 }, { 7 } }, { { 2, 3, 2, 2 }, { 3, 1, 2 } },
}
local large = {
  { { 70003 }, { 70003 } }, { { 260, 256 }, { 256 } }, { { 9, 11000 }, { 9, 1 } },
  { { 30011, 3 }, { 3 } }, { { 3 }, { 30011, 3 } }, { { 12, 1, 999 }, { 1, 7, 999 } },
  { { 70003 }, 0.7 }, { 0.7, { 70003 } },
}
for _, op in ipairs { 'add', 'sub', 'mul', 'div', 'pow', 'maximum', 'minimum', 'remainder',
                      'floor_divide' } do
  for _, case in ipairs(shapes) do add { op = op, case[1], case[2] } end
  for _, case in ipairs(large) do
    add { op = op, case[1], case[2], no_grad = 'size', golden = false }
  end
  add { op = op, { 5, int = true, low = -9, high = 9 }, { 5, int = true, low = 1, high = 4 },
        no_grad = 'integers' }
  add { op = op, { 2, 3, int = true, low = -9, high = 9, dtype = 'i32' }, 2, no_grad = 'integers' }
  if op ~= 'maximum' and op ~= 'minimum' then
    add { op = op .. '_', { 4, 3 }, { 3 }, golden = false }
    add { op = op .. '_', { 37 }, 1.25, golden = false }
  end
end
for _, exponent in ipairs { 2, 3, 1, 0, 0.5, -1, -2, 2.5 } do
  add { op = 'pow', { 2, 3 }, exponent }
  add { op = 'pow', { 1037 }, exponent, no_grad = 'size' }
end
-- At base 0 the power itself is kinked: forward only.
add { op = 'pow', { 3, int = true, low = 0, high = 0, dtype = 'f64' }, 2, no_grad = 'kink' }
add { op = 'maximum', { 6, int = true, low = 0, high = 2 }, { 6, int = true, low = 0, high = 2 },
      no_grad = 'integers' }

for _, op in ipairs { 'addcmul', 'addcdiv' } do
  add { op = op, { 2, 3 }, { 2, 3 }, { 2, 3 } }
  add { op = op, { 2, 3 }, { 3 }, { 2, 1 }, opts = { value = -0.5 } }
  add { op = op, { 0 }, { 0 }, { 0 } }
  add { op = op .. '_', { 2, 3 }, { 3 }, { 2, 1 }, opts = { value = -0.5 }, golden = false }
end
add { op = 'lerp', { 2, 3 }, { 2, 3 }, { 2, 3 } }
add { op = 'lerp', { 2, 3 }, { 3 }, 0.3 }
add { op = 'lerp_', { 2, 3 }, { 3 }, 0.3, golden = false }
add { op = 'copy_', { 2, 3 }, { 3 }, golden = false }
add { op = 'copy_', { 2, 3 }, { 2, 3, int = true, low = 0, high = 9 }, golden = false }
add { op = 'fill_', { 2, 3 }, 1.5, golden = false }
add { op = 'fill_', { 1037 }, {}, golden = false }
add { op = 'zero_', { 2, 3 }, golden = false }
return list
