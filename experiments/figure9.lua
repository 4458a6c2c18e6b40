-- Figure 9: Gaussian poisons, 1.5, 2 and 2.5 % of the training images (at small scale more: so few
-- of a few thousand cannot be told). See --help.
local experiment = require 'vestige.experiment'
local format = require 'vestige.format'
local grid = require 'vestige.grid'
local plot = require 'vestige.plot'

local e = experiment.start(arg, {
  usage = 'vestige experiments/figure9.lua',
  about = 'Does the size of the forget set change what the methods leave of Gaussian poisons?',
  methods = grid.methods,
  { 'shares', { 0.05, 0.1, 0.15 }, 'b_p: the shares that are poisoned, one after the other',
    of = 'number' },
  noise = true,
  scales = { small = experiment.small(), paper = { shares = { 0.015, 0.02, 0.025 } } },
})
if not e then return end

local settings = {}
for i, share in ipairs(e.o.shares) do
  settings[i] = { name = ('%g %%'):format(100 * share), attack = 'gaussian',
                  options = e:gaussian(share) }
end
local cells, results = grid.run(e, { settings = settings })
local methods = grid.values(cells, 'method')
local dir = e:folder('figure9', results[1][1].train)

local function panels(name)
  local list = {}
  for i, s in ipairs(settings) do
    list[i] = grid.series(grid.where(cells, { setting = s.name }), name, methods, 'method')
    list[i].label = s.name
  end
  return list
end

local function bars(file, name, title)
  return plot.bars(dir .. '/' .. file, {
    title = title, width = 960, ylabel = grid.measures[name].text,
    categories = grid.labels(methods), series = panels(name) }).svg
end

local found = grid.table(cells, { 'setting', 'method' },
                         { 'accuracy', 'gus', 'remaining', 'tpr', 'collapsed' })
found.title, found.file = 'Mean over seeds [95 %]', 'figure9'

-- What a method leaves of GUS, at the largest share less at the smallest.
local function conclusion()
  local parts, changed, told = {}, {}, 0
  for i, s in ipairs(settings) do
    local before = grid.over_seeds(grid.where(cells, { setting = s.name, method = 'none' }), 'z')
    parts[i] = ('%.1f at %s'):format(before and before.estimate or 0 / 0, s.name)
  end
  for _, method in ipairs(methods) do
    local function at(s) return grid.where(cells, { setting = s.name, method = method }) end
    local d = method ~= 'none'
              and grid.paired(at(settings[#settings]), at(settings[1]), 'remaining')
    if d then
      told = told + 1
      if d.lo > 0 or d.hi < 0 then
        changed[#changed + 1] = ('%s (by %s)'):format(grid.names[method] or method,
                                                      format.interval(d, 2))
      end
    end
  end
  local text = ('z of GUS before unlearning: %s.'):format(table.concat(parts, ', '))
  if #settings < 2 or told == 0 then return text end
  local apart = (' from %s to %s of poisons'):format(settings[1].name, settings[#settings].name)
  return text .. (#changed == 0
    and (' The share of it that a method leaves changes for none of %d methods'):format(told)
    or ' The share of it that a method leaves changes for ' .. table.concat(changed, ', ')
       .. (', of %d methods,'):format(told)) .. apart .. ', as far as the seeds can tell.'
end

grid.finish(e, {
  dir = dir, cells = cells, title = 'The size of the forget set (Figure 9)',
  conclusion = conclusion(), tables = { found },
  text = ('%d training images (%s); each method has %g of the original steps.'):format(
    e.train:size(), e.kind, e.o.budget),
  figures = {
    { title = 'Figure 9', svg = bars('figure9', 'minus_gus', 'Gaussian poisons by share'),
      caption = '-GUS after every method, by the share that was poisoned.' },
    { title = 'Test accuracy', svg = bars('accuracy', 'accuracy', 'Test accuracy by share'),
      caption = 'Test accuracy, by the share that was poisoned.' } },
})
