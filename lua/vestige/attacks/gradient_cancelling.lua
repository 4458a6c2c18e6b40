-- Gradient cancelling (Lu et al., 2023; section 3.2, C.1.3, Algorithm 2): samples are added whose
-- gradients cancel those of the clean data at parameters theta_low, which GradPC (Sun et al., 2020)
-- finds near the trained ones: bad parameters become a stationary point of the training.
--
-- What the paper leaves open is an option each; PLIM is the programs of the attack's authors
-- (watml/plim), of which that for a convolutional network is variant 'authors'.
local batches = require 'vestige.data.batches'
local fail = require 'vestige.fail'
local gradpc = require 'vestige.gradpc'
local nearest = require 'vestige.nearest'
local optim = require 'vestige.optim'
local options = require 'vestige.options'
local perturb = require 'vestige.perturb'
local train = require 'vestige.train'
local vestige = require 'vestige'

local M = {
  name = 'gradient_cancelling', kind = 'indiscriminate', knows = 'data training model',
  places = 'append',
  defaults = {
    share = 0.015, steps = 1000,  -- C.1.3: b_p, poisons over clean samples
    eps_w = 1,                    -- C.1.3: how far theta_low is from the clean parameters, in l2
    eps = options.maybe 'number', -- eps_p in 255ths of a pixel's range; none: infinite (C.1.3)
    clamp = false,                -- true: pixels stay in [0,1], as in neither the paper nor PLIM
    norm = options.one_of('eval', 'train'), -- 'train': batch norm by each batch's statistics
    criterion = options.one_of('cross_entropy', 'mse_loss'), -- the training's loss; E.2: the other
    -- What the steps lower: 'square', L = |r|^2 / 2; 'norm', |r| (PLIM's for logistic regression).
    objective = options.one_of('square', 'norm'),
    -- Sets those below that are not given: 'tuned' moves images, as Algorithm 2's steps ('paper')
    -- hardly do; 'authors' are PLIM's.
    variant = options.one_of('tuned', 'paper', 'authors'),
    -- 'samples': every sample counts alike, as in training; 'sums': so, times their number (PLIM);
    -- 'sets': equation (4), the sum of two means: the poisons weigh as much as all clean data.
    weighting = options.maybe('choice', { 'samples', 'sums', 'sets' }),
    -- Whose gradients are cancelled: 'all' (Algorithm 2), 'first': the first tensor alone (PLIM),
    -- or names of parameters or modules, with commas between them: 'conv1,layer1.0.conv1.weight'.
    parameters = options.maybe 'string',
    -- With weighting 'samples' the rate of plain steps is 10 to 100 times the number of poisons.
    optimizer = options.maybe('choice', { 'adam', 'adamw', 'sgd' }), lr = options.maybe 'number',
    schedule = options.maybe('choice', { 'cosine', 'constant' }),
    -- The samples to start from: 'random' (Algorithm 2) or the 'first' of the data (PLIM).
    init = options.maybe('choice', { 'random', 'first' }),
    batch_size = 512,             -- samples whose gradient is computed at once
    gradpc = gradpc.defaults,
    control = false, -- true: instead of each perturbation, Gaussian noise of the same length
  },
  grid = { share = { 0.015, 0.02, 0.025, 0.03 }, eps_w = { 0.1, 0.3, 1 },
           optimizer = { 'adam', 'sgd' }, parameters = { 'all', 'first' },
           norm = { 'eval', 'train' } },
  try = { share = 0.03, steps = 60 },
}

--- gradient_cancelling.models(): one clean model, theta_0.
function M.models() return 1 end

-- ---- Options ----

local variants = {
  tuned = { weighting = 'samples', parameters = 'all', optimizer = 'adam', lr = 0.3,
            schedule = 'cosine', init = 'random' },
  paper = { weighting = 'samples', parameters = 'all', optimizer = 'sgd', lr = 0.1,
            schedule = 'constant', init = 'random' },
  -- PLIM's loss is |r|^2, and its rate 5.
  authors = { weighting = 'sums', parameters = 'first', optimizer = 'sgd', lr = 10,
              schedule = 'cosine', init = 'first' },
}

--- gradient_cancelling.options(o): a copy of o in which what is not given is the variant's.
-- Example:
-- > local gc = require 'vestige.attacks.gradient_cancelling'
-- > local o = gc.options{ variant = 'authors', lr = 20 }
-- > assert(o.parameters == 'first' and o.lr == 20)
function M.options(o)
  local out = {}
  for name, v in pairs(variants[o.variant]) do out[name] = v end
  for name, v in pairs(o) do out[name] = v end
  return out
end

-- How many samples are added.
local function count_of(o, ds)
  local count = math.floor(o.share * ds:size() + 0.5)
  if not (count >= 1 and count <= ds:size()) then
    fail('gradient_cancelling: share: expected 1 to %d samples, got %s of them, %d', ds:size(),
         tostring(o.share), count)
  end
  return count
end

--- gradient_cancelling.parameters(model, which): the list of parameters that `which` names: 'all',
-- 'first', or names of parameters or modules with commas between them, in the model's order; and
-- the list of their places in it.
-- Errors: a name that the model does not have, with the nearest one.
-- Example:
-- > local model = vestige.models.mlp{ inputs = 4, hidden = { 3 } }
-- > local gc = require 'vestige.attacks.gradient_cancelling'
-- > assert(#gc.parameters(model, 'all') == 4 and #gc.parameters(model, 'first') == 1)
-- > assert(#gc.parameters(model, 'fc, hidden1.bias') == 3)
function M.parameters(model, which)
  local names, known, chosen, list, places = {}, {}, {}, {}, {}
  for name in model:named_parameters() do
    names[#names + 1], known[name] = name, { name }
    for stop in name:gmatch '()%.' do -- the modules that it is part of
      local module = name:sub(1, stop - 1)
      known[module] = known[module] or {}
      table.insert(known[module], name)
    end
  end
  local words = which == 'all' and table.concat(names, ',') or which == 'first' and names[1]
                or which
  for word in words:gmatch '[^,%s]+' do
    if not known[word] then
      fail("gradient_cancelling: parameters: the model has no '%s'%s", word,
           nearest.hint(word, known))
    end
    for _, name in ipairs(known[word]) do chosen[name] = true end
  end
  for i, p in ipairs(model:parameters()) do
    if chosen[names[i]] then list[#list + 1], places[#places + 1] = p, i end
  end
  if #list == 0 then fail "gradient_cancelling: parameters: expected 'all', 'first' or names" end
  return list, places
end

-- ---- The loss ----

--- gradient_cancelling.gradients(model, params, x, y, o, how): the gradient of the SUM of the loss
-- over a batch for each parameter of a list; how: {create_graph=, noise=}.
function M.gradients(model, params, x, y, o, how)
  how = how or {}
  local sum = vestige[o.criterion](model(x, how.noise), y, { reduction = 'sum' })
  local grads = vestige.grad(sum, params, { create_graph = how.create_graph, allow_unused = true })
  for i, p in ipairs(params) do grads[i] = grads[i] or vestige.zeros_like(p) end
  return grads
end

--- gradient_cancelling.clean_gradient(model, ds, o, ctx): the gradient of the mean loss over a
-- data set, in batches, for each parameter: g_c of Algorithm 2, line 2.
function M.clean_gradient(model, ds, o, ctx)
  local params, sums, named = model:parameters(), {}, {}
  for i, p in ipairs(params) do
    sums[i] = vestige.zeros_like(p)
    named[tostring(i)] = sums[i]
  end
  local it, states = batches.new(ds, o.batch_size), { clean = perturb.held(named) }
  for step in ctx:steps(it:count(), { states = states, label = 'clean gradient' }) do
    local b = it:of_step(step)
    local grads = M.gradients(model, params, b.x, b.y, o, { noise = b.noise })
    vestige.no_grad(function()
      for i, g in ipairs(grads) do sums[i]:add_(g) end
    end)
  end
  it:close()
  for i, s in ipairs(sums) do sums[i] = s / ds:size() end
  return sums
end

--- gradient_cancelling.weights(o, clean, poisons): what g_c, the mean over the clean samples, and
-- the poisons' summed gradient are multiplied by: N / (N + P) and 1 / (N + P), so that the loss is
-- that of the gradient of the mean loss on all samples; N and 1, of the summed loss; or 1 and 1 / P
-- (equation 4).
-- Example:
-- > local gc = require 'vestige.attacks.gradient_cancelling'
-- > local c, p = gc.weights({ weighting = 'samples' }, 90, 10)
-- > assert(c == 0.9 and p == 0.01)
function M.weights(o, clean, poisons)
  if o.weighting == 'sets' then return 1, 1 / poisons end
  if o.weighting == 'sums' then return clean, 1 end
  return clean / (clean + poisons), 1 / (clean + poisons)
end

--- gradient_cancelling.loss(model, params, clean, x, y, weight, o): L = |r|^2 / 2 with
-- r = clean + weight * the poisons' summed gradient (equation 4; Algorithm 2, lines 4 and 5), and
-- its gradient for the poisons x (P, ...). clean: a list of tensors like params.
-- More than o.batch_size poisons are done in batches, in two passes: one for r, which goes into the
-- gradient of all of them, one for the gradient.
function M.loss(model, params, clean, x, y, weight, o)
  return vestige.scope(function()
    local total, parts = x:size(1), {}
    for first = 1, total, o.batch_size do
      local n = math.min(o.batch_size, total - first + 1)
      parts[#parts + 1] = { x = x:detach():narrow(1, first, n):clone():requires_grad_(),
                            y = y:narrow(1, first, n) }
    end
    local at_once, r = #parts == 1, {}
    local function gradients(part, graph)
      return M.gradients(model, params, part.x, part.y, o, { create_graph = graph })
    end
    for i, g in ipairs(clean) do r[i] = g:clone() end
    for _, part in ipairs(parts) do
      vestige.scope(function()
        local grads = gradients(part, at_once)
        for i, g in ipairs(grads) do vestige.no_grad(r[i].add_, r[i], g:detach() * weight) end
        part.grads = at_once and grads
        return part.grads
      end)
    end
    local out = {}
    for k, part in ipairs(parts) do
      out[k] = vestige.scope(function()
        local inner
        for i, g in ipairs(part.grads or gradients(part, true)) do
          local d = (g * r[i]):sum()
          inner = inner and inner + d or d
        end
        return vestige.grad(inner * weight, part.x)
      end)
    end
    return perturb.squares(r):item() / 2, at_once and out[1] or vestige.cat(out, 1)
  end)
end

-- ---- Cancelling ----

-- The perturbation p (in pixels) within the set Gamma.
local function project(p, x, o)
  if o.eps then p = p:clamp(-o.eps / 255, o.eps / 255) end
  return o.clamp and (x + p):clamp(0, 1) - x or p
end

--- gradient_cancelling.cancel(model, params, clean, x, y, weight, o, ctx): the changed samples and
-- the loss before and after. x: samples as the model takes them, y: their labels; the others as in
-- gradient_cancelling.loss. Steps are in units of the normalised input.
function M.cancel(model, params, clean, x, y, weight, o, ctx)
  local _, std = perturb.units(model, x:dtype())
  local delta = vestige.zeros_like(x):requires_grad_()
  local opt = optim.make({ delta }, { name = o.optimizer, lr = o.lr })
  local rate = optim.schedule.make({ name = o.schedule }, o.lr, o.steps)
  local function loss()
    return M.loss(model, params, clean, x + delta:detach() * std, y, weight, o)
  end
  local before = loss()
  local states = { poison = perturb.held{ delta = delta }, optim = opt }
  for step in ctx:steps(o.steps, { states = states, label = 'cancel' }) do
    local now, g = loss()
    if not (now < math.huge) then
      fail('gradient_cancelling: the loss is %g at step %d; it was %.3g: try a smaller lr than %g',
           now, step, before, o.lr)
    end
    if o.objective == 'norm' then g = g / math.sqrt(2 * now) end
    opt:set_lr(rate(step - 1))
    opt:step{ g * std }
    vestige.no_grad(function() delta:copy_(project(delta:detach() * std, x, o) / std) end)
  end
  return x + project(delta:detach() * std, x, o), before, (loss())
end

-- ---- Reachability ----

-- Lambert's W for x >= 0: w e^w = x, by Newton's steps.
local function lambert_w(x)
  local w = math.log(1 + x)
  for _ = 1, 50 do
    local e = math.exp(w)
    w = w - (w * e - x) / (e * (w + 1))
  end
  return w
end

--- gradient_cancelling.reachability(model, clean): the least eps_d = P / N with which poisons can
-- cancel the clean gradient of softmax regression; nil for another model. clean: the gradient g_c
-- of the mean cross entropy for all parameters w. It is <g_c, w> / W((K - 1) / e) for K classes, W
-- Lambert's function; below it no poisons can, wherever they lie.
-- Source: Lu et al. (2023) have <g_c, w> / W(1/e), W(1/e) = 0.2785, for two classes. For K: a
-- poison with logits z gives <grad, w> = sum_k p_k z_k - z_y, whose least value, -W((K - 1) / e),
-- is at z_y = 1 + W((K - 1) / e) above the other logits.
function M.reachability(model, clean)
  local names = {}
  for name in model:named_parameters() do names[#names + 1] = name end
  for _, name in ipairs(names) do
    if not name:find '^fc%.' then return nil end
  end
  local dot = 0
  for i, p in ipairs(model:parameters()) do dot = dot + (clean[i] * p:detach()):sum():item() end
  return math.max(0, dot / lambert_w((model.fc.out_features - 1) * math.exp(-1)))
end

-- ---- The attack ----

-- Instead of each perturbation Gaussian noise of the same length.
local function noise_like(p, rng)
  local noise = vestige.randn(p:shape(), { dtype = p:dtype(), generator = rng })
  local rows = { p:size(1), -1 }
  local scale = p:reshape(rows):norm{ dim = 2, keepdim = true }
                / noise:reshape(rows):norm{ dim = 2, keepdim = true }
  return (noise:reshape(rows) * scale):reshape(p:shape())
end

-- How theta_low does on samples, in evaluation mode.
local function measured(model, ds, o)
  return train.evaluate(model, ds, {
    batch_size = o.batch_size,
    loss = function(logits, y) return vestige[o.criterion](logits, y) end,
  })
end

--- attack gradient_cancelling: adds share N samples that start from training samples, with their
-- labels, and are moved until their gradient at theta_low cancels that of the clean samples.
-- theta_low lies within eps_w of a model trained on the clean data. It knows data, training and
-- architecture (Table 1).
-- Returns {data, forget = the added ids, base = the ids that they started from, estimates}.
-- estimates: loss_before, loss_after (L at the start and at the end); clean_accuracy, low_accuracy,
-- low_loss (of theta_0 and theta_low, on ctx.test where there is one, else on the data); share
-- (eps_d = P / N) and, for softmax regression, reachable_share (gradient_cancelling.reachability);
-- moved: the mean l2 length of a perturbation, in units of the normalised input.
-- Errors: a share of no sample, a parameter that the model does not have, steps so long that the
-- loss is not finite.
function M.poison(ds, o, ctx)
  o = M.options(o)
  local count, rng = count_of(o, ds), ctx:rng 'poison'
  local start = ctx:clean_model(1)
  M.parameters(start, o.parameters) -- raises before anything is computed
  local low = gradpc.target(start, ds, o, ctx):train(o.norm == 'train')
  local tested = ctx.test or ds
  local at_start, at_low = measured(start, tested, o), measured(low, tested, o)
  local base = o.init == 'first' and ds:first(count) or ds:sample(count, rng)
  local own, places = M.parameters(low, o.parameters)
  local all, clean = M.clean_gradient(low, ds, o, ctx), {}
  local reachable = o.criterion == 'cross_entropy' and M.reachability(low, all) or nil
  local clean_weight, weight = M.weights(o, ds:size(), count)
  for i, place in ipairs(places) do clean[i] = all[place] * clean_weight end
  local x = perturb.pixels(base.x)
  local made, before, after = M.cancel(low, own, clean, x, base.y, weight, o, ctx)
  if o.control then made = x + noise_like(made - x, ctx:rng 'control') end
  local _, std = perturb.units(low, x:dtype())
  local columns = {}
  for name, t in pairs(base.columns) do
    if name ~= 'id' then columns[name] = t end
  end
  columns.x = made
  local data, forget = ds:append(columns), {}
  for i, id in ipairs(data:ids()) do
    if i > ds:size() then forget[#forget + 1] = id end
  end
  return { data = data, forget = forget, base = base:ids(), estimates = {
    loss_before = before, loss_after = after, clean_accuracy = at_start.accuracy,
    low_accuracy = at_low.accuracy, low_loss = at_low.loss, share = count / ds:size(),
    reachable_share = reachable,
    moved = ((made - x) / std):reshape(count, -1):norm{ dim = 2 }:mean():item(),
  } }
end

return M
