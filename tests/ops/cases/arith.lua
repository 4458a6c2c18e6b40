-- add, sub, mul, div: equal shapes, every way of broadcasting, numbers on either side, nothing.
local list = {}
for _, op in ipairs { 'add', 'sub', 'mul', 'div' } do
  for _, case in ipairs {
    { { 2, 3 }, { 2, 3 } }, { { 2, 3 }, { 3 } }, { { 3, 1 }, { 2, 1, 4 } }, { {}, { 2 } },
    { { 2, 3 }, 2.5 }, { 1.5, { 2, 3 } }, { { 0, 3 }, { 3 } }, { { 17, 33 }, { 17, 1 } },
  } do
    case.op = op
    list[#list + 1] = case
  end
end
return list
