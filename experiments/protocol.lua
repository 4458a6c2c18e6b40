-- The protocol (section 3.4) on any grid: attacks x shares x methods x budgets x seeds, in one
-- table. See --help.
local experiment = require 'vestige.experiment'
local grid = require 'vestige.grid'
local options = require 'vestige.options'
local plot = require 'vestige.plot'
local plugins = require 'vestige.plugins'

local e = experiment.start(arg, {
  usage = 'vestige experiments/protocol.lua',
  about = 'Any attacks, shares, methods, budgets and seeds, measured by all that applies.',
  methods = { 'retrain', 'gd' }, attack = 'gaussian',
  { 'attacks', {}, 'attacks, one after the other; default: --attack', of = 'string' },
  { 'shares', {}, 'b_p, one after the other; default: what each attack has', of = 'number' },
  { 'budgets', {}, "shares of the original run's steps; default: --budget", of = 'number' },
})
if not e then return end
local o = e.o

local attacks = #o.attacks > 0 and o.attacks or { o.attack }
local settings = {}
for _, name in ipairs(attacks) do
  options.given('--attacks', plugins.find, 'attacks', name)
  for _, share in ipairs(#o.shares > 0 and o.shares or { false }) do
    local given = {}
    for k, v in pairs(o[name] or {}) do given[k] = v end
    if share then given.share = share end
    settings[#settings + 1] = { name = share and ('%s %g'):format(name, share) or name,
                                attack = name, options = given }
  end
end
local budgets = #o.budgets > 0 and o.budgets or { o.budget }
local cells, results = grid.run(e, { settings = settings, budgets = budgets })
local dir = e:folder('protocol', results[1][1].train)

-- A measure that no cell has is left out.
local measures = {}
for _, name in ipairs { 'accuracy', 'gus', 'remaining', 'tpr', 'mia', 'success', 'margin',
                        'agreement', 'collapsed', 'seconds' } do
  if grid.over_seeds(cells, name) then measures[#measures + 1] = name end
end
local found = grid.table(cells, { 'setting', 'budget', 'method' }, measures)
found.title, found.file = 'Mean over seeds [95 %]', 'protocol'

local figures, methods = {}, grid.values(cells, 'method')
for i, s in ipairs(settings) do
  local of = grid.where(cells, { setting = s.name, budget = budgets[#budgets] })
  local name = grid.over_seeds(of, 'minus_gus') and 'minus_gus'
               or grid.over_seeds(of, 'margin') and 'margin' or 'accuracy'
  figures[i] = {
    title = s.name,
    svg = plot.bars(('%s/setting%d'):format(dir, i), {
      title = s.name, width = 960, ylabel = grid.measures[name].text,
      categories = grid.labels(methods), series = { grid.series(of, name, methods, 'method') },
    }).svg,
    caption = ('%s at budget %g, mean over seeds with 95 %% intervals.'):format(
      grid.measures[name].text, budgets[#budgets]) }
end

grid.finish(e, {
  dir = dir, cells = cells, title = 'The protocol', tables = { found }, figures = figures,
  conclusion = ('%d models in %d settings, %d budgets, %d seeds.'):format(#cells, #settings,
                                                                         #budgets, o.seeds),
  text = ('%d training images (%s).'):format(e.train:size(), e.kind),
})
