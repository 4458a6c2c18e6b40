-- `vestige runs` and `vestige report`, as a person runs them, on folders with stages in any state.
local lu = require 'luaunit'
local fs = require 'vestige.fs'
local json = require 'vestige.json'
local plot = require 'vestige.plot'
local report = require 'vestige.report'
local runs = require 'vestige.runs'
local shell = require 'tests.lua.shell'
local study = require 'vestige.study'

local T = {}

local root, folder

-- Runs the program with a command line for the shell: standard output, errors, exit status.
local function run(line, input)
  fs.write(root .. '/stdin', input or '')
  local out, status = shell.run(("'%s' %s <'%s/stdin' 2>'%s/err'"):format(shell.program, line, root,
                                                                           root))
  return out, fs.read(root .. '/err'), status
end

local function vestige_runs(line, input)
  return run(('runs --runs %s %s'):format(folder, line), input)
end

local function stage(name, defaults, f)
  return study.stage{ name = name, defaults = defaults, run = f or function() return {} end }
end

local function short(r) return r.key:sub(1, 8) end

-- A study of two seeds: poison, train, and two methods' unlearn and score.
local made
local function make()
  local s = study.new{ root = folder, quiet = true, command = 'vestige x.lua --seeds 2' }
  local poison = stage('poison', { seed = 0 }, function() return { poisons = 20 } end)
  local train = stage('train', { seed = 0, model = { options = { width = 16 } } },
                      function(_, _, ctx)
    fs.write(ctx.path 'model.bin', ('x'):rep(3000))
    return { loss = 0.5, steps = 10 }
  end)
  local unlearn = stage('unlearn', { method = 'gd', seed = 0, lr = 0.001 })
  local score = stage('score', { seed = 0 }, function(o, inputs)
    local gone = inputs.model.stage == 'train' and 0 or 1
    return { accuracy = { estimate = 0.5 + 0.1 * o.seed },
             gus = { estimate = gone - 1, z = 0 / 0 } }
  end)
  made = {}
  for seed = 1, 2 do
    local p = s:run(poison, { seed = seed })
    local t = s:run(train, { seed = seed }, { poison = p })
    local one = { poison = p, train = t, before = s:run(score, { seed = seed }, { model = t }) }
    for _, method in ipairs { 'gd', 'ngd' } do
      local u = s:run(unlearn, { method = method, seed = seed }, { train = t })
      one[method] = { unlearn = u, score = s:run(score, { seed = seed }, { model = u }) }
    end
    made[seed] = one
  end
end

function T.setUp()
  root = os.tmpname()
  os.remove(root)
  folder = root .. '/runs'
  fs.mkdir(folder)
  make()
end

function T.tearDown() fs.remove_tree(root, '/tmp') end

local function count() return #runs.scan(folder) end

function T.test_one_line_a_stage()
  local out, err, status = vestige_runs ''
  lu.assertEquals({ err, status }, { '', 0 })
  lu.assertStrContains(out, '14 of 14')
  local line = out:match('[^\n]*' .. short(made[2].ngd.score) .. '[^\n]*')
  lu.assertStrMatches(line, 'score +%x+ +ngd +2 +%d+%-%d+%-%d+ %d+:%d+ +[%d.]+ k?B +0:00 +finished '
                            .. '+accuracy 0%.700, GUS 0%.000, z %-?nan')
  lu.assertStrMatches(out, '.*poison [^\n]* 20 poisons\n.*train [^\n]* loss 0%.5, 10 steps\n.*')
end

function T.test_filters()
  local function listed(line)
    local out, err = vestige_runs(line .. ' --json')
    lu.assertEquals(err, '')
    local names = {}
    for i, e in ipairs(json.decode(out)) do names[i] = e.key end
    table.sort(names)
    return names
  end
  local function keys(...)
    local list = { ... }
    for i, r in ipairs(list) do list[i] = r.key end
    table.sort(list)
    return list
  end
  lu.assertEquals(listed 'method=gd', keys(made[1].gd.unlearn, made[2].gd.unlearn))
  lu.assertEquals(listed 'unlearn seed=2 method=ngd', keys(made[2].ngd.unlearn))
  lu.assertEquals(listed 'model.options.width=16', keys(made[1].train, made[2].train))
  lu.assertEquals(listed 'lr=1e-3 seed=1', keys(made[1].gd.unlearn, made[1].ngd.unlearn))
  lu.assertEquals(listed 'poison train seed=1', keys(made[1].poison, made[1].train))
  lu.assertEquals(listed 'state=failed', {})
  lu.assertEquals(listed('list ' .. short(made[1].train)), keys(made[1].train))
end

function T.test_mistakes_give_the_nearest_name()
  local function told(want, line)
    local out, err, status = vestige_runs(line)
    lu.assertEquals({ out, status }, { '', 1 })
    lu.assertStrContains(err, want)
    lu.assertNotStrContains(err, 'traceback')
  end
  told("did you mean 'unlearn'", 'unlaern')
  told("did you mean 'show'", 'shwo ' .. short(made[1].train))
  told("no stage here has an option 'methd'; did you mean 'method'", 'methd=gd')
  told("did you mean 'model.options.width'", 'widht=16')
  told("did you mean '--json'", '--jsn')
  told('expected two keys, got 1', 'diff ' .. short(made[1].train))
  told('expected one key, got 0', 'show')
  told('no less than 4 characters', 'show abc')
  told('say which', 'rm')
  local _, err, status = run('runs --runs ' .. root .. '/none')
  lu.assertEquals(status, 1)
  lu.assertStrContains(err, 'cannot list ' .. root .. '/none')
  local out = run 'runs --help'
  lu.assertStrContains(out, 'usage: vestige runs')
end

function T.test_a_short_key_that_is_ambiguous()
  local twin = made[1].train.key:sub(1, 6) .. ('0'):rep(6)
  fs.mkdir(folder .. '/train-' .. twin)
  local _, err, status = vestige_runs('show ' .. twin:sub(1, 6))
  lu.assertEquals(status, 1)
  lu.assertStrContains(err, 'may be any of ')
  lu.assertStrContains(err, 'train-' .. twin)
  local out
  out, err, status = vestige_runs('show ' .. made[1].train.key:sub(1, 12))
  lu.assertEquals({ err, status }, { '', 0 })
  lu.assertStrContains(out, 'train ' .. made[1].train.key)
end

function T.test_show()
  local out, err, status = vestige_runs('show ' .. short(made[1].gd.unlearn))
  lu.assertEquals({ err, status }, { '', 0 })
  for _, want in ipairs { 'finished', 'vestige x.lua --seeds 2', 'method  gd', 'config.json',
                          '  train: train ' .. short(made[1].train),
                          '    poison: poison ' .. short(made[1].poison),
                          'used by\n  score ' .. short(made[1].gd.score) } do
    lu.assertStrContains(out, want)
  end
  local t = json.decode((vestige_runs('show --json ' .. short(made[1].train))))
  lu.assertEquals(t.estimates.loss, 0.5)
  lu.assertEquals(t.options.model.options.width, 16)
end

function T.test_diff()
  local out, err, status = vestige_runs(('diff %s %s'):format(short(made[1].gd.score),
                                                             short(made[2].ngd.score)))
  lu.assertEquals({ err, status }, { '', 0 })
  lu.assertStrMatches(out, '.*option +seed +1 +2\n.*')
  lu.assertStrMatches(out, '.*option +model%.method +gd +ngd\n.*')
  lu.assertStrMatches(out, '.*input +model%.train +' .. short(made[1].train) .. ' .*')
  lu.assertStrMatches(out, '.*result +accuracy%.estimate +0%.6 +0%.7\n.*')
  lu.assertNotStrContains(out, 'gus.estimate')
  lu.assertEquals((vestige_runs(('diff %s %s'):format(short(made[1].train), short(made[1].train)))),
                  'they do not differ\n')
end

function T.test_rm_asks_and_tells_how_much()
  local key = short(made[1].gd.score)
  local bytes = runs.find(runs.scan(folder), key).bytes
  local out, _, status = vestige_runs('rm ' .. key, 'n\n')
  lu.assertEquals(status, 1)
  lu.assertStrContains(out, ('(%d bytes)'):format(bytes))
  lu.assertStrContains(out, 'nothing was removed')
  lu.assertEquals(count(), 14)
  lu.assertEquals(select(3, vestige_runs('rm ' .. key)), 1) -- no answer is no
  lu.assertEquals(count(), 14)
  out, _, status = vestige_runs('rm ' .. key, 'yes\n')
  lu.assertEquals(status, 0)
  lu.assertStrContains(out, ('removed 1, %s (%d bytes)'):format(out:match 'removed 1, (%S+ %S+)',
                                                              bytes))
  lu.assertEquals(count(), 13)
  lu.assertFalse(fs.exists(made[1].gd.score.dir))
end

function T.test_rm_keeps_what_others_were_made_from()
  local train = short(made[1].train)
  local out, err, status = vestige_runs('rm --yes ' .. train)
  lu.assertEquals({ out, status, count() }, { '', 1, 14 })
  lu.assertStrContains(err, '--all removes them too')
  lu.assertStrContains(err, short(made[1].ngd.score))
  lu.assertNotStrContains(err, short(made[2].ngd.score))
  out, err, status = vestige_runs('rm --yes --all ' .. train)
  lu.assertEquals({ err, status }, { '', 0 })
  lu.assertStrContains(out, 'removed 6')
  lu.assertEquals(count(), 8)
  lu.assertTrue(fs.exists(made[1].poison.dir))
  -- Those that are all chosen need no --all.
  lu.assertEquals(select(3, vestige_runs 'rm --yes unlearn score seed=2'), 0)
  lu.assertEquals(count(), 3)
end

function T.test_rm_leaves_a_stage_that_runs()
  local dir = made[1].gd.score.dir
  local held = fs.lock(dir .. '/.lock')
  fs.remove(dir .. '/result.json')
  lu.assertStrContains(vestige_runs 'state=running', short(made[1].gd.score))
  local _, err, status = vestige_runs('rm --yes ' .. short(made[1].gd.score))
  lu.assertEquals(status, 1)
  lu.assertStrContains(err, 'these run now')
  _, err, status = vestige_runs('rm --yes --all ' .. short(made[1].train))
  lu.assertEquals(status, 1)
  lu.assertStrContains(err, 'these run now and read what is to go')
  lu.assertEquals(count(), 14)
  lu.assertFalse(runs.remove(folder, { name = fs.basename(dir) })) -- the lock itself keeps it
  held:release()
  lu.assertStrContains(vestige_runs 'state=stopped', 'begins again')
  lu.assertEquals(select(3, vestige_runs('rm --yes ' .. short(made[1].gd.score))), 0)
  lu.assertEquals(count(), 13)
end

function T.test_rm_stays_in_the_folder()
  fs.mkdir(root .. '/outside')
  fs.write(root .. '/outside/config.json', '{}')
  fs.write(folder .. '/notes.txt', 'mine')
  fs.mkdir(folder .. '/mine')
  os.execute(("ln -s ../outside '%s/train-%s'"):format(folder, ('a'):rep(12)))
  lu.assertEquals(count(), 15)
  local _, err, status = vestige_runs('rm --yes --all stage=train stage=train')
  lu.assertEquals({ err, status }, { '', 0 })
  lu.assertNil(fs.stat(folder .. '/train-' .. ('a'):rep(12)))
  lu.assertEquals(fs.list(root .. '/outside'), { 'config.json' })
  lu.assertTrue(fs.exists(folder .. '/notes.txt') and fs.exists(folder .. '/mine'))
  lu.assertFalse(pcall(runs.remove, folder, { name = '../outside' }))
  lu.assertTrue(fs.exists(root .. '/outside/config.json'))
end

function T.test_broken_failed_and_stopped_stages_are_listed()
  local text = fs.read(made[1].train:path 'result.json')
  fs.write(made[1].train:path 'result.json', text:sub(1, #text / 2))
  fs.write(made[2].poison:path 'config.json', '{"options": 3, "stage": "poison", "key": "'
           .. made[2].poison.key .. '"}')
  local s = study.new{ root = folder, quiet = true }
  pcall(s.run, s, stage('fails', {}, function() error('no gradient', 0) end))
  pcall(s.run, s, stage('stops', {}, function(_, _, ctx)
    fs.write(ctx.checkpoint, 'x')
    error('interrupted', 0)
  end))
  local out, err, status = vestige_runs ''
  lu.assertEquals({ err, status }, { '', 0 })
  lu.assertStrContains(out, '16 of 16')
  lu.assertStrMatches(out, ('.*train +%s[^\n]* broken [^\n]*result%%.json.*'):format(
    short(made[1].train)))
  lu.assertStrMatches(out, '.*fails [^\n]* failed +no gradient\n.*')
  lu.assertStrMatches(out, '.*stops [^\n]* stopped +has a checkpoint\n.*')
  out, err, status = vestige_runs('show ' .. short(made[1].train))
  lu.assertEquals({ err, status }, { '', 0 })
  lu.assertStrContains(out, 'broken')
  lu.assertEquals(select(3, vestige_runs 'rm --yes state=failed'), 0)
  lu.assertEquals(count(), 15)
end

-- ---- vestige report ----

local function write_report()
  local dir = folder .. '/study-0123abcd'
  fs.mkdir(dir)
  local x, y = { 1, 2, 3 }, { 1, 4, 9 }
  local figure = plot.curves(dir .. '/figure', { series = { { x = x, y = y } } })
  report.write(dir .. '/report.html', { title = 'Study', conclusion = 'It holds.', sections = {
    { title = 'Scores', text = 'One line.',
      table = { header = { 'method', 'GUS' }, rows = { { 'gd', 0.1 }, { 'ngd', false } } } },
    { figure = { svg = figure.svg, caption = 'Squares', command = 'vestige x.lua' } } } })
  return dir
end

function T.test_a_page_is_made_again()
  local dir = write_report()
  local page = fs.read(dir .. '/report.html')
  fs.remove(dir .. '/report.html')
  local out, err, status = run('report ' .. dir)
  lu.assertEquals({ out, err, status }, { dir .. '/report.html\n', '', 0 })
  lu.assertTrue(fs.read(dir .. '/report.html') == page)
  -- From anywhere, the folder moved, a picture gone: it is drawn again.
  fs.rename(dir, root .. '/moved')
  fs.remove(root .. '/moved/figure.svg')
  lu.assertEquals(select(3, run('report ' .. root .. '/moved')), 0)
  lu.assertTrue(fs.read(root .. '/moved/report.html') == page)
end

function T.test_reports_of_a_runs_folder()
  local dir = write_report()
  fs.remove(dir .. '/report.html')
  lu.assertStrContains(vestige_runs '', 'It holds.')
  lu.assertEquals((run('report ' .. folder .. '/')), dir .. '/report.html\n')
  lu.assertEquals(select(3, vestige_runs 'rm --yes report'), 0)
  lu.assertFalse(fs.exists(dir))
  local function told(want, line)
    local _, err, status = run('report ' .. line)
    lu.assertEquals(status, 1)
    lu.assertStrContains(err, want)
  end
  told('no report.json', folder)
  told('expected a folder', '')
  told('cannot list', root .. '/none')
  fs.write(folder .. '/report.json', '{"title": ')
  told('report.json:1', folder)
  fs.write(folder .. '/report.json', '{}')
  told('holds no report', folder)
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'runs', T } })
