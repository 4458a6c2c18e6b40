-- What attacks share that change images by the gradient of a loss on a model's gradients.
local vestige = require 'vestige'

local M = {}

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
