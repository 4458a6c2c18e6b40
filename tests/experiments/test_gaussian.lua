-- slow: the first experiment as a person runs it, on a few images: a terminal, Ctrl-C, mistakes.
local lu = require 'luaunit'
local fs = require 'vestige.fs'
local shell = require 'tests.lua.shell'
local study = require 'vestige.study'

local T = {}

local program = shell.program
local script = 'experiments/gaussian.lua'
local few = { '--train-size', '200', '--test-size', '100', '--width', '4', '--train.epochs', '12',
              '--train.batch-size', '50', '--methods', 'retrain,gd' }
local root

function T.setUp()
  root = os.tmpname()
  os.remove(root)
  fs.mkdir(root)
end
function T.tearDown() fs.remove_tree(root, '/tmp') end

local function arguments(runs, more)
  local argv = { program, script }
  for _, word in ipairs(few) do argv[#argv + 1] = word end
  for _, word in ipairs(more or {}) do argv[#argv + 1] = word end
  argv[#argv + 1], argv[#argv + 2] = '--runs', root .. '/' .. runs
  return argv
end

local function on_terminal(argv) return shell.on_terminal(argv, root) end
local function run(argv, before) return shell.run((before or '') .. ' ' .. shell.line(argv)) end

local function models(runs)
  local out = {}
  for _, r in ipairs(study.list(root .. '/' .. runs)) do
    if r.stage == 'train' or r.stage == 'unlearn' then
      out[fs.basename(r.dir)] = fs.read(r:path 'model.safetensors')
    end
  end
  return out
end

function T.test_from_canaries_to_the_report()
  local s = on_terminal(arguments 'runs')
  s:expect('canaries, clean beside noisy')
  s:expect('with noise')
  s:expect('train')
  s:expect('score')
  s:expect('retrain')
  s:expect('gd')
  s:expect('seed 1')
  s:expect('membership AUC')
  s:expect('-I before, over N(0,1)')
  s:expect('-I after gd, over N(0,1)')
  s:expect('-I retrained, over N(0,1)')
  s:expect('report: ')
  local path = s:expect '\n'
  s:expect('to try next:')
  lu.assertEquals({ s:wait() }, { 'exit', 0 })
  local html = fs.read(path)
  local folder = path:match '^(.*)/'
  for _, name in ipairs { 'figure6.png', 'figure6.svg', 'figure7.png', 'figure7.svg' } do
    lu.assertTrue(fs.exists(folder .. '/' .. name), name)
  end
  lu.assertStrContains(html, '<svg')
  lu.assertNotStrContains(html, 'src="')
  lu.assertStrContains(html, '--train-size 200')
end

function T.test_ctrl_c_and_the_same_command_again()
  local s = on_terminal(arguments('cut', { '--train.epochs', '80' }))
  s:expect('train')
  s:expect('left')
  s:send '\3'
  s:expect('interrupted at step')
  s:expect('vestige: interrupted at')
  lu.assertEquals({ s:wait() }, { 'exit', 130 })
  local text, status = run(arguments('cut', { '--train.epochs', '80' }))
  lu.assertEquals(status, 0, text)
  lu.assertStrContains(text, 'continues from its checkpoint')
  text, status = run(arguments('whole', { '--train.epochs', '80' }))
  lu.assertEquals(status, 0, text)
  local cut, whole = models 'cut', models 'whole'
  lu.assertTrue(next(whole) ~= nil)
  for name, bytes in pairs(whole) do lu.assertTrue(bytes == cut[name], name) end
  -- A third time nothing is left to run, and only the result is told.
  text, status = run(arguments('whole', { '--train.epochs', '80', '--quiet' }))
  lu.assertEquals(status, 0)
  lu.assertStrMatches(text, '\nGUS finds [^\n]+\n\nreport: %S+/report%.html\n')
end

function T.test_poisons_known_in_part_and_deleted_in_two_requests()
  local text, status = run(arguments('parts', { '--discovered', '0.5', '--requests', '2',
                                                '--seeds', '2' }))
  lu.assertEquals(status, 0, text)
  for _, want in ipairs { 'gd 2/2', 'undiscovered', 'Beside the retrained model', 'collapsed' } do
    lu.assertStrContains(text, want)
  end
end

function T.test_mistakes_are_told_and_end_with_status_1()
  local function told(want, argv)
    local text, status = run(argv)
    lu.assertEquals(status, 1, text)
    lu.assertStrContains(text, want)
    lu.assertNotStrContains(text, 'traceback')
    lu.assertTrue(select(2, text:gsub('\n', '')) <= 2, text) -- the message, and the line
  end
  told("did you mean '--train.epochs'", { program, script, '--train.epoch', '3' })
  told("'retrain'", { program, script, '--methods', 'retrian' })
  told('width', { program, script, '--width', 'broad' })
  told('discovered', { program, script, '--discovered', '0' })
  told('unit', { program, script, '--unit', 'pixels' })
  told('resnet18', arguments('model', { '--model', 'resnet81' }))
  told('/no/such', { program, script, '--data', '/no/such' })
  fs.write(root .. '/bad.json', '{"gd": 3,')
  told('--method-options: ' .. root .. '/bad.json:1:9: ',
       { program, script, '--method-options', root .. '/bad.json' })
  told(root, { program, script, '--data', root })
  fs.write(root .. '/data_batch_1.bin', ('x'):rep(3072))
  fs.write(root .. '/test_batch.bin', ('x'):rep(3073))
  told('data_batch_1.bin', { program, script, '--data', root })
  -- A folder that cannot be made: its parent is a file.
  fs.write(root .. '/file', '')
  told('--runs: ', { program, script, '--train-size', '50', '--runs', root .. '/file/runs' })
end

function T.test_a_disk_that_fills()
  -- A limit on the size of files stands for the full disk: writing fails at the model.
  local text, status = run(arguments 'full', "trap '' XFSZ; ulimit -f 100;")
  lu.assertEquals(status, 1, text)
  lu.assertStrContains(text, 'File too large')
  lu.assertNotStrContains(text, 'traceback')
  text, status = run(arguments 'full')
  lu.assertEquals(status, 0, text)
end

function T.test_a_part_of_a_folder_of_images_has_all_classes()
  local image = require 'vestige.image'
  local vestige = require 'vestige'
  for _, part in ipairs { 'train', 'test' } do
    for class = 1, 4 do
      local folder = ('%s/images/%s/class%d'):format(root, part, class)
      fs.mkdir(folder)
      for i = 1, 12 do
        image.save(('%s/%d.png'):format(folder, i), vestige.full{ size = { 8, 8, 3 },
                                                                  value = class / 5 })
      end
    end
  end
  local text, status = run{ program, script, '--data', root .. '/images', '--train-size', '24',
    '--test-size', '0', '--width', '4', '--train.epochs', '30', '--train.batch-size', '12',
    '--methods', 'gd', '--share', '0.2', '--runs', root .. '/runs' }
  lu.assertEquals(status, 0, text)
  -- The classes differ in brightness: a net that saw them all tells them apart.
  lu.assertTrue(tonumber(text:match 'test accuracy ([%d.]+) %%') > 60, text)
end

function T.test_scales_and_help()
  local text, status = run{ program, script, '--help' }
  lu.assertEquals(status, 0)
  lu.assertStrContains(text, '--train.epochs')
  text, status = run{ program, script, '--scale', 'paper', '--print-config' }
  lu.assertEquals(status, 0)
  for _, want in ipairs { 'width', '64', '100', '0.015' } do lu.assertStrContains(text, want) end
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'gaussian', T } })
