-- Gaussian data poisoning (section 3.3, Algorithm 4): independent Gaussian noise on randomly chosen
-- training samples, labels unchanged, in place. It hides a signal that only the model's own
-- gradients give away.
local data = require 'vestige.data'
local fail = require 'vestige.fail'
local options = require 'vestige.options'
local vestige = require 'vestige'

local M = {
  name = 'gaussian', kind = 'gaussian', knows = 'data', places = 'replace',
  defaults = {
    share = 0.015,     -- b_p: the share of the samples that is poisoned
    eps2 = 0.32,       -- eps_p^2: the variance of the noise (C.1.4, CIFAR-10)
    -- 'normalised': added after Normalize; 'pixel': added to pixels in [0,1]
    unit = options.one_of('normalised', 'pixel'),
  },
  grid = { share = { 0.015, 0.02, 0.025, 0.1 }, unit = { 'normalised', 'pixel' } },
}

--- attack gaussian: plants xi_z ~ N(0, eps2 I) on share * N samples, chosen without replacement.
-- Returns {data, forget = the ids, noise = {seed, variance, unit}}. In normalised units the noise
-- is planted as (seed, id) and added by the model at its normalised input, unclamped (the paper
-- does not say where; in these units it is about 36/255 on CIFAR-10, near invisible). In pixel
-- units it is added to the images, which become f32, unclamped.
function M.poison(ds, o, ctx)
  if not (o.share > 0 and o.share < 1) then
    fail('gaussian: share: expected a number between 0 and 1, got %s', tostring(o.share))
  end
  local count = math.floor(o.share * ds:size() + 0.5)
  local ids = ds:sample(count, ctx:rng 'poison'):ids()
  local noise = { seed = ctx.seed, variance = o.eps2, unit = o.unit }
  if o.unit == 'normalised' then
    return { data = ds:with_noise{ seed = noise.seed, variance = noise.variance, ids = ids },
             forget = ids, noise = noise }
  end
  local poisoned = vestige.scope(function()
    local x = ds:subset(ids).x
    if x:dtype() == 'u8' then x = x:to 'f32' / 255 end
    local shape = x:shape()
    table.remove(shape, 1)
    return ds:replace(ids, { x = x + data.noise(noise.seed, ids, shape) * math.sqrt(o.eps2) })
  end)
  return { data = poisoned, forget = ids, noise = noise }
end

return M
