-- Losses between two tensors, and cosine similarity. Draws keep away from the kinks: differences
-- of distinct values from a grid that they share.
local list = {}
local function add(case) list[#list + 1] = case end
local unit = { 3, 4, low = 0.05, high = 0.95 }

for _, reduction in ipairs { 'mean', 'sum', 'none' } do
  local r = { reduction = reduction }
  for _, op in ipairs { 'mse_loss', 'l1_loss', 'smooth_l1_loss', 'huber_loss' } do
    add { op = op, { 3, 4 }, { 3, 4 }, opts = r }
    add { op = op, {}, {}, opts = r }
    add { op = op, { 0, 4 }, { 0, 4 }, opts = r, no_grad = 'a mean over nothing' }
    add { op = op, { 5, 6553 }, { 5, 6553 }, opts = r, no_grad = 'size' }
  end
  add { op = 'smooth_l1_loss', { 3, 4 }, { 3, 4 }, opts = { reduction = reduction, beta = 0.5 } }
  add { op = 'huber_loss', { 3, 4 }, { 3, 4 }, opts = { reduction = reduction, delta = 0.5 } }
  local weight, positive = { 3, 4, low = 0.5, high = 2, const = true },
                           { 4, low = 0.5, high = 3, const = true }
  local bce = 'binary_cross_entropy_with_logits'
  add { op = bce, { 3, 4 }, unit, opts = r }
  add { op = bce, { 3, 4 }, unit, weight, opts = r }
  add { op = bce, { 3, 4 }, unit, false, positive, opts = r }
  add { op = bce, { 3, 4 }, unit, weight, positive, opts = r }
  add { op = bce, { 3, 4 }, unit, { 3, 1, low = 0.5, high = 2, const = true }, positive, opts = r }
  add { op = bce, { 3, 4, low = -100, high = 100 }, unit, opts = r }
end
for _, reduction in ipairs { 'mean', 'sum', 'none', 'batchmean' } do
  add { op = 'kl_div', { 3, 4, low = -3, high = 0 }, { 3, 4 }, opts = { reduction = reduction } }
  add { op = 'kl_div', { 3, 4, low = -3, high = 0 }, { 3, 4, low = -3, high = 0 },
        opts = { reduction = reduction, log_target = true } }
end
add { op = 'cosine_similarity', { 3, 4 }, { 3, 4 } }
add { op = 'cosine_similarity', { 3, 4 }, { 3, 4 }, opts = { dim = 1 } }
add { op = 'cosine_similarity', { 3, 4, 2 }, { 4, 1 }, opts = { dim = -2 } }
add { op = 'cosine_similarity', { 3, 4, 2 }, { 3, 1, 2 }, opts = { dim = 2 } }
add { op = 'cosine_similarity', { 3, 1 }, { 1, 4 }, opts = { dim = 2 } }
add { op = 'cosine_similarity', { 5 }, { 2, 5 }, opts = { dim = 2 } }
add { op = 'cosine_similarity', { 5 }, { 2, 5 }, opts = { dim = 2, eps = 3 }, golden = false,
      why = 'below eps the gradient of PyTorch goes through the norm that its result does not use' }
add { op = 'cosine_similarity', {}, {}, opts = { dim = 1 } }
add { op = 'cosine_similarity', { 0, 4 }, { 0, 4 } }
add { op = 'cosine_similarity', { 3, 0 }, { 3, 0 } }
add { op = 'cosine_similarity', { 5, 7000 }, { 5, 7000 }, no_grad = 'size' }
add { op = 'cosine_similarity', { 40001 }, { 40001 }, opts = { dim = 1 }, no_grad = 'size' }
return list
