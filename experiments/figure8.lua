-- Figure 8, images: what more steps do: test accuracy and what is left of Gaussian poisons over the
-- budget, for EUk and NGD as the paper has them and for any other method. See --help.
local experiment = require 'vestige.experiment'
local grid = require 'vestige.grid'
local plot = require 'vestige.plot'

local e = experiment.start(arg, {
  usage = 'vestige experiments/figure8.lua',
  about = 'Does a larger budget remove more of Gaussian poisons?',
  methods = { 'retrain', 'retrain_budget', 'gd', 'ngd', 'euk' },
  { 'share', 0.1, 'b_p: the share of the training images that is poisoned', min = 0, max = 1 },
  { 'budgets', { 0.02, 0.04, 0.06, 0.08, 0.1 }, "shares of the original run's steps",
    of = 'number' },
  noise = true,
  scales = { small = experiment.small(), paper = { share = 0.015 } },
})
if not e then return end

local cells, results = grid.run(e, {
  budgets = e.o.budgets,
  settings = { { name = 'gaussian', attack = 'gaussian', options = e:gaussian(e.o.share) } } })
local dir = e:folder('figure8', results[1][1].train)

local function lines(file, name, title)
  local series = {}
  for _, method in ipairs(grid.values(cells, 'method')) do
    local s = grid.line(grid.where(cells, { method = method }), name, 'budget')
    s.label, s.dashed = grid.names[method] or method, method == 'none' or method == 'retrain'
    series[#series + 1] = s
  end
  return plot.curves(dir .. '/' .. file, {
    title = title, xlabel = "budget, share of the original run's steps",
    ylabel = grid.measures[name].text, series = series }).svg
end

-- A method's largest budget against its smallest, paired by seed.
local function gains()
  local rows, budgets = {}, e.o.budgets
  for _, method in ipairs(e.methods) do
    local of = grid.where(cells, { method = method })
    local first = grid.where(of, { budget = budgets[1] })
    local d = grid.paired(grid.where(of, { budget = budgets[#budgets] }), first, 'minus_gus')
    local a = grid.paired(grid.where(of, { budget = budgets[#budgets] }), first, 'accuracy')
    if d and a and method ~= 'retrain' then
      rows[#rows + 1] = { method, ('%.3f [%.3f, %.3f]'):format(d.estimate, d.lo, d.hi),
                          ('%.1f [%.1f, %.1f]'):format(a.estimate, a.lo, a.hi), d.n }
    end
  end
  return { title = ('Budget %g, less budget %g'):format(budgets[#budgets], budgets[1]),
           file = 'gains',
           header = { 'method', '-GUS', 'test accuracy, %', 'seeds' }, rows = rows }
end

local found = grid.table(cells, { 'method', 'budget' },
                         { 'accuracy', 'gus', 'remaining', 'tpr', 'collapsed' })
found.title, found.file = 'Mean over seeds [95 %]', 'figure8'
local more = gains()

local function conclusion()
  local said = {}
  for _, row in ipairs(more.rows) do
    said[#said + 1] = ('%s %s'):format(grid.names[row[1]] or row[1], row[2])
  end
  if #said == 0 then return 'One seed: no interval; take --seeds 6.' end
  return ('What the largest budget leaves of -GUS, less what the smallest leaves: %s.'):format(
    table.concat(said, '; '))
end

grid.finish(e, {
  dir = dir, cells = cells, title = 'More steps (Figure 8, images)', conclusion = conclusion(),
  tables = { found, more },
  text = ('%d training images (%s), %g of them poisoned.'):format(e.train:size(), e.kind,
                                                                  e.o.share),
  figures = {
    { title = 'What is left', svg = lines('figure8', 'minus_gus', 'Gaussian poisons by budget'),
      caption = '-GUS over the budget, mean over seeds with 95 % bands.' },
    { title = 'Test accuracy', svg = lines('accuracy', 'accuracy', 'Test accuracy by budget'),
      caption = 'Test accuracy over the budget, mean over seeds with 95 % bands.' } },
})
