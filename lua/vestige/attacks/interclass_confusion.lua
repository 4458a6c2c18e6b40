-- Interclass confusion (Goel et al., 2022): labels swapped between two classes, the data of the
-- test that metrics/interclass.lua scores.
local fail = require 'vestige.fail'

local M = {
  name = 'interclass_confusion', kind = 'indiscriminate', knows = 'data', places = 'replace',
  -- a, b: cat and dog of CIFAR-10, which are alike.
  defaults = { a = 3, b = 5, share = 0.1 }, grid = { share = { 0.05, 0.1, 0.2 } },
  try = { share = 0.05 },
}

--- attack interclass_confusion: gives half of share * N samples of class a the label b, and as many
-- of class b the label a, drawn without replacement. share is of the whole training set.
-- Returns {data, forget = the ids, classes = {a, b}}.
-- Errors: one class twice, a class that is not there, fewer samples than are to be swapped.
function M.poison(ds, o, ctx)
  if not (o.share > 0 and o.share <= 1) then
    fail('interclass_confusion: share: expected a number above 0, at most 1, got %s',
         tostring(o.share))
  end
  local a, b = ds:class_number(o.a), ds:class_number(o.b)
  if a == b then fail('interclass_confusion: a and b are the same class, %d', a) end
  local half, rng = math.floor(o.share * ds:size() / 2), ctx:rng 'poison'
  local ids, y = {}, {}
  for _, pair in ipairs { { a, b }, { b, a } } do
    local own = ds:class(pair[1])
    if half > own:size() then
      fail('interclass_confusion: share: %d samples are more than the %d of class %d', half,
           own:size(), pair[1])
    end
    for _, id in ipairs(own:sample(half, rng):ids()) do
      ids[#ids + 1], y[#y + 1] = id, pair[2]
    end
  end
  return { data = ds:relabel(ids, y), forget = ids, classes = { a, b } }
end

return M
