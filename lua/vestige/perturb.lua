-- What attacks share that change images by gradients.
local fail = require 'vestige.fail'
local vestige = require 'vestige'

local M = {}

--- perturb.aim(name, ds, o, ctx): whom a targeted attack, called name, aims at and what it changes:
-- {target = a test image, a data set of one, y = its class, y_adv = the poison class, base =
-- ceil(share N) training images of that class}, drawn from the stream poison. o: share;
-- target_class, poison_class: names or numbers, '' for a class that is drawn.
-- Errors: no test images, one class for both, fewer images in the class than are to be changed.
function M.aim(name, ds, o, ctx)
  local rng, n = ctx:rng 'poison', #ds.classes
  if not ctx.test then fail('%s: needs ctx.test: the target is a test image', name) end
  local function pick(class, without)
    if class ~= '' then return ds:class_number(class) end
    class = vestige.randint(0, without and n - 1 or n, { 1 }, { generator = rng }):item()
    return without and class >= without and class + 1 or class
  end
  local y = pick(o.target_class)
  local y_adv = pick(o.poison_class, y)
  if y == y_adv then fail('%s: target and poison class are the same', name) end
  local target = ctx.test:class(y):sample(1, rng)
  local count, own = math.ceil(o.share * ds:size()), ds:class(y_adv)
  if count > own:size() then
    fail('%s: share: %d images are more than the %d of class %s', name, count, own:size(),
         ds.classes[y_adv + 1])
  end
  return { target = target, y = y, y_adv = y_adv, base = own:sample(count, rng) }
end

--- perturb.pixels(x): images as numbers in [0,1]; other numbers as they are.
function M.pixels(x)
  return x:dtype() == 'u8' and x:to 'f32' / 255 or x
end

--- perturb.units(model, dtype): mean and deviation by channel that the model normalises its input
-- with; nil and 1 where it does not. Perturbations move in units of the deviation, in which steps
-- are as long for every channel.
function M.units(model, dtype)
  local norm = model.normalize
  if not norm then return nil, 1 end
  return norm.mean:to(dtype):keep(), norm.std:to(dtype):keep()
end

--- perturb.squares(list): the sum of all squares of a list of tensors, as a tensor; entries that
-- are false are left out.
function M.squares(list)
  local sum
  for i = 1, #list do
    local s = list[i] and list[i]:square():sum()
    sum = sum and s and sum + s or s or sum
  end
  return sum
end

--- perturb.held(tensors): a table of tensors as a state that a loop's checkpoint keeps.
function M.held(tensors)
  return {
    state_dict = function() return tensors end,
    load_state_dict = function(_, state)
      vestige.no_grad(function()
        for name, t in pairs(tensors) do t:copy_(state[name]) end
      end)
    end,
  }
end

return M
