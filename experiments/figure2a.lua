-- Figure 2a: Gaussian poisons in an image classifier, before and after every method: test accuracy,
-- and how many poisons are found at a false positive rate of 1 %. See --help.
local experiment = require 'vestige.experiment'
local grid = require 'vestige.grid'
local plot = require 'vestige.plot'
local verdict = require 'vestige.verdict'

local e = experiment.start(arg, {
  usage = 'vestige experiments/figure2a.lua',
  about = 'Do the methods remove Gaussian poisons? Test accuracy and TPR beside retraining.',
  methods = grid.methods,
  { 'share', 0.1, 'b_p: the share of the training images that is poisoned', min = 0, max = 1 },
  noise = true,
  scales = { small = experiment.small(), paper = { share = 0.015 } },
})
if not e then return end

local cells, results = grid.run(e, {
  settings = { { name = 'gaussian', attack = 'gaussian', options = e:gaussian(e.o.share) } } })
local methods = grid.values(cells, 'method')
local dir = e:folder('figure2a', results[1][1].train)

-- How many seeds each verdict has, a row a method.
local function verdicts()
  local rows = {}
  for _, method in ipairs(methods) do
    local counts, order = {}, {}
    for _, c in ipairs(grid.where(cells, { method = method })) do
      local said = c.verdict and (c.collapsed and 'collapsed' or c.verdict.verdict)
      if said then
        if not counts[said] then order[#order + 1] = said end
        counts[said] = (counts[said] or 0) + 1
      end
    end
    for i, said in ipairs(order) do order[i] = ('%s: %d'):format(said, counts[said]) end
    if #order > 0 then rows[#rows + 1] = { method, table.concat(order, ', ') } end
  end
  return { title = 'Verdicts, number of seeds', file = 'verdicts',
           header = { 'method', 'verdicts' }, rows = rows }
end

local function conclusion()
  local kept, tells = {}, false
  for _, method in ipairs(methods) do
    local of, remains = grid.where(cells, { method = method }), 0
    for _, c in ipairs(of) do
      tells = tells or c.verdict and c.verdict.verdict ~= verdict.words.cannot_tell
      if c.verdict and not c.collapsed and c.verdict.verdict == verdict.words.remains then
        remains = remains + 1
      end
    end
    if remains > 0 and not method:match '^retrain' then
      kept[#kept + 1] = ('%s (%d of %d)'):format(grid.names[method], remains, #of)
    end
  end
  if not tells then
    return 'This scale cannot tell: the trained models do not depend on the noise enough.'
  end
  return #kept > 0 and 'The influence of the poisons remains after ' .. table.concat(kept, ', ')
                       .. ' of the seeds.'
         or 'No method is left with a demonstrable influence of the poisons.'
end

local found = grid.table(cells, { 'method' },
                         { 'accuracy', 'gus', 'remaining', 'tpr', 'tpr_signed', 'collapsed' })
found.title, found.file = 'Mean over seeds [95 %]', 'figure2a'
local paired = grid.against(cells, 'minus_gus', 'retrain')
paired.title, paired.file = 'GUS against retraining, paired by seed', 'paired'
local labels = grid.labels(methods)
local gold = grid.over_seeds(grid.where(cells, { method = 'retrain' }), 'accuracy')
local kept = plot.bars(dir .. '/accuracy', {
  title = 'Test accuracy', width = 960, ylabel = '%', categories = labels,
  series = { grid.series(cells, 'accuracy', methods, 'method') },
  lines = gold and { { y = gold.estimate, label = 'retrained' } } or nil })
local figure = plot.bars(dir .. '/figure2a', {
  title = 'Poisons found at a false positive rate of 1 %', width = 960, ylabel = 'TPR of |I|, %',
  categories = labels, series = { grid.series(cells, 'tpr', methods, 'method') },
  lines = { { y = 1, label = 'FPR' } } })
local scores = plot.bars(dir .. '/gus', {
  title = 'The Gaussian unlearning score', width = 960, ylabel = '-GUS', categories = labels,
  series = { grid.series(cells, 'minus_gus', methods, 'method') } })

grid.finish(e, {
  dir = dir, cells = cells, title = 'Unlearning Gaussian poisons (Figure 2a)',
  conclusion = conclusion(), tables = { found, paired, verdicts() },
  text = ('%d training images (%s), %g of them poisoned; each method has %g of the original steps. '
          .. 'TPR: the share of poisons with |I| above the exact threshold of N(0,1) at a false '
          .. 'positive rate of 1 %%: 1 %% for a model that is independent of the noise. GUS is the '
          .. 'stronger test.'):format(e.train:size(), e.kind, e.o.share, e.o.budget),
  figures = {
    { title = 'Figure 2a, test accuracy', svg = kept.svg,
      caption = 'Test accuracy, mean over seeds with 95 % intervals.' },
    { title = 'Figure 2a, poisons found', svg = figure.svg,
      caption = 'TPR of |I| at FPR 1 %, mean over seeds with 95 % intervals. A method that removed '
                .. 'the poisons has both as retraining has them.' },
    { title = 'GUS', svg = scores.svg, caption = '-GUS, mean over seeds with 95 % intervals: 0 '
                                                 .. 'for a model that never saw the noise.' } },
  next = { 'build/vestige experiments/mia_vs_gus.lua', 'build/vestige experiments/figure9.lua' },
})
