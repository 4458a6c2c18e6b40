-- Processes side by side: what they print, how they end, how they are stopped.
local lu = require 'luaunit'
local fs = require 'vestige.fs'
local pty = require 'tests.lua.pty'

local T = {}

local program = os.getenv 'VESTIGE' or 'build/vestige'
local root

function T.setUp()
  root = os.tmpname()
  os.remove(root)
  fs.mkdir(root)
end
function T.tearDown() fs.remove_tree(root, '/tmp') end

-- A script that runs a shell command `count` times side by side, in which $K is the number.
local function script(count, command)
  fs.write(root .. '/s.lua', ([[
    require('vestige.jobs').run{ argv = { 'sh', '-c', %q }, count = %d,
      environment = function(k) return { K = k } end }
    print 'all ended'
  ]]):format(command, count))
  return root .. '/s.lua'
end

local function run(count, command)
  local pipe = io.popen(("'%s' '%s' 2>'%s/err' </dev/null; echo \"status $?\""):format(program,
    script(count, command), root))
  local out, status = pipe:read('*a'):match '^(.*)status (%d+)\n$'
  pipe:close()
  return out, fs.read(root .. '/err'), tonumber(status)
end

local function on_terminal(path)
  return pty.start({ program, path }, { TERM = 'xterm', LANG = 'C.UTF-8', PATH = os.getenv 'PATH',
    LUA_PATH = os.getenv 'LUA_PATH' or ';;', HOME = root, ASAN_OPTIONS = 'detect_leaks=0' })
end

function T.test_whole_lines_of_each()
  -- Each waits for the others' files: they do run side by side.
  local out, err, status = run(3, ([[cd %s; printf "begun "; touch at$K
    while ! [ -e at1 -a -e at2 -a -e at3 ]; do sleep 0.02; done
    echo "job $K"; printf "end $K" >&2]]):format(root))
  lu.assertEquals({ out, status }, { 'all ended\n', 0 })
  local lines = {}
  for line in err:gmatch '[^\n]+' do lines[#lines + 1] = line end
  table.sort(lines)
  lu.assertEquals(lines, { 'begun job 1', 'begun job 2', 'begun job 3', 'end 1', 'end 2', 'end 3' })
end

function T.test_a_failure_stops_the_others()
  local out, err, status = run(2, ([[cd %s
    if [ $K = 2 ]; then while ! [ -e ready ]; do sleep 0.02; done; echo "no such thing"; exit 3; fi
    trap 'echo stopped; exit 130' INT; touch ready
    while true; do sleep 0.02; done]]):format(root))
  lu.assertEquals({ out, status }, { '', 1 })
  lu.assertStrContains(err, 'no such thing\n')
  lu.assertStrContains(err, 'stopped\n')
  lu.assertStrContains(err, 'vestige: --jobs: a process failed; what it said stands above')
end

function T.test_a_program_that_is_not_there()
  fs.write(root .. '/s.lua', [[require('vestige.jobs').run{ argv = { '/no/such' }, count = 1,
    environment = function() return {} end }]])
  local pipe = io.popen(("'%s' '%s/s.lua' 2>&1"):format(program, root))
  lu.assertStrContains(pipe:read '*a', 'cannot start /no/such')
  pipe:close()
end

function T.test_live_lines_stand_side_by_side()
  local s = on_terminal(script(2, ([[cd %s; printf "\r\033[Kbar $K at $VESTIGE_LIVE"; touch at$K
    while ! [ -e go ]; do sleep 0.02; done; printf "\r\033[K"; echo "done $K"]]):format(root)))
  s:expect 'bar 1 at 56 | bar 2 at 56'
  fs.write(root .. '/go', '')
  s:expect 'done '
  s:expect 'done '
  s:expect 'all ended'
  lu.assertEquals({ s:wait() }, { 'exit', 0 })
end

function T.test_one_ctrl_c_reaches_each_once()
  local s = on_terminal(script(2, ([[cd %s
    trap 'echo x >>got$K; [ $K = 1 ] && sleep 0.3; exit 130' INT
    cut -d ' ' -f 5 /proc/$$/stat >group$K; echo $$ >pid$K
    echo "up $K"; while true; do sleep 0.02; done]]):format(root)))
  s:expect 'up '
  s:expect 'up '
  s:send '\3'
  s:expect 'vestige: interrupted'
  lu.assertEquals({ s:wait() }, { 'exit', 130 })
  for k = 1, 2 do
    lu.assertEquals(fs.read(root .. '/got' .. k), 'x\n')
    -- The terminal's own signal, to the group in front, passed it by.
    lu.assertEquals(fs.read(root .. '/group' .. k), fs.read(root .. '/pid' .. k))
  end
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'jobs', T } })
