-- Figure 3, images: a targeted attack (gradient matching) before and after every method: is the
-- target still taken for the adversarial class? One seed is one target. See --help.
local experiment = require 'vestige.experiment'
local format = require 'vestige.format'
local grid = require 'vestige.grid'
local plot = require 'vestige.plot'

local e = experiment.start(arg, {
  usage = 'vestige experiments/figure3.lua',
  about = 'Do the methods undo a targeted attack? Success over target draws, test accuracy.',
  methods = grid.methods, attack = 'gradient_matching',
  { 'seeds', 6, 'how many targets, from seed on', min = 1, kind = 'int' },
  scales = { small = experiment.small{ train = experiment.targeted },
             paper = { gradient_matching = { share = 0.015 } } },
})
if not e then return end

local cells, results = grid.run(e, {
  settings = { { name = e.o.attack, attack = e.o.attack, options = e.o[e.o.attack] } } })
local methods = grid.values(cells, 'method')
local dir = e:folder('figure3', results[1][1].train)

local found = grid.table(cells, { 'method' },
                         { 'success', 'misclassified', 'margin', 'accuracy', 'collapsed' })
found.title, found.file = 'Over targets [95 %]', 'figure3'
local margins = grid.against(cells, 'margin', 'retrain')
margins.title, margins.file = 'The margin against retraining, paired by target', 'margins'
local hits = grid.against(cells, 'success', 'retrain')
hits.title, hits.file = 'Success against retraining, paired by target (McNemar, exact)', 'success'
local figure = plot.bars(dir .. '/figure3', {
  title = 'A targeted attack before and after unlearning', width = 960, ylabel = '%',
  categories = grid.labels(methods),
  series = { grid.series(cells, 'accuracy', methods, 'method'),
             grid.series(cells, 'success', methods, 'method') } })
local moved = plot.bars(dir .. '/margin', {
  title = 'How near the target is to the adversarial class', width = 960,
  ylabel = grid.measures.margin.text, categories = grid.labels(methods),
  series = { grid.series(cells, 'margin', methods, 'method') } })

-- The margin is the primary measure: it moves before a target is taken.
local function conclusion()
  local before = grid.where(cells, { method = 'none' })
  local clean = grid.where(cells, { method = 'retrain' })
  local taken = grid.over_seeds(before, 'success')
  local said = ('The attack takes %.0f %% of %d targets'):format(taken.estimate, taken.n)
  local hit, margin = grid.paired(before, clean, 'success'), grid.paired(before, clean, 'margin')
  if not margin then return said .. '.' end
  said = ('%s (against retraining, exact McNemar: p %s) and moves the margin by %s (p %s).'):format(
    said, format.probability(hit.p), format.interval(margin, 2), format.probability(margin.p))
  if margin.lo <= 0 then return said .. ' This scale cannot tell what the methods remove.' end
  local left = {}
  if #e.methods == 1 then return said end -- retraining alone, for many targets
  for _, method in ipairs(e.methods) do
    local d = margins.by[method]
    if d and d.estimate > 0 and d.adjusted <= 0.05 and not method:match '^retrain' then
      left[#left + 1] = ('%s (%.1f)'):format(grid.names[method] or method, d.estimate)
    end
  end
  return ('%s The margin stays above that of retraining after %s.'):format(said,
    #left > 0 and table.concat(left, ', ') or 'no method')
end

grid.finish(e, {
  dir = dir, cells = cells, title = 'Unlearning a targeted attack (Figure 3, images)',
  conclusion = conclusion(), tables = { found, margins, hits },
  text = ('%d training images (%s), attack %s; each method has %g of the original steps. A target '
          .. 'is taken when y_adv is predicted. Retraining without the poisons is the clean '
          .. 'baseline: a target may be taken for y_adv by itself.'):format(e.train:size(), e.kind,
          e.o.attack, e.o.budget),
  figures = { { title = 'Figure 3', svg = figure.svg,
                caption = 'Test accuracy (mean over targets, 95 %) and the share of targets taken '
                          .. '(Wilson, 95 %).' },
              { title = 'The margin', svg = moved.svg,
                caption = 'Above 0 y_adv is likelier than the true class; mean over targets, 95 %.'
              } },
})
