-- Figure 4 and appendix E.1: how far a model moves when poisons are unlearned, and when random
-- samples are: ridge softmax regression on the features of a ResNet-18, solved to a tolerance by
-- L-BFGS, so that only the data move it. See --help.
--
-- Poisons are in the places of as many clean samples (E.1: 50,000 with them). Those of gradient
-- cancelling are features; those of gradient matching, the targeted attack, are images that are
-- changed, and come with their features. A large shift is not peculiar to poisons: controls of as
-- many samples stand beside, among them duplicates and Gaussian features of the same length with
-- random labels.
local context = require 'vestige.context'
local data = require 'vestige.data'
local experiment = require 'vestige.experiment'
local format = require 'vestige.format'
local gc = require 'vestige.attacks.gradient_cancelling'
local gm = require 'vestige.attacks.gradient_matching'
local json = require 'vestige.json'
local models = require 'vestige.models'
local optim = require 'vestige.optim'
local options = require 'vestige.options'
local plot = require 'vestige.plot'
local stages = require 'vestige.stages'
local study = require 'vestige.study'
local term = require 'vestige.term'
local vestige = require 'vestige'

local e = experiment.start(arg, {
  usage = 'vestige experiments/figure4.lua',
  about = 'The shift of a linear model when poisons, random samples or controls are unlearned.',
  { 'poisons', 0.00768, 'the share of the samples that is unlearned (E.1: 384 of 50,000)', min = 0,
    max = 0.5 },
  { 'map', '1x1', 'the features, pooled to a map: 1x1 has 512 at width 64, 4x2 4,096, as E.1 says',
    choices = { '1x1', '2x2', '4x2' } },
  { 'ridge', 1e-3, 'of the squared weights', min = 0 },
  { 'tolerance', 1e-7, "L-BFGS's, on the largest gradient", min = 0 },
  { 'cancel_steps', 1000, 'steps of gradient cancelling', min = 1, kind = 'int' },
  { 'cancel_lr', 0.3, "its rate, with Adam and cosine decay", min = 0 },
  { 'eps_w', 1, 'how far GradPC moves the model, in l2', min = 0 },
  { 'brew_steps', 120, 'steps of gradient matching', min = 1, kind = 'int' },
  scales = { paper = { map = '4x2' } },
})
if not e then return end
local o = e.o

local BETAS = { 0.25, 0.5, 0.75, 1 } -- the shares of the poisons that are unlearned

-- ---- The linear problem ----

-- W (d + 1, K) of the least mean cross entropy with a ridge, the last row the bias.
local function solve(x, y, p, start)
  return vestige.scope(function()
    local ones = vestige.ones({ x:size(1), 1 }, { dtype = 'f64' })
    local a = vestige.cat({ x, ones }, 2)
    local w = start and start:clone() or vestige.zeros({ a:size(2), p.classes }, { dtype = 'f64' })
    w:requires_grad_()
    local opt = optim.LBFGS({ w }, { max_iter = 2000, tolerance_grad = p.tolerance,
                                     tolerance_change = 1e-14 })
    opt:step(function()
      return a:matmul(w):cross_entropy(y) + w:square():sum() * (p.ridge / 2)
    end)
    return w:detach()
  end)
end

local function random_labels(n, p, rng)
  return vestige.randint(0, p.classes, { n }, { generator = rng })
end

-- Gradient cancelling in feature space, against the model w.
local function cancelled(x, y, w, count, p)
  local d = x:size(2)
  local model = models.logistic_regression{ inputs = d, classes = p.classes }
  vestige.no_grad(function()
    model.fc.weight:copy_(w:narrow(1, 1, d):t():to 'f32')
    model.fc.bias:copy_(w:narrow(1, d + 1, 1):reshape(-1):to 'f32')
  end)
  local ctx = context.new{ seed = p.seed, recipe = {}, quiet = true,
                           clean = function() return model end }
  local given = options.merge(gc.defaults, {
    share = count / x:size(1), steps = p.cancel_steps, lr = p.cancel_lr, eps_w = p.eps_w,
    batch_size = 4096 }, {})
  local result = ctx:call(gc.poison, data.new{ x = x:to 'f32', y = y }, given)
  local added = result.data:subset(result.forget)
  return added.x:to 'f64', added.y
end

-- Rows of the features, drawn with replacement.
local function some(x, n, rng)
  return x:index_select(1, vestige.randint(0, x:size(1), { n }, { generator = rng }))
end

-- What is unlearned, by name: n samples that a function(x, y, n, p, rng, w) -> x, y makes beside
-- the clean ones, or some of these themselves; the targeted poisons are made by a stage.
local RANDOM, TARGETED = 'random samples', 'gradient matching'
local kinds = {
  { RANDOM }, { TARGETED },
  { 'gradient cancelling', function(x, y, n, p, _, w) return cancelled(x, y, w, n, p) end },
  { 'duplicates, random labels', function(x, _, n, p, rng)
    local rows = some(x, n, rng)
    return rows, random_labels(n, p, rng)
  end },
  { 'Gaussian features of equal norm, random labels', function(x, _, n, p, rng)
    local length = some(x, n, rng):norm{ dim = 2, keepdim = true }
    local g = vestige.randn({ n, x:size(2) }, { generator = rng, dtype = 'f64' })
    return g * (length / g:norm{ dim = 2, keepdim = true }), random_labels(n, p, rng)
  end },
  { 'scaled by 3, random labels', function(x, _, n, p, rng)
    local rows = some(x, n, rng)
    return rows * 3, random_labels(n, p, rng)
  end },
}
for _, kind in ipairs(kinds) do kinds[kind[1]] = kind[2] end

-- {l1, l2} of the shift for each of BETAS: from the model of all samples to that without this share
-- of n of them. x, y: the clean samples; px, py: n poisons beside them, nil where clean ones are
-- unlearned; w: the model of the clean data. solved(): called after each model.
local function shifts(x, y, px, py, n, p, w, solved)
  local function fit(...)
    local model = solve(...)
    solved()
    return model
  end
  local function with(rest, of) -- what is clean, and all poisons but the first ones
    return px and vestige.cat({ of, rest }, 1) or rest
  end
  if not px then -- in random order: the first ones are unlearned
    local order = vestige.randperm(x:size(1), { generator = vestige.generator(p.seed, 'random') })
    x, y = x:index_select(1, order), y:index_select(1, order)
  end
  local all, list = px and fit(with(px, x), with(py, y), p, w) or w, {}
  local from, labels = px or x, py or y
  for i, beta in ipairs(BETAS) do
    list[i] = vestige.scope(function()
      local out = math.floor(beta * n + 0.5)
      local left = from:size(1) - out
      local rest = left == 0 and fit(x, y, p, w)
                   or fit(with(from:narrow(1, out + 1, left), x),
                          with(labels:narrow(1, out + 1, left), y), p, all)
      local d = all - rest
      return { l1 = d:abs():sum():item(), l2 = d:norm():item() }
    end)
  end
  return list
end

-- The rows of x, y without n that are drawn: room for poisons.
local function with_room(x, y, n, rng)
  local rows = vestige.randperm(x:size(1), { generator = rng }):narrow(1, n + 1, x:size(1) - n)
  return x:index_select(1, rows), y:index_select(1, rows)
end

-- ---- Stages ----

-- The features of the images under a model, pooled to a map of so many rows and columns, (N, d).
local function pooled(model, ds, map)
  local rows, columns = map:match '^(%d)x(%d)$'
  model:eval()
  local list = {}
  for b in ds:batches(500) do
    list[#list + 1] = vestige.scope(vestige.no_grad, function()
      return model:maps(b.x):adaptive_avg_pool2d{ tonumber(rows), tonumber(columns) }:flatten(2)
    end)
  end
  return vestige.cat(list, 1)
end

-- x as the features `of` (its own) are centred and of about unit deviation.
local function normalised(x, of)
  of = (of or x):to 'f64'
  return (x:to 'f64' - of:mean(1)) / of:std{ dim = 1 }:mean()
end

-- The clean samples that targeted poisons leave, and these poisons: x, y, px, py.
local function targeted(p, inputs, features)
  local ds, poison = stages.poisoned(inputs.data, inputs.poison)
  local model = stages.load_model(p.model, inputs.train)
  local gone, rows = {}, {}
  for _, id in ipairs(poison.forget) do gone[id] = true end
  for row, id in ipairs(inputs.data:ids()) do
    if not gone[id] then rows[#rows + 1] = row - 1 end
  end
  rows = vestige.tensor(rows, { dtype = 'i64' })
  local changed = ds:subset(poison.forget)
  return normalised(features):index_select(1, rows), inputs.data.y:index_select(1, rows),
         normalised(pooled(model, changed, p.map), features), changed.y
end

-- The linear model of the clean samples, and their features.
local clean = study.stage{
  name = 'softmax', version = 1, unkeyed = { 'loaders' },
  defaults = { model = options.maybe 'table', map = '1x1', ridge = 1e-3, tolerance = 1e-7,
               classes = 10 },
  run = function(p, inputs, ctx)
    return vestige.scope(function()
      local x = pooled(stages.load_model(p.model, inputs.train), inputs.data, p.map)
      vestige.save(ctx.path 'features.safetensors', {
        x = x, w = solve(normalised(x), inputs.data.y, p) })
      return { features = x:size(2) }
    end)
  end,
}

local stage = study.stage{
  name = 'figure4', version = 4, unkeyed = { 'loaders' },
  defaults = { seed = 1, kind = '', model = options.maybe 'table', map = '1x1', poisons = 0.00768,
               ridge = 1e-3, tolerance = 1e-7, cancel_steps = 1000, cancel_lr = 0.3, eps_w = 1,
               classes = 10 },
  run = function(p, inputs, ctx)
    return vestige.scope(function()
      local from = vestige.load(inputs.clean:path 'features.safetensors')
      local n, add = math.floor(p.poisons * from.x:size(1) + 0.5), kinds[p.kind]
      local x, y, w, px, py = normalised(from.x), inputs.data.y, from.w, nil, nil
      if p.kind == TARGETED then
        x, y, px, py = targeted(p, inputs, from.x)
      elseif add then
        x, y = with_room(x, y, n, vestige.generator(p.seed, 'room'))
        px, py = add(x, y, n, p, vestige.generator(p.seed, p.kind), w)
      end
      local done, bar = 0, term.bar{ label = p.kind, total = #BETAS + (px and 1 or 0),
                                     quiet = ctx.quiet }
      local list = shifts(x, y, px, py, n, p, w, function()
        done = done + 1
        bar:update(done)
      end)
      json.save(ctx.path 'shifts.json', list)
      bar:finish(('an l1 shift of %.1f'):format(list[#BETAS].l1))
      return { samples = n, l1 = list[#BETAS].l1, l2 = list[#BETAS].l2 }
    end)
  end,
}

-- Images changed by gradient matching for one target, as many as are unlearned; it knows the model.
local function brewed(seed, trained)
  local n = math.floor(o.poisons * e.train:size() + 0.5)
  return e.study:run(stages.poison, {
    attack = gm.name, version = gm.version, seed = seed, model = e.model,
    options = { share = (n - 0.5) / e.train:size(), steps = o.brew_steps, restarts = 1 },
  }, { data = e.train, test = e.test, clean1 = trained })
end

-- By seed: {clean = record, and by kind one of the stage figure4}.
local records = e:seeds(function(seed, part)
  local trained = e.study:run(stages.train, { model = e.model, recipe = e.recipe, seed = seed },
                              { data = e.train })
  local out = { clean = e.study:run(clean, {
    model = e.model, map = o.map, ridge = o.ridge, tolerance = o.tolerance,
    classes = #e.train.classes }, { data = e.train, train = trained }) }
  local function run(kind, more, inputs)
    local given = { seed = seed, kind = kind, poisons = o.poisons, ridge = o.ridge,
                    tolerance = o.tolerance, classes = #e.train.classes }
    for name, v in pairs(more) do given[name] = v end
    inputs.data, inputs.clean = e.train, out.clean
    return e.study:run(stage, given, inputs)
  end
  for i, kind in ipairs(kinds) do
    local name, mine = kind[1], not part or part == i
    if mine and name == TARGETED then
      out[name] = run(name, { model = e.model, map = o.map },
                      { train = trained, poison = brewed(seed, trained) })
    elseif mine then
      out[name] = run(name, { cancel_steps = o.cancel_steps, cancel_lr = o.cancel_lr,
                              eps_w = o.eps_w }, {})
    end
  end
  return out
end, nil, #kinds)

-- ---- Over seeds ----

local names, found = {}, {}
for i, kind in ipairs(kinds) do names[i] = kind[1] end
for i, r in ipairs(records) do
  found[i] = {}
  for _, name in ipairs(names) do found[i][name] = json.load(r[name]:path 'shifts.json') end
end

local function over(name, k, field)
  local values = {}
  for i, f in ipairs(found) do values[i] = f[name][k][field] end
  return experiment.over(values)
end

local rows, panels = {}, { { title = 'l1', series = {} }, { title = 'l2', series = {} } }
for _, name in ipairs(names) do
  for j, field in ipairs { 'l1', 'l2' } do
    local s = { label = name, x = {}, y = {}, low = {}, high = {}, points = true }
    for k, beta in ipairs(BETAS) do
      local t = over(name, k, field)
      s.x[k], s.y[k] = 100 * beta, t.estimate
      s.low[k], s.high[k] = t.lo or t.estimate, t.hi or t.estimate
    end
    panels[j].series[#panels[j].series + 1] = s
  end
  rows[#rows + 1] = { name, format.interval(over(name, #BETAS, 'l1'), 1),
                      format.interval(over(name, #BETAS, 'l2'), 2) }
end
local dir = e:folder('figure4', records[1].clean)
-- A picture each: the two norms have scales of their own.
local pictures = {}
for j, name in ipairs { 'figure4', 'figure4-l2' } do
  pictures[j] = plot.curves(('%s/%s'):format(dir, name), {
    title = 'How far a linear model moves', width = 900, height = 520, xlabel = 'unlearned, %',
    ylabel = 'shift, ' .. panels[j].title, series = panels[j].series })
end
local conclusion = ('Poisons by gradient cancelling shift the model by %s in l1, those by gradient '
  .. 'matching by %s, random samples by %s; duplicates with random labels, which are no attack, by '
  .. '%s.'):format(rows[3][2], rows[2][2], rows[1][2], rows[4][2])

e:finish{
  dir = dir, title = 'Hypothesis 1 (Figure 4, appendix E.1)', conclusion = conclusion,
  tables = { { title = 'Shift when all are unlearned, mean over seeds [95 %]', file = 'figure4',
               header = { 'unlearned', 'l1', 'l2' }, rows = rows } },
  text = ('Softmax regression with a ridge of %g on %d features of %s (width %d), %d training '
          .. 'images (%s), %d samples unlearned; L-BFGS to a largest gradient of %g.'):format(
    o.ridge, records[1].clean.estimates.features, o.model, o.width, e.train:size(), e.kind,
    records[1][RANDOM].estimates.samples, o.tolerance),
  figures = {
    { title = 'Figure 4', svg = pictures[1].svg,
      caption = 'The shift of the solution over the share that is unlearned, in l1.' },
    { title = 'The same in l2', svg = pictures[2].svg,
      caption = 'The shift of the solution over the share that is unlearned, in l2.' } },
}
