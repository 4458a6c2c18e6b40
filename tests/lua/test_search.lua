-- `vestige search`, as a person runs it, on tiny images; what it chooses, on what, and what it
-- shares with the experiments.
local lu = require 'luaunit'
local fs = require 'vestige.fs'
local json = require 'vestige.json'
local search = require 'vestige.search'
local shell = require 'tests.lua.shell'
local study = require 'vestige.study'
local tiny = require 'tests.lua.tiny'

local T = {}

local root, runs

-- Runs the program on the tiny images: standard output, errors, exit status.
local function run(line)
  local out, status = shell.run(("'%s' %s %s --data '%s/data' --runs '%s' 2>'%s/err'"):format(
    shell.program, line, tiny.options, root, runs, root))
  return out, fs.read(root .. '/err'), status
end

local function done(line)
  local out, err, status = run(line)
  lu.assertEquals(status, 0, err)
  return out, err
end

function T.setUp()
  root = os.tmpname()
  os.remove(root)
  runs = root .. '/runs'
  tiny.write(root .. '/data')
end
function T.tearDown() fs.remove_tree(root, '/tmp') end

-- The folder with what a search wrote.
local function output(out) return out:match 'report: (%S+)/report.html' end

-- The lines of its CSV by setting: {method, accuracy, gus, value, chosen}.
local function settings(dir)
  local list = {}
  for line in fs.read(dir .. '/search.csv'):gmatch '[^\n]+' do
    local method, setting, accuracy, gus, remaining, _, value, chosen = line:match(
      '^([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*)$')
    if chosen ~= 'chosen' then
      list[#list + 1] = { method = method, setting = setting, accuracy = tonumber(accuracy),
        gus = tonumber(gus), remaining = tonumber(remaining), value = tonumber(value),
        chosen = chosen == '1' }
    end
  end
  return list
end

local function stages(name) return study.list(runs, name) end

function T.test_the_grid_the_choice_and_the_experiment_that_reads_it()
  local out, err = done 'search --method gd,cfk lr=0.2,0.05,1e-6 --seeds 2'
  lu.assertStrContains(err, '1/12 lr=0.2 seed 1 ')
  lu.assertStrContains(out, 'Chosen is the largest accuracy, mean over 2 seeds')
  lu.assertStrContains(out, '12 images held out of the training images before poisoning')
  -- The models never saw them: 108 of 120 images are left, 11 of them poisoned.
  lu.assertEquals(stages('poison')[1].estimates.samples, 108)
  lu.assertEquals(stages('poison')[1].estimates.poisons, 11)
  lu.assertEquals({ #stages 'train', #stages 'unlearn', #stages 'search' }, { 2, 12, 2 })
  local dir = output(out)
  local list, chosen = settings(dir), json.load(dir .. '/chosen.json')
  lu.assertEquals(#list, 6)
  for _, method in ipairs { 'gd', 'cfk' } do
    local best, said = -1, nil
    for _, s in ipairs(list) do
      if s.method == method then
        lu.assertEquals(s.value, s.accuracy)
        best = math.max(best, s.value)
        if s.chosen then said = s end
      end
    end
    lu.assertEquals(said.value, best)
    lu.assertEquals(search.text(chosen[method]), said.setting)
    lu.assertStrContains(out, ('%s: %s is chosen of 3 settings'):format(method, said.setting))
  end
  lu.assertTrue(fs.exists(dir .. '/search.tex'))
  lu.assertStrContains(fs.read(dir .. '/report.html'), 'held out of the training images')
  -- Once more nothing is left to run, also side by side.
  local again, silent = done 'search --method gd,cfk lr=0.2,0.05,1e-6 --seeds 2'
  lu.assertEquals({ again, silent }, { out, '' })
  -- The experiment takes what was chosen.
  local before = {}
  for _, stage in ipairs(stages 'unlearn') do before[stage.key] = true end
  done(('experiments/gaussian.lua --methods gd --quiet --method-options %s/chosen.json')
    :format(dir))
  local used = {}
  for _, stage in ipairs(stages 'unlearn') do
    if not before[stage.key] then used[#used + 1] = stage:config().options.options.lr end
  end
  lu.assertEquals(used, { chosen.gd.lr })
end

function T.test_select_on_test_shares_the_experiments_models()
  done 'experiments/gaussian.lua --methods gd --quiet'
  lu.assertEquals({ #stages 'train', #stages 'unlearn' }, { 1, 1 })
  local out = done 'search --method gd lr=1e-3,0.1 --select test --quiet'
  lu.assertStrMatches(out, '.*\nreport: %S+/report%.html\n') -- the results, and no more
  lu.assertNotStrContains(out, 'to try next')
  -- lr 1e-3 is gd's default, which the experiment ran.
  lu.assertEquals({ #stages 'train', #stages 'unlearn' }, { 1, 2 })
  out = done 'search --method gd lr=1e-3,0.1 --select test'
  lu.assertStrContains(out, 'accuracy is that on the 60 test images, as the paper does')
end

function T.test_side_by_side_is_the_same()
  local one = settings(output((done 'search --method gd lr=0.1,0.01,0.001')))
  fs.remove_tree(runs, root)
  -- All need the one model that the first trains.
  local out, err = done 'search --method gd lr=0.1,0.01,0.001 --jobs 3'
  lu.assertEquals(settings(output(out)), one)
  lu.assertEquals(select(2, err:gsub('train  %d+ steps', '')), 1)
  lu.assertEquals(select(2, err:gsub('gd  %d+ steps', '')), 3)
  lu.assertNotStrContains(err, '1/3 ') -- nothing was left to run afterwards
end

-- Records of stages score, for the choice alone.
local function choose(by, points)
  local s = study.new{ root = runs, quiet = true }
  local inputs, settings_ = {}, {}
  local score = study.stage{ name = 'score', defaults = { a = 0, g = 0, bad = false },
    run = function(o)
      return { accuracy = { estimate = o.a }, gus = { estimate = o.g, rejects = o.g < -1 },
               collapse = { collapsed = o.bad, estimate = o.a, null = 0.1,
                            reason = o.bad and 'not finite' or nil } }
    end }
  inputs.before1 = s:run(score, { a = 0.9, g = -2 })
  inputs.before2 = s:run(score, { a = 0.9, g = -0.5 })
  for i, p in ipairs(points) do
    settings_[i] = { lr = i }
    for j = 1, 2 do
      inputs[('score%d_%d'):format(i, j)] = s:run(score, { a = p[1], g = p[1 + j], bad = p.bad })
    end
  end
  return s:run(search.stage, { method = 'gd', by = by, seeds = { 7, 8 }, points = settings_ },
               inputs).estimates
end

function T.test_criteria()
  -- accuracy, GUS at both seeds
  local points = { { 0.9, -2, -0.5 }, { 0.8, -0.5, 0.5 }, { 0.5, 0.1, -0.1 },
                   { 0.1, 0, 0, bad = true } }
  local r = choose('accuracy', points)
  lu.assertEquals({ r.best, r.blind }, { 1, { 8 } })
  r = choose('gus', points)
  lu.assertEquals(r.best, 3)
  lu.assertAlmostEquals(r.points[2].value, -0.5, 1e-12)
  r = choose('tradeoff', points)
  lu.assertEquals(r.best, 3)
  lu.assertAlmostEquals(r.points[1].value, 0.9 - 1, 1e-12)
  lu.assertAlmostEquals(r.points[2].value, 0.8 - (0.25 + 1) / 2, 1e-12)
  lu.assertAlmostEquals(r.points[3].value, 0.5 - (0.05 + 0.2) / 2, 1e-12)
  local ok, message = pcall(choose, 'gus', { { 0.1, 0, 0, bad = true } })
  lu.assertFalse(ok)
  lu.assertStrContains(message, 'no setting leaves a model that has it')
end

function T.test_points()
  local grid = { b = { 1, 2, 3 }, a = { 'x', 'y' } }
  local all = search.points(grid)
  lu.assertEquals(#all, 6)
  lu.assertEquals({ all[1], all[2], all[6] },
                  { { a = 'x', b = 1 }, { a = 'x', b = 2 }, { a = 'y', b = 3 } })
  lu.assertEquals(search.points(grid, 10), all)
  local some = search.points(grid, 3, 5)
  lu.assertEquals(some, search.points(grid, 3, 5))
  local seen, others = {}, false
  for _, p in ipairs(some) do seen[search.text(p)] = true end
  local n = 0
  for _ in pairs(seen) do n = n + 1 end
  lu.assertEquals({ #some, n }, { 3, 3 })
  for seed = 1, 9 do
    for _, p in ipairs(search.points(grid, 3, seed)) do
      others = others or not seen[search.text(p)]
    end
  end
  lu.assertTrue(others) -- another seed draws others
end

function T.test_mistakes_are_told()
  local function told(want, line)
    local out, err, status = run(line)
    lu.assertEquals({ out, status }, { '', 1 })
    lu.assertStrContains(err, want)
    lu.assertNotStrContains(err, 'traceback')
  end
  told("did you mean 'scrub'", 'search --method scurb')
  told('which method is searched', 'search')
  told("did you mean '--method'", 'search --metod gd')
  told("did you mean 'lr'", 'search --method gd lrr=1')
  told('lr: expected a number', 'search --method gd lr=fast')
  told('expected OPTION=VALUE', 'search --method gd fast')
  told('method retrain has no grid', 'search --method retrain')
  told("did you mean 'accuracy'", 'search --method gd --by acuracy')
  told("did you mean 'badnets'", 'search --method gd --attack badnet')
  told("did you mean '--gaussian.share'", 'search --method gd --gaussian.shar 0.1')
  told('the attack plants no noise', 'search --method gd lr=0.1 --by gus --attack label_flip '
       .. '--label-flip.share 0.2 --quiet')
  fs.write(root .. '/o.json', '{"gd": {"lrr": 1}}')
  told("did you mean 'lr'", ('experiments/gaussian.lua --method-options %s/o.json'):format(root))
  told('cannot read', 'experiments/gaussian.lua --method-options /no/such.json')
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'search', T } })
