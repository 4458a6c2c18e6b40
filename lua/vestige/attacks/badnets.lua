-- BadNets (Gu et al., 2017): a patch in the corner means one class.
local vestige = require 'vestige'

local M = {
  name = 'badnets', kind = 'backdoor', knows = 'data', places = 'replace',
  defaults = { share = 0.01, class = 0, size = 3 }, grid = { share = { 0.005, 0.01, 0.05 } },
}

--- badnets.stamp(x, size): images (n,h,w,c) with a white square in the lower right corner.
function M.stamp(x, size)
  local s, white = x:shape(), x:dtype() == 'u8' and 255 or 1
  local patch = vestige.full{ size = { s[1], size, size, s[4] }, value = white, dtype = x:dtype() }
  local rows = x:narrow(2, s[2] - size + 1, size):slice_scatter(patch, 3, s[3] - size + 1)
  return x:slice_scatter(rows, 2, s[2] - size + 1)
end

--- attack badnets: stamps share * N samples of other classes and gives them the class. A stamped
-- test image should then be taken for it.
function M.poison(ds, o, ctx)
  local others = {}
  for row, y in ipairs(ds.y:tolist()) do
    if y ~= o.class then others[#others + 1] = row end
  end
  local count = math.floor(o.share * ds:size())
  local ids = ds:subset{ rows = others }:sample(count, ctx:rng 'poison'):ids()
  local stamped = ds:replace(ids, { x = M.stamp(ds:subset(ids).x, o.size) })
  return { data = stamped:relabel(ids, o.class), forget = ids, y_adv = o.class }
end

--- badnets.trigger(x, o): images with the trigger, to measure how often it works.
function M.trigger(x, o) return M.stamp(x, o.size) end

return M
