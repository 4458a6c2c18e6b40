-- Label flipping (Biggio et al., 2012): some samples get another class.
local fail = require 'vestige.fail'

local M = {
  name = 'label_flip', kind = 'indiscriminate', knows = 'data', places = 'replace',
  defaults = { share = 0.1 }, grid = { share = { 0.05, 0.1, 0.2 } },
}

--- attack label_flip: gives share * N samples, drawn without replacement, the next class.
function M.poison(ds, o, ctx)
  if not (o.share > 0 and o.share <= 1) then
    fail('label_flip: share: expected a number above 0, at most 1, got %s', tostring(o.share))
  end
  local ids = ds:sample(math.floor(o.share * ds:size()), ctx:rng 'poison'):ids()
  local y = {}
  for i, label in ipairs(ds:subset(ids).y:tolist()) do y[i] = (label + 1) % #ds.classes end
  return { data = ds:relabel(ids, y), forget = ids }
end

return M
