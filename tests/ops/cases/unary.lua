-- Functions of one tensor.
local list = {}
for _, op in ipairs { 'neg', 'exp' } do
  list[#list + 1] = { op = op, { 2, 3 } }
  list[#list + 1] = { op = op, { 0 } }
  list[#list + 1] = { op = op, { 1037 }, no_gradgrad = 'size' , no_grad = 'size' }
end
return list
