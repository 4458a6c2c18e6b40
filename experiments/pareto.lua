-- What a method keeps against what it removes: test accuracy and what is left of Gaussian poisons,
-- by the compute that it took. See --help.
local experiment = require 'vestige.experiment'
local grid = require 'vestige.grid'
local plot = require 'vestige.plot'

local e = experiment.start(arg, {
  usage = 'vestige experiments/pareto.lua',
  about = 'Accuracy kept against influence removed, by compute, for every method and budget.',
  methods = grid.methods,
  { 'share', 0.1, 'b_p: the share of the training images that is poisoned', min = 0, max = 1 },
  { 'budgets', { 0.02, 0.1 }, "shares of the original run's steps", of = 'number' },
  noise = true,
  scales = { small = experiment.small(),
             paper = { share = 0.015, budgets = { 0.02, 0.04, 0.06, 0.08, 0.1 } } },
})
if not e then return end

local cells, results = grid.run(e, {
  budgets = e.o.budgets,
  settings = { { name = 'gaussian', attack = 'gaussian', options = e:gaussian(e.o.share) } } })
local dir = e:folder('pareto', results[1][1].train)

-- A point is a method at a budget, over seeds: {method, budget, left, accuracy, flops}.
local function points()
  local list = {}
  for _, method in ipairs(grid.values(cells, 'method')) do
    local once = method == 'none' or method == 'retrain' -- which no budget changes
    for _, budget in ipairs(once and { e.o.budgets[1] } or e.o.budgets) do
      local of = grid.where(cells, { method = method, budget = budget })
      local left = grid.over_seeds(of, 'minus_gus')
      local kept, flops = grid.over_seeds(of, 'accuracy'), grid.over_seeds(of, 'flops')
      if left then
        list[#list + 1] = { method = method, budget = not once and budget or nil,
                            left = math.abs(left.estimate), accuracy = kept.estimate,
                            flops = flops.estimate }
      end
    end
  end
  return list
end

-- Those that no other beats in accuracy, in influence and in compute at once.
local function undominated(list)
  local front = {}
  for _, a in ipairs(list) do
    local beaten = false
    for _, b in ipairs(list) do
      local as_good = b.left <= a.left and b.accuracy >= a.accuracy and b.flops <= a.flops
      local better = b.left < a.left or b.accuracy > a.accuracy or b.flops < a.flops
      beaten = beaten or as_good and better
    end
    if not beaten then front[#front + 1] = a end
  end
  return front
end

local list = points()
local front, rows, names = undominated(list), {}, {}
for i, p in ipairs(front) do
  rows[i] = { p.method, p.budget or false, ('%.3f'):format(p.left), ('%.1f'):format(p.accuracy),
              ('%.2f'):format(p.flops) }
  names[i] = grid.names[p.method] or p.method
  if p.budget then names[i] = ('%s at %g'):format(names[i], p.budget) end
end
local found = grid.table(cells, { 'method', 'budget' },
                         { 'accuracy', 'gus', 'remaining', 'flops', 'seconds', 'collapsed' })
found.title, found.file = 'Mean over seeds [95 %]', 'pareto'

local series = {}
for _, method in ipairs(grid.values(cells, 'method')) do
  local s = { label = grid.names[method] or method, x = {}, y = {} }
  for _, p in ipairs(list) do
    if p.method == method then s.x[#s.x + 1], s.y[#s.y + 1] = p.left, p.accuracy end
  end
  if #s.x > 0 then series[#series + 1] = s end
end
local figure = plot.scatter(dir .. '/pareto', {
  title = 'Accuracy kept against influence left', width = 840, xlabel = '|GUS|, mean over seeds',
  ylabel = 'test accuracy, %', series = series })

grid.finish(e, {
  dir = dir, cells = cells, title = 'Accuracy kept against influence removed',
  conclusion = 'Beaten by none in accuracy, influence and compute at once: '
               .. table.concat(names, ', ') .. '.',
  tables = { found, { title = 'Beaten by none', file = 'front', rows = rows,
                      header = { 'method', 'budget', '|GUS|', 'test accuracy, %', 'TFLOP' } } },
  text = ('%d training images (%s), %g of them poisoned. Means over seeds: points whose intervals '
          .. 'overlap are not told apart.'):format(e.train:size(), e.kind, e.o.share),
  figures = { { title = 'All methods and budgets', svg = figure.svg,
                caption = 'Up and to the left is better; retraining, at full cost, is the goal.'
              } },
})
