local lu = require 'luaunit'
local fs = require 'vestige.fs'
local json = require 'vestige.json'
local sha256 = require 'vestige.sha256'
local study = require 'vestige.study'

local T = {}

local root, said

function T.setUp()
  root, said = os.tmpname(), {}
  os.remove(root)
  fs.mkdir(root)
end

function T.tearDown()
  fs.remove_tree(root, '/tmp')
end

local function new(t)
  t = t or {}
  t.root = t.root or root .. '/runs'
  t.say = function(text) said[#said + 1] = text end
  return study.new(t)
end

local function message_of(...)
  local ok, err = pcall(...)
  lu.assertFalse(ok)
  return err
end

-- A stage whose function is the source `body`, kept in a file as experiments are.
local function stage_in_file(name, body)
  local path = root .. '/' .. name .. '.lua'
  fs.write(path, body)
  return assert(loadfile(path))()
end

local function source(settings)
  settings = settings or {}
  return ([[
    local study = require 'vestige.study'
    %s
    return study.stage{ name = 'train', version = %d,
      defaults = { lr = 0.1, epochs = 2, threads = 1, data = '' %s },
      run = function(o) return { loss = o.lr * o.epochs } end }
  ]]):format(settings.comment or '', settings.version or 1, settings.more or '')
end

local function data(bytes) return { hash = sha256.of(bytes) } end

function T.test_a_stage_runs_once()
  local stage = stage_in_file('s', source())
  local r = new():run(stage, { lr = 0.5 }, { data = data 'pixels' })
  lu.assertTrue(r.ran)
  lu.assertEquals(r.estimates.loss, 1)
  lu.assertStrMatches(fs.basename(r.dir), 'train%-%x%x%x%x%x%x%x%x%x%x%x%x')
  local again = new():run(stage, { lr = 0.5 }, { data = data 'pixels' })
  lu.assertFalse(again.ran)
  lu.assertEquals(again.dir, r.dir)
  lu.assertEquals(again.estimates, r.estimates)
  lu.assertEquals(said, {})
end

function T.test_what_does_not_rerun()
  local pixels = { data = data 'pixels' }
  local r = new():run(stage_in_file('s', source()), { data = '/here' }, pixels)
  local function again(settings, given)
    return new():run(stage_in_file('s', source(settings)), given, pixels)
  end
  lu.assertFalse(again({ comment = '-- a comment' }).ran)
  lu.assertStrContains(said[1], 's.lua has changed since stages in ')
  lu.assertEquals(#said, 1)
  lu.assertFalse(again({ more = ', momentum = 0.9' }).ran)
  lu.assertFalse(again({ more = ', momentum = 0.9' }, { momentum = 0.9, lr = 0.1 }).ran)
  lu.assertFalse(again({}, { data = '/moved/there', threads = 8 }).ran)
  lu.assertEquals(#fs.list(root .. '/runs'), 1)
  lu.assertEquals(study.key(stage_in_file('s', source()), {}, pixels), r.key)
end

function T.test_what_reruns()
  local pixels = { data = data 'pixels' }
  local s = new()
  lu.assertTrue(s:run(stage_in_file('s', source()), {}, pixels).ran)
  lu.assertTrue(s:run(stage_in_file('s', source{ version = 2 }), {}, pixels).ran)
  lu.assertTrue(s:run(stage_in_file('s', source()), {}, { data = data 'pixelt' }).ran)
  lu.assertTrue(s:run(stage_in_file('s', source()), { lr = 0.2 }, pixels).ran)
  lu.assertTrue(s:run(stage_in_file('s', source{ more = ', momentum = 0.9' }),
    { momentum = 0 }, pixels).ran)
  lu.assertEquals(#fs.list(root .. '/runs'), 5)
end

function T.test_a_default_that_changed_without_a_version_is_refused()
  local s = new()
  s:run(stage_in_file('s', source{ more = ', momentum = 0.9' }))
  local changed = stage_in_file('s', source{ more = ', momentum = 0.8' })
  local message = message_of(s.run, s, changed)
  lu.assertStrContains(message, 'ran with momentum = 0.9, and the default is now 0.8')
  lu.assertTrue(new{ fresh = true }:run(changed).ran)
  lu.assertFalse(s:run(changed).ran)
end

function T.test_keys_chain_through_inputs()
  local calls = 0
  local poison = study.stage{ name = 'poison', defaults = { eps = 1 }, run = function(_, _, ctx)
    fs.write(ctx.path 'noise.bin', 'noise')
    return {}
  end }
  local train = study.stage{ name = 'train', run = function(_, inputs)
    calls = calls + 1
    return { noise = fs.read(inputs.poison:path 'noise.bin') }
  end }
  local s = new()
  local a = s:run(poison)
  lu.assertEquals(s:run(train, {}, { poison = a }).estimates.noise, 'noise')
  s:run(train, {}, { poison = s:run(poison) })
  lu.assertEquals(calls, 1)
  s:run(train, {}, { poison = s:run(poison, { eps = 2 }) })
  lu.assertEquals(calls, 2)
  lu.assertStrContains(message_of(s.run, s, train, {}, { poison = {} }),
    'input poison is neither a finished stage nor data with a hash')
  lu.assertEquals(study.key(train, {}, { d = { hash = function() return 'x' end } }),
    (study.key(train, {}, { d = { hash = 'x' } })))
end

function T.test_options_are_checked()
  local s = new()
  local stage = stage_in_file('s', source())
  lu.assertStrContains(message_of(s.run, s, stage, { epoch = 3 }),
    "stage train: unknown option epoch; did you mean 'epochs'?")
  lu.assertStrContains(message_of(s.run, s, stage, { lr = 'x' }), 'lr: expected a number')
end

function T.test_result_holds_what_reports_need()
  local stage = study.stage{ name = 'score', defaults = { seed = 3, inner = { xs = { 1, 2 } } },
    run = function(_, _, ctx)
      ctx.seeds.noise = 7
      ctx.log{ step = 1, loss = 0 / 0 }
      ctx.log{ step = 2, loss = 0.25, accuracy = 0.5 }
      return { gus = 0 / 0, upper = math.huge, third = 1 / 3, values = { 1, 0 / 0 } }
    end }
  local s = new{ command = 'vestige x.lua --seed 3',
    info = function() return { backend = 'cpu', level = 'v3', versions = { vestige = '0.1' } } end }
  local r = study.read(s:run(stage).dir)
  lu.assertTrue(r.estimates.gus ~= r.estimates.gus)
  lu.assertEquals(r.estimates.upper, math.huge)
  lu.assertEquals(r.estimates.third, 1 / 3)
  lu.assertTrue(r.estimates.values[2] ~= r.estimates.values[2])
  lu.assertStrContains(fs.read(r:path 'result.json'), '"gus_nan": "nan"')
  lu.assertEquals(r.result.seeds, { seed = 3, noise = 7 })
  lu.assertEquals(r.result.backend, 'cpu')
  lu.assertEquals(r.result.level, 'v3')
  lu.assertEquals(r.result.versions.vestige, '0.1')
  lu.assertEquals(r.result.command, 'vestige x.lua --seed 3')
  lu.assertTrue(r.result.seconds >= 0 and r.result.machine.cores >= 1)
  lu.assertEquals(r:config().options.inner.xs, { 1, 2 })
  local rows = r:metrics()
  lu.assertEquals(#rows, 2)
  lu.assertTrue(rows[1].loss ~= rows[1].loss and rows[1].time >= 0)
  lu.assertEquals(rows[2].accuracy, 0.5)
  lu.assertEquals(#study.list(root .. '/runs', 'score'), 1)
  lu.assertEquals(#study.list(root .. '/runs', 'train'), 0)
end

function T.test_failure_leaves_a_clear_state()
  local broken = true
  local stage = study.stage{ name = 'train', run = function()
    if broken then error('no gradient') end
    return { ok = 1 }
  end }
  local s = new()
  lu.assertStrContains(message_of(s.run, s, stage), 'no gradient')
  local dir = root .. '/runs/' .. fs.list(root .. '/runs')[1]
  local state, message = study.status(dir)
  lu.assertEquals(state, 'failed')
  lu.assertStrContains(message, 'no gradient')
  lu.assertStrContains(json.load(dir .. '/failed.json').traceback, 'test_study.lua')
  lu.assertStrContains(message_of(study.read, dir), 'is not a finished stage: failed')
  broken = false
  lu.assertTrue(s:run(stage).ran)
  lu.assertEquals(study.status(dir), 'finished')
  lu.assertFalse(fs.exists(dir .. '/failed.json'))
end

function T.test_an_estimate_that_json_cannot_hold_is_a_failure()
  local s = new()
  local stage = study.stage{ name = 'bad', run = function() return { f = print } end }
  lu.assertStrContains(message_of(s.run, s, stage), 'estimates.f is a function')
  local dir = root .. '/runs/' .. fs.list(root .. '/runs')[1]
  lu.assertEquals(study.status(dir), 'failed')
end

function T.test_interrupts_are_told_from_failures()
  local s = new()
  local stage = study.stage{ name = 'train', run = function() error{ interrupted = true } end }
  lu.assertTrue(message_of(s.run, s, stage).interrupted)
  lu.assertEquals(study.status(root .. '/runs/' .. fs.list(root .. '/runs')[1]), 'interrupted')
end

function T.test_fresh_runs_again_once()
  local calls = 0
  local stage = study.stage{ name = 'train', run = function(_, _, ctx)
    calls = calls + 1
    fs.append(ctx.path 'file', 'x')
    fs.mkdir(ctx.path 'folder/below')
    return {}
  end }
  local r = new():run(stage)
  local s = new{ fresh = true }
  s:run(stage)
  s:run(stage)
  lu.assertEquals(calls, 2)
  lu.assertEquals(fs.read(r:path 'file'), 'x')
end

function T.test_an_unwritable_folder_is_one_clear_message()
  fs.write(root .. '/runs', 'a file')
  local s = new()
  lu.assertStrContains(message_of(s.run, s, stage_in_file('s', source())), 'Not a directory')
end

-- A process of its own that counts to 6, logging, with a checkpoint after each step.
local counter = [[
  package.path = %q
  local fs, study = require 'vestige.fs', require 'vestige.study'
  local root, crash, pause = arg[1], tonumber(arg[2]), tonumber(arg[3])
  local stage = study.stage{ name = 'count', run = function(_, _, ctx)
    fs.append(root .. '/starts', 'x')
    local step, sum = 0, 1
    if ctx.resume then
      step, sum = fs.read(ctx.resume):match('(%%d+) (%%d+)')
      step, sum = tonumber(step), tonumber(sum)
      ctx.rewind(step)
    end
    while step < 6 do
      step = step + 1
      sum = sum * 3 + step
      ctx.log{ step = step, loss = sum }
      if step == crash then os.execute('kill -9 $PPID') end
      fs.write(ctx.checkpoint, step .. ' ' .. sum)
      fs.sleep(pause or 0)
    end
    fs.write(ctx.path 'final', tostring(sum))
    return { sum = sum }
  end }
  local r = study.new{ root = root .. '/runs' }:run(stage)
  print(r.ran, r.estimates.sum)
]]

local function spawn(place, words)
  local script = root .. '/counter.lua'
  if not fs.exists(script) then fs.write(script, counter:format(package.path)) end
  fs.mkdir(place)
  local program = os.getenv 'VESTIGE' or 'luajit' -- the sanitizers' program brings their runtime
  return io.popen(("'%s' '%s' '%s' %s 2>&1"):format(program, script, place, words))
end

function T.test_a_killed_stage_continues_to_the_same_result()
  local whole = spawn(root .. '/a', '0'):read('*a')
  lu.assertStrContains(whole, 'true')
  spawn(root .. '/b', '4'):read('*a')
  local dir = root .. '/b/runs/' .. fs.list(root .. '/b/runs')[1]
  lu.assertEquals(study.status(dir), 'interrupted')
  local text = spawn(root .. '/b', '0'):read('*a')
  lu.assertStrContains(text, 'continues from its checkpoint')
  lu.assertStrContains(text, whole:match('true%s+%d+'))
  lu.assertEquals(fs.read(dir .. '/final'), fs.read(dir:gsub('/b/', '/a/', 1) .. '/final'))
  local r = study.read(dir)
  local steps = {}
  for i, row in ipairs(r:metrics()) do steps[i] = row.step end
  lu.assertEquals(steps, { 1, 2, 3, 4, 5, 6 })
  lu.assertEquals(r.result.attempts, 2)
  lu.assertFalse(fs.exists(dir .. '/checkpoint.safetensors'))
end

function T.test_a_torn_line_of_metrics_is_left_out()
  local stage = study.stage{ name = 'm', run = function(_, _, ctx) ctx.log{ step = 1 } end }
  local r = new():run(stage)
  fs.append(r:path 'metrics.jsonl', '{"step": 2, "lo')
  lu.assertEquals(#r:metrics(), 1)
end

function T.test_processes_that_race_run_a_stage_once()
  local place, children = root .. '/race', {}
  for i = 1, 4 do children[i] = spawn(place, '0 0.1') end
  local ran = 0
  for _, child in ipairs(children) do
    local text = child:read('*a')
    lu.assertStrContains(text, '\t')
    if text:find('true\t', 1, true) then ran = ran + 1 end
    lu.assertEquals(text:match('\t(%d+)'), '1272')
  end
  lu.assertEquals(ran, 1)
  lu.assertEquals(fs.read(place .. '/starts'), 'x')
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'Study', T } })
