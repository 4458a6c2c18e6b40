-- vestige.grid: cells over seeds, tables and comparisons, on cells made up here; and the same cells
-- from a real, tiny protocol.
local lu = require 'luaunit'
local grid = require 'vestige.grid'
local stats = require 'vestige.stats'

local T = {}

local function cell(seed, method, accuracy, hit, gus)
  return { seed = seed, setting = 's', budget = 0.1, method = method, collapsed = seed == 3,
           before = { gus = { estimate = -1 } }, poison = {},
           spent = { steps = 10 * seed, flops = 2e12, train_seconds = 1 },
           after = { accuracy = { estimate = accuracy }, target = hit ~= nil and {
             hit = hit, misclassified = true, estimate = 1 } or nil,
             gus = gus and { estimate = gus, z = 10 * gus, tpr_abs = { estimate = 0.02 },
                             tpr_signed = { estimate = 0.03 } } } }
end

local accuracies = { gd = { 0.8, 0.7, 0.9 }, retrain = { 0.82, 0.74, 0.91 } }
local hits = { gd = { true, true, false }, retrain = { false, false, false } }
local cells = {}
for seed = 1, 3 do
  for _, method in ipairs { 'gd', 'retrain' } do
    cells[#cells + 1] = cell(seed, method, accuracies[method][seed], hits[method][seed],
                             method == 'gd' and -0.5 * seed or nil)
  end
end
local gd, retrain = grid.where(cells, { method = 'gd' }), grid.where(cells, { method = 'retrain' })

function T.test_cells_by_their_fields()
  lu.assertEquals(#gd, 3)
  lu.assertEquals(#grid.where(cells, { method = 'gd', seed = 2 }), 1)
  lu.assertEquals(grid.values(cells, 'method'), { 'gd', 'retrain' })
  lu.assertEquals(grid.values(cells, 'seed'), { 1, 2, 3 })
end

function T.test_over_seeds()
  local t = grid.over_seeds(gd, 'accuracy')
  local expected = stats.t_interval(accuracies.gd)
  lu.assertAlmostEquals(t.estimate, 80, 1e-9)
  lu.assertAlmostEquals(t.lo, 100 * expected.lo, 1e-9)
  lu.assertTrue(expected.hi > 1)
  lu.assertEquals(t.hi, 100) -- a rate's interval ends where rates do
  lu.assertEquals(t.n, 3)
  local w, share = stats.wilson(2, 3), grid.over_seeds(gd, 'success')
  lu.assertAlmostEquals(share.lo, 100 * w.lo, 1e-9) -- a proportion, not a mean of numbers
  lu.assertAlmostEquals(share.hi, 100 * w.hi, 1e-9)
  lu.assertAlmostEquals(grid.over_seeds(gd, 'remaining').estimate, 1, 1e-9)
  lu.assertNil(grid.over_seeds(retrain, 'gus'))
  local one = grid.over_seeds({ gd[1] }, 'accuracy')
  lu.assertEquals({ one.estimate, one.lo, one.n }, { 80, nil, 1 })
  lu.assertErrorMsgContains("no measure 'acuracy'; did you mean 'accuracy'", grid.over_seeds, gd,
                            'acuracy')
end

function T.test_paired_by_seed()
  local shuffled = { retrain[3], retrain[1], retrain[2] } -- pairs go by seed, not by place
  local d = grid.paired(gd, shuffled, 'accuracy')
  local expected = stats.paired_t_test(accuracies.gd, accuracies.retrain)
  lu.assertAlmostEquals(d.estimate, 100 * expected.estimate, 1e-9)
  lu.assertAlmostEquals(d.p, expected.p, 1e-12)
  lu.assertEquals(grid.paired(gd, retrain, 'success').p, stats.mcnemar(2, 0).p)
  lu.assertNil(grid.paired(gd, { retrain[1] }, 'accuracy'))
  lu.assertNil(grid.paired(gd, retrain, 'gus')) -- one side has none
  local t = grid.against(cells, 'accuracy', 'retrain')
  lu.assertEquals({ #t.rows, t.rows[1][1], t.rows[1][5] }, { 1, 'gd', 3 })
  lu.assertEquals(grid.against(cells, 'accuracy', 'gd').rows[1][1], 'retrain')
end

function T.test_holm_over_methods()
  local list = {}
  for seed = 1, 4 do
    list[#list + 1] = cell(seed, 'retrain', 0.5)
    list[#list + 1] = cell(seed, 'a', 0.6 + 0.01 * seed)
    list[#list + 1] = cell(seed, 'b', 0.5 + 0.02 * seed)
  end
  local rows = grid.against(list, 'accuracy', 'retrain').rows
  local p = { tonumber(rows[1][3]), tonumber(rows[2][3]) }
  lu.assertTrue(p[1] < p[2])
  lu.assertAlmostEquals(tonumber(rows[1][4]), 2 * p[1], 2e-3)
  lu.assertEquals(rows[2][4], rows[2][3])
end

function T.test_tables()
  local t = grid.table(cells, { 'method' }, { 'accuracy', 'success', 'gus' })
  lu.assertEquals(t.header, { 'method', 'test accuracy, %', 'target taken for y_adv, %', 'GUS' })
  lu.assertEquals({ t.rows[1][1], t.rows[2][1], t.rows[2][4] }, { 'gd', 'retrain', false })
  lu.assertStrContains(t.rows[1][2], '80.0 [')
  local long = grid.long(cells)
  local at = {}
  for i, name in ipairs(long.header) do at[name] = i end
  lu.assertEquals(#long.rows, 6)
  lu.assertEquals(long.rows[1][at.accuracy], 0.8)
  lu.assertEquals(long.rows[1][at.method], 'gd')
  lu.assertEquals(long.rows[2][at.gus], false)
  lu.assertEquals(long.rows[5][at.collapsed], 1)
end

function T.test_series_and_lines()
  local s = grid.series(cells, 'accuracy', { 'retrain', 'gd', 'none' }, 'method')
  lu.assertAlmostEquals(s.values[2], 80, 1e-9)
  lu.assertTrue(s.values[3] ~= s.values[3]) -- no such cell: left out
  lu.assertTrue(s.low[2] < 80 and s.high[2] > 80)
  local list = { cell(1, 'gd', 0.5), cell(2, 'gd', 0.7), cell(1, 'gd', 0.9), cell(2, 'gd', 0.8) }
  list[1].budget, list[2].budget = 0.2, 0.2
  local line = grid.line(list, 'accuracy', 'budget')
  lu.assertEquals(line.x, { 0.1, 0.2 })
  lu.assertAlmostEquals(line.y[1], 85, 1e-9)
  lu.assertAlmostEquals(line.y[2], 60, 1e-9)
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'grid', T } })
