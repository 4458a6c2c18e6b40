-- slow: every experiment's script as a person starts it, on a few tiny images: it ends in a page,
-- figures and tables, and started again it runs nothing.
local lu = require 'luaunit'
local fs = require 'vestige.fs'
local json = require 'vestige.json'
local plot = require 'vestige.plot'
local shell = require 'tests.lua.shell'
local study = require 'vestige.study'
local tiny = require 'tests.lua.tiny'

local T = {}

local root

function T.setUp()
  root = os.tmpname()
  os.remove(root)
  tiny.write(root .. '/data')
end
function T.tearDown() fs.remove_tree(root, '/tmp') end

local function run(line) return shell.run(shell.program .. ' ' .. line) end

local images = ' --test-size 0 --width 2 --train.epochs 4 --train.batch-size 30 --train.lr 0.05'
  .. ' --train-size 0 --seeds 2 --data '

local function folder_of(text) return text:match 'report: (%S+)/report%.html' end

-- Runs a script twice on one cache; gives the folder of its page.
local function twice(name, more)
  local line = ('experiments/%s.lua --runs %s/runs %s'):format(name, root, more)
  local text, status = run(line)
  lu.assertEquals(status, 0, text)
  local dir = folder_of(text)
  lu.assertNotNil(dir, text)
  local before = #study.list(root .. '/runs')
  local again, ended = run(line)
  lu.assertEquals(ended, 0, again)
  lu.assertEquals(folder_of(again), dir)
  lu.assertEquals(#study.list(root .. '/runs'), before)
  lu.assertNotStrContains(again, ' steps  ') -- nothing is trained
  local page = fs.read(dir .. '/report.html')
  lu.assertTrue(page:find('vestige experiments/' .. name .. '.lua', 1, true) ~= nil, name)
  return dir, text
end

local function with_images(more) return images .. root .. '/data ' .. (more or '') end

local function has(dir, ...)
  for _, file in ipairs { ... } do
    lu.assertTrue(#fs.read(dir .. '/' .. file) > 0, file)
  end
end

function T.test_gaussian_grids()
  local methods = '--methods retrain,retrain_budget,ngd,euk'
  local dir = twice('figure2a', with_images('--share 0.3 ' .. methods))
  has(dir, 'cells.csv', 'table-figure2a.tex', 'table-figure2a.csv', 'table-paired.csv',
      'figure2a.svg', 'gus.png')
  plot.again(dir .. '/figure2a') -- no table lies over what a figure is drawn from
  local lines = 0
  for _ in fs.read(dir .. '/cells.csv'):gmatch '\n' do lines = lines + 1 end
  lu.assertEquals(lines, 1 + 2 * 5) -- two seeds of four methods and none
  local one = run('experiments/figure2a.lua --runs ' .. root .. '/runs'
                    .. with_images('--share 0.3 --methods retrain --seeds 1'))
  lu.assertStrContains(one, 'Mean over seeds')
  lu.assertNotStrContains(one, 'paired by seed') -- there is nothing to pair
  has(twice('figure9', with_images('--shares 0.2,0.4 ' .. methods)), 'figure9.svg', 'accuracy.svg')
  has(twice('figure8', with_images('--share 0.3 --budgets 0.2,0.4 ' .. methods)), 'figure8.svg')
  has(twice('mia_vs_gus', with_images('--share 0.3 ' .. methods)), 'scatter.svg',
      'table-disagreement.csv')
  dir = twice('mia_vs_gus', with_images('--share 0.3 --methods gd --seeds 1 --lira 16 --jobs 2'))
  lu.assertStrContains(fs.read(dir .. '/table-mia_vs_gus.csv'), 'LiRA AUC')
  local few = run(('experiments/mia_vs_gus.lua --lira 5 --jobs 2 --runs %s/few %s'):format(root,
    with_images()))
  lu.assertStrContains(few, '--lira: lira: expected a whole number of out-models, at least 16')
  lu.assertEquals(#study.list(root .. '/few'), 0) -- told before anything is trained
  has(twice('pareto', with_images('--share 0.3 --budgets 0.2,0.4 ' .. methods)), 'table-front.csv')
  local text = run('experiments/figure6.lua --runs ' .. root .. '/runs'
                      .. with_images '--share 0.3')
  lu.assertStrContains(text, 'after ngd')
  has(folder_of(text), 'figure6.svg', 'figure7.svg')
end

-- What --scale paper is: section 4, C.1, E.1.
function T.test_the_papers_scale()
  local function shown(name, option)
    local text = run(('experiments/%s.lua --scale paper --print-config'):format(name))
    return ('\n' .. text):match('\n' .. option:gsub('%p', '%%%0') .. '%s+= (%S+)')
  end
  for name, seeds in pairs{ figure2a = '8', figure3 = '8', figure4 = '8', figure5 = '5',
                            figure6 = '8', figure8 = '8', figure9 = '8', gaussian = '8',
                            gus_vs_attacks = '8', mia_vs_gus = '8', pareto = '8', protocol = '8',
                            table2 = '8' } do
    lu.assertEquals(shown(name, 'seeds'), seeds, name)
    if name ~= 'figure5' then
      local got = { shown(name, 'model'), shown(name, 'width'), shown(name, 'train.epochs'),
                    shown(name, 'train_size'), shown(name, 'train.crop'),
                    shown(name, 'train.batch_size') }
      lu.assertEquals(got, { 'resnet18', '64', '100', '0', '4', '128' }, name)
    end
    if name ~= 'figure5' and name ~= 'figure4' then
      lu.assertEquals({ shown(name, 'budget_unit'), shown(name, 'budget') }, { 'epochs', '0.1' },
                      name)
    end
  end
  lu.assertEquals({ shown('figure2a', 'share'), shown('figure9', 'shares') },
                  { '0.015', '0.015,0.02,0.025' })
  lu.assertEquals({ shown('figure4', 'map'), shown('figure4', 'poisons') }, { '4x2', '0.00768' })
  lu.assertEquals({ shown('figure3', 'gradient_matching.share'),
                    shown('figure3', 'gradient_matching.eps'),
                    shown('table2', 'gradient_cancelling.variant'),
                    shown('table2', 'gradient_cancelling.steps') },
                  { '0.015', '16', 'paper', '1000' })
end

function T.test_other_attacks()
  local brew = ' --gradient-matching.steps 2 --gradient-matching.share 0.1'
               .. ' --gradient-matching.restarts 1'
  has(twice('figure3', with_images('--methods retrain,gd' .. brew)), 'figure3.svg',
      'table-margins.csv')
  local cancel = ' --gradient-cancelling.steps 2'
  local dir = twice('table2', with_images('--methods retrain,gd,cfk,euk,scrub --control'
                                          .. ' --shares 0.1,0.2 --budgets 0.1' .. cancel))
  has(dir, 'table-table2.tex', 'table-order.csv', 'table-attack.csv')
  lu.assertStrContains(fs.read(dir .. '/table-order.csv'), 'GD less SCRUB')
  lu.assertStrContains(fs.read(dir .. '/table-attack.csv'), '10 % noise')
  has(twice('gus_vs_attacks', with_images('--methods retrain,gd,ga,cfk' .. brew .. cancel
      .. ' --others gradient_matching,gradient_cancelling')), 'table-left.csv')
  local page = twice('protocol', with_images('--attacks gaussian,label_flip --budgets 0.1,0.3'))
  has(page, 'setting1.svg', 'setting2.svg', 'table-protocol.csv')
end

function T.test_linear_models()
  local dir = twice('figure4', with_images
                    '--cancel-steps 5 --brew-steps 2 --poisons 0.1 --map 1x1')
  has(dir, 'figure4.svg', 'table-figure4.csv')
  dir = twice('figure5', '--seeds 2 --samples 200 --inputs 20 --informative 5 --poisons 20 '
              .. '--random 30 --cancel-steps 5 --steps 50 --drawn 5')
  has(dir, 'figure5.svg', 'table-figure5.csv')
  local text, status = run 'experiments/figure5.lua --data x'
  lu.assertEquals(status, 1)
  lu.assertStrContains(text, 'unknown option --data') -- it makes its own samples
end

function T.test_settings_of_an_attack()
  local line = 'experiments/protocol.lua --runs ' .. root .. '/runs' .. with_images()
  local text = run(line .. ' --methods retrain --control --attack gradient_cancelling'
                   .. ' eps_w=0.1,1 steps=1')
  local page = fs.read(folder_of(text) .. '/table-protocol.csv')
  lu.assertStrContains(page, 'eps_w,steps,control,method')
  lu.assertEquals(select(2, page:gsub('\n', '')), 1 + 2 * 3) -- poisoned, retrained, its control
  has(folder_of(text), 'table-control.csv')
  local wrong, status = run(line .. ' --control')
  lu.assertEquals(status, 1)
  lu.assertStrContains(wrong, '--control: attack gaussian has no control')
  lu.assertStrContains((run(line .. ' shar=0.1')), "did you mean 'share'")
end

function T.test_all_on_one_cache()
  local function all(words)
    return (shell.run(('VESTIGE=%s sh experiments/all.sh %s'):format(shell.program, words)))
  end
  lu.assertStrContains(all '--help', 'sh experiments/all.sh DATA')
  local words = ('%s/data --runs %s/runs --seeds 1 --quiet'):format(root, root)
  local wrong = all(words .. ' --train.epochs 1') -- told before hours are spent
  lu.assertStrContains(wrong, 'unknown option --train.epochs')
  lu.assertNotStrContains(wrong, '== experiments/figure2a.lua')
end

function T.test_what_reports_hold_is_kept()
  local dir = twice('figure2a', with_images '--share 0.3 --methods retrain,gd')
  lu.assertTrue(fs.read(dir .. '/report.html'):find('<svg', 1, true) ~= nil)
  local kept = json.load(dir .. '/report.json')
  lu.assertTrue(#kept.conclusion > 20)
  lu.assertEquals(#kept.sections, 4) -- the tables and three figures
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'figures', T } })
