-- Draws bench.json as bars, BASE.svg and BASE.png: vestige tests/bench/chart.lua bench.json BASE.
local json = require 'vestige.json'
local plot = require 'vestige.plot'

local rows, base = json.load(arg[1]), arg[2]
local names, default, kept = {}, {}, {}
for i, row in ipairs(rows) do
  names[i] = row.case .. ' ' .. row.precision
  default[i] = tonumber(row.ratio) or 0 / 0
  kept[i] = tonumber(row.ratio_kept) or 0 / 0
end
plot.bars(base, {
  title = "PyTorch's best time / Vestige's", ylabel = 'ratio', categories = names, log = 'y',
  series = { { label = 'default malloc', values = default },
             { label = 'malloc kept', values = kept } },
  lines = { { y = 1, label = 'as fast' } },
  width = math.max(720, 60 + 26 * #names), height = 640,
})
