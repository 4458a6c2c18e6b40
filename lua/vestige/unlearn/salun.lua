-- SalUn (Fan et al., 2024): the forgotten samples are learned with random labels, by the weights
-- alone that matter to them.
local vestige = require 'vestige'

local M = {
  name = 'salun', needs = 'retain forget',
  defaults = {
    share = 0.5,              -- of all weights that may move: those of the largest saliency
    lr = 0.013, momentum = 0.9, weight_decay = 5e-4, -- the authors', ResNet-18 on CIFAR
    alpha = 1,                -- weight of the retained samples (equation 6 there)
  },
  grid = { share = { 0.1, 0.5, 0.9 }, lr = { 1e-3, 0.013 } },
}

-- Name -> mask: 1 for the share of all weights with the largest |gradient| of the loss on the
-- forgotten samples (equation 3 there), in evaluation mode.
local function saliency(model, forget, share)
  local was_training = model.training
  model:eval()
  local params, names, sums, masks = {}, {}, {}, {}
  for name, p in model:named_parameters() do
    params[#params + 1], names[#names + 1], sums[#sums + 1] = p, name, vestige.zeros_like(p)
  end
  for b in forget:batches(256) do
    vestige.scope(function()
      local loss = vestige.cross_entropy(model(b.x, b.noise), b.y, { reduction = 'sum' })
      local grads = vestige.grad(loss, params, { allow_unused = true })
      vestige.no_grad(function()
        for i, g in ipairs(grads) do
          if g then sums[i]:add_(g) end
        end
      end)
    end)
  end
  model:train(was_training)
  local flat, total = {}, 0
  for i, s in ipairs(sums) do flat[i], total = s:abs():flatten(), total + s:numel() end
  local rank = math.max(1, math.floor((1 - share) * total + 0.5))
  local least = vestige.cat(flat, 1):kthvalue(rank):item()
  for i, s in ipairs(sums) do masks[names[i]] = s:abs():ge(least):to(s:dtype()) end
  return masks
end

--- unlearn salun: descends on CE(forget, random labels) + alpha CE(retain), in the salient weights.
-- A random label is any but the sample's own.
function M.unlearn(model, retain, forget, o, ctx)
  local masks = saliency(model, forget, o.share)
  local classes = model.fc.out_features
  local shift = vestige.randint(1, classes, { forget:size() }, { generator = ctx:rng 'unlearn' })
  local y = (forget.y + shift):remainder(classes)
  ctx:train(model, { parts = { retain = { data = retain, weight = o.alpha },
                               forget = { data = forget:relabel(forget:ids(), y), weight = 1 } },
                     optim = { name = 'sgd', lr = o.lr, momentum = o.momentum,
                               weight_decay = o.weight_decay }, mask = masks })
  return model
end

return M
