-- Table 2: test accuracy after unlearning an indiscriminate attack (gradient cancelling), by
-- method, budget and share of poisons, beside the paper's numbers. See --help.
local experiment = require 'vestige.experiment'
local format = require 'vestige.format'
local grid = require 'vestige.grid'
local plot = require 'vestige.plot'

-- The paper's accuracies in per cent: method -> share -> by budget 2, 4, 6, 8, 10 %. Retraining and
-- GA and NegGrad+, at chance, are given once for all shares. The second column of CFk is printed as
-- 2.5 % a second time; it is read as 2 %.
local paper = {
  none = { [0.015] = 81.67, [0.02] = 77.20, [0.025] = 69.62 },
  retrain_budget = { all = { 87.04, 88.23, 88.79, 89.14, 89.24 } },
  ga = { all = { 10, 10, 10, 10, 10 } }, neggrad_plus = { all = { 10, 10, 10, 10, 10 } },
  gd = { [0.015] = { 83.67, 85.86, 86.81, 87.31, 87.71 },
         [0.02] = { 84.34, 86.05, 86.88, 87.27, 87.57 },
         [0.025] = { 83.48, 85.37, 86.11, 86.45, 86.69 } },
  cfk = { [0.015] = { 68.09, 69.39, 70.27, 70.77, 71.20 },
          [0.02] = { 69.71, 71.13, 71.91, 72.33, 72.69 },
          [0.025] = { 59.83, 61.55, 62.57, 63.30, 63.80 } },
  euk = { [0.015] = { 29.31, 39.81, 43.51, 47.27, 49.90 },
          [0.02] = { 27.71, 39.33, 44.83, 48.02, 50.65 },
          [0.025] = { 25.18, 33.00, 38.43, 40.84, 43.26 } },
  scrub = { [0.015] = { 83.72, 85.31, 85.39, 85.46, 85.48 },
            [0.02] = { 84.21, 85.35, 85.43, 85.57, 85.45 },
            [0.025] = { 82.67, 83.97, 84.07, 84.17, 84.15 } },
}
-- From the best to the worst, at the largest budget, in the paper.
local ORDER = { 'gd', 'scrub', 'none', 'cfk', 'euk' }

local e = experiment.start(arg, {
  usage = 'vestige experiments/table2.lua',
  about = [[
Accuracy after unlearning an indiscriminate attack, by method, budget and share. The paper has each
method's best of a search on the test images: `vestige search --select test` writes a file for
--method-options.]],
  methods = { 'retrain', 'retrain_budget', 'ga', 'neggrad_plus', 'gd', 'cfk', 'euk', 'scrub' },
  attack = 'gradient_cancelling',
  { 'shares', { 0.015, 0.02, 0.025 }, 'b_p: poisons over clean samples', of = 'number' },
  { 'budgets', { 0.02, 0.04, 0.06, 0.08, 0.1 }, "shares of the original run's steps",
    of = 'number' },
  { 'control', false, 'also with noise of the same length in place of the poisons' },
  scales = { small = experiment.small{ shares = { 0.02, 0.03 }, budgets = { 0.02, 0.06, 0.1 } } },
})
if not e then return end
local o = e.o

local settings = {}
local function add(share, control)
  local given = {}
  for k, v in pairs(o[o.attack]) do given[k] = v end
  given.share = share
  if control then given.control = true end
  settings[#settings + 1] = { name = ('%g %%%s'):format(100 * share, control and ' noise' or ''),
                              attack = o.attack, options = given, share = share,
                              methods = control and { 'retrain' } or nil }
end
for _, share in ipairs(o.shares) do
  add(share)
  if o.control then add(share, true) end
end
local cells, results = grid.run(e, { settings = settings, budgets = o.budgets })
local dir = e:folder('table2', results[1][1].train)
local last = o.budgets[#o.budgets]

local function printed(method, share, k)
  local of = paper[method]
  local row = of and (of.all or of[share])
  if type(row) == 'number' then return row end
  local budget = row and math.floor(o.budgets[k] * 50 + 0.5)
  return row and math.abs(o.budgets[k] * 50 - budget) < 1e-9 and row[budget] or nil
end

-- The table as the paper prints it, ours [95 %] and the paper's.
local function as_printed()
  local rows, header = {}, { 'share', 'method' }
  for k, budget in ipairs(o.budgets) do header[k + 2] = ('%g %%'):format(100 * budget) end
  for _, s in ipairs(settings) do
    for _, method in ipairs(grid.values(cells, 'method')) do
      local row, any = { s.name, grid.names[method] or method }, false
      for k, budget in ipairs(o.budgets) do
        local t = grid.over_seeds(grid.where(cells, { setting = s.name, method = method,
                                                      budget = budget }), 'accuracy')
        local theirs = printed(method, s.share, k)
        any = any or t ~= nil
        row[k + 2] = t and format.interval(t, 1)
                     .. (theirs and (' (%.1f)'):format(theirs) or '')
      end
      if any then rows[#rows + 1] = row end
    end
  end
  return { title = "Test accuracy in %, mean over seeds [95 %] (the paper's)", file = 'table2',
           header = header, rows = rows }
end

-- Each adjacent pair of the paper's order, paired by seed.
local function ordering()
  local rows = {}
  for _, s in ipairs(settings) do
    local of = grid.where(cells, { setting = s.name, budget = last })
    for i = 1, #ORDER - 1 do
      local d = grid.paired(grid.where(of, { method = ORDER[i] }),
                            grid.where(of, { method = ORDER[i + 1] }), 'accuracy')
      if d then
        rows[#rows + 1] = { s.name, ('%s less %s'):format(grid.names[ORDER[i]],
                                                          grid.names[ORDER[i + 1]]),
                            format.interval(d, 1), format.probability(d.p), d.n,
                            d.lo > 0 and 'as in the paper' or d.hi < 0 and 'the other way round'
                            or 'cannot be told' }
      end
    end
  end
  return { title = ("The paper's order at budget %g, paired by seed"):format(last),
           header = { 'share', 'difference', 'points [95 %]', 'p', 'seeds', 'order' },
           rows = rows, file = 'order' }
end

-- What the attack did: L before and after, theta_low, and the victim against retraining.
local function attack_rows()
  local rows = {}
  for _, s in ipairs(settings) do
    local of = grid.where(cells, { setting = s.name, budget = last })
    local before = grid.where(of, { method = 'none' })
    local d = grid.paired(before, grid.where(of, { method = 'retrain' }), 'accuracy')
    local p = before[1].poison
    rows[#rows + 1] = { s.name, p.loss_before or false, p.loss_after or false,
                        p.low_accuracy or false, d and format.interval(d, 1) or false,
                        d and format.probability(d.p) or false }
  end
  return { title = 'What the attack did (L and theta_low of the first seed)',
           header = { 'share', 'L before', 'L after', 'accuracy of theta_low',
                      'poisoned less retrained, points', 'p' }, rows = rows, file = 'attack' }
end

local methods, bars = grid.values(cells, 'method'), {}
for i, s in ipairs(settings) do
  bars[i] = grid.series(grid.where(cells, { setting = s.name, budget = last }), 'accuracy', methods,
                        'method')
  bars[i].label = s.name
end
local figure = plot.bars(dir .. '/table2', {
  title = ('Accuracy after unlearning, budget %g'):format(last), width = 960,
  ylabel = 'test accuracy, %', categories = grid.labels(methods), series = bars })

-- The shares at which the poisoned models are demonstrably worse than the retrained ones, and,
-- where there are controls, than those with noise.
local function shares_that_worked()
  local worked = {}
  local function before(setting, method)
    return grid.where(cells, { setting = setting, budget = last, method = method })
  end
  for i, s in ipairs(settings) do
    local control = o.control and settings[i + 1]
    local d = grid.paired(before(s.name, 'none'), before(s.name, 'retrain'), 'accuracy')
    local beside = control and grid.paired(before(s.name, 'none'), before(control.name, 'none'),
                                           'accuracy')
    if not s.options.control and d and d.hi < 0 and not (beside and beside.hi >= 0) then
      worked[#worked + 1] = s.name
    end
  end
  return worked
end

local function conclusion(order)
  local worked = shares_that_worked()
  if #worked == 0 then
    return ('The attack does not lower accuracy demonstrably at this scale%s, so unlearning it '
            .. 'cannot be told.'):format(o.control and ', beside noise of the same length' or '')
  end
  local same = 0
  for _, row in ipairs(order.rows) do
    if row[6] == 'as in the paper' then same = same + 1 end
  end
  return ("The attack lowers accuracy at %s; of the paper's order %d of %d adjacent pairs hold.")
    :format(table.concat(worked, ', '), same, #order.rows)
end

local order, attack = ordering(), attack_rows()
grid.finish(e, {
  dir = dir, cells = cells, title = 'Unlearning an indiscriminate attack (Table 2)',
  conclusion = conclusion(order), tables = { as_printed(), order, attack },
  text = ('%d training images (%s), model %s; the paper: 50,000 CIFAR-10 images, ResNet-18, 100 '
          .. 'epochs, 8 runs, the best of a search over rates on the test set.'):format(
    e.train:size(), e.kind, o.model),
  figures = { { title = ('Budget %g'):format(last), svg = figure.svg,
                caption = 'Test accuracy by method and share, mean over seeds with 95 % '
                          .. 'intervals.' } },
  next = { 'build/vestige search --method gd,cfk,euk,scrub --attack gradient_cancelling',
           'build/vestige experiments/table2.lua --method-options chosen.json' },
})
