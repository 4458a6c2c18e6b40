-- Membership inference beside GUS for every method (Figure 2 of the paper's later version): does a
-- standard attack clear a model in which GUS still finds the poisons? See --help.
local experiment = require 'vestige.experiment'
local grid = require 'vestige.grid'
local options = require 'vestige.options'
local plot = require 'vestige.plot'
local protocol = require 'vestige.protocol'
local scoring = require 'vestige.scoring'
local verdict = require 'vestige.verdict'

local e = experiment.start(arg, {
  usage = 'vestige experiments/mia_vs_gus.lua',
  about = 'A loss-threshold membership attack (and LiRA) beside GUS, for every method.',
  methods = grid.methods,
  { 'share', 0.1, 'b_p: the share of the training images that is poisoned', min = 0, max = 1 },
  { 'lira', 0, 'out-models for each sample, at least 16; 0: no likelihood-ratio attack', min = 0,
    kind = 'int' },
  noise = true,
  scales = { small = experiment.small(), paper = { share = 0.015 } },
})
if not e then return end

-- LiRA's models, which all seeds share, side by side.
if e.o.lira > 0 then options.given('--lira', scoring.check_lira, e.o.lira) end
local out_models = {}
for k = 0, 2 * e.o.lira - 1 do
  out_models[k + 1] = { label = ('out-model %d of %d'):format(k + 1, 2 * e.o.lira),
                        pair = math.floor(k / 2) + 1, half = k % 2 + 1 }
end
e:ahead(out_models, function(task)
  protocol.out_model(e.study, e:settings(), task.pair, task.half)
end)

local cells, results = grid.run(e, {
  settings = { { name = 'gaussian', attack = 'gaussian', options = e:gaussian(e.o.share),
                 lira = e.o.lira } } })
local methods = grid.values(cells, 'method')
local dir = e:folder('mia_vs_gus', results[1][1].train)

-- For every method: at how many seeds the membership attack clears it, GUS rejects, and both.
local function disagreement()
  local rows = {}
  for _, method in ipairs(methods) do
    local clears, remains, both, of = 0, 0, 0, grid.where(cells, { method = method })
    for _, c in ipairs(of) do
      local cleared = c.after.mia and c.after.mia.clears
      local left = c.verdict and c.verdict.verdict == verdict.words.remains
                   or not c.verdict and c.after.gus and c.after.gus.rejects
      clears, remains = clears + (cleared and 1 or 0), remains + (left and 1 or 0)
      both = both + (cleared and left and 1 or 0)
    end
    rows[#rows + 1] = { method, clears, remains, both, #of }
  end
  return { title = 'Seeds at which the attack clears a model, GUS finds the poisons, and both',
           header = { 'method', 'membership clears', 'GUS: influence remains', 'both', 'seeds' },
           rows = rows }
end

local function conclusion(rows)
  local missed, found = {}, 0
  for _, r in ipairs(rows) do
    found = found + r[3]
    if r[4] > 0 and r[1] ~= 'none' and not r[1]:match '^retrain' then
      missed[#missed + 1] = ('%s (%d of %d)'):format(grid.names[r[1]] or r[1], r[4], r[5])
    end
  end
  if found == 0 then return 'GUS finds the poisons in no model: this scale cannot tell.' end
  return #missed > 0
         and ('The membership attack clears what GUS does not: %s of the seeds.'):format(
           table.concat(missed, ', '))
         or 'Wherever GUS finds the poisons, the membership attack finds them too.'
end

local measures = { 'accuracy', 'mia', 'mia_tpr', 'gus', 'tpr' }
if e.o.lira > 0 then
  table.insert(measures, 4, 'lira')
  table.insert(measures, 5, 'lira_tpr')
end
local found = grid.table(cells, { 'method' }, measures)
found.title, found.file = 'Mean over seeds [95 %]', 'mia_vs_gus'
local apart = disagreement()
apart.file = 'disagreement'
local figure = plot.bars(dir .. '/mia_vs_gus', {
  title = 'Membership inference beside the Gaussian test', width = 960,
  ylabel = 'TPR at FPR 1 %, %', categories = grid.labels(methods),
  series = { grid.series(cells, 'mia_tpr', methods, 'method'),
             grid.series(cells, 'tpr', methods, 'method') } })
local points = {}
for _, method in ipairs(methods) do
  local s = { label = grid.names[method] or method, x = {}, y = {} }
  for _, c in ipairs(grid.where(cells, { method = method })) do
    local x, y = grid.measures.mia.value(c), grid.measures.minus_gus.value(c)
    if x and y then s.x[#s.x + 1], s.y[#s.y + 1] = x, y end
  end
  if #s.x > 0 then points[#points + 1] = s end
end
local scatter = plot.scatter(dir .. '/scatter', {
  title = 'Every model, by both tests', xlabel = 'membership AUC', ylabel = '-GUS',
  lines = { { y = 0 }, { x = 0.5 } }, series = points })

grid.finish(e, {
  dir = dir, cells = cells, title = 'Membership inference beside GUS',
  conclusion = conclusion(apart.rows), tables = { found, apart },
  text = ('%d training images (%s), %g of them poisoned; each method has %g of the original steps. '
          .. 'Members are the poisons as trained, non-members test images with fresh noise of the '
          .. 'same law. The attack clears a model when the 95 %% interval of its AUC holds 0.5.')
         :format(e.train:size(), e.kind, e.o.share, e.o.budget),
  figures = {
    { title = 'Both tests at FPR 1 %', svg = figure.svg,
      caption = 'How many poisons each test finds at a false positive rate of 1 %, mean over seeds '
                .. 'with 95 % intervals.' },
    { title = 'Every model', svg = scatter.svg,
      caption = 'One point a seed and method. Cleared by the attack: near 0.5; by GUS: near 0.' } },
})
