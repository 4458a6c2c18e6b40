-- Runs the examples in the doc comments: in each block directly above a function, the lines
-- that start with > are one chunk.

local lu = require 'luaunit'

local modules = { 'attacks/gradient_cancelling', 'chart', 'data/init', 'fail', 'format', 'fs',
  'json', 'nearest', 'optim/init', 'optim/schedule', 'options', 'plot', 'report', 'runs', 'search',
  'sha256', 'study', 'tables', 'term', 'train' }

local T = {}

local function run(chunk, name)
  lu.assertNotNil(loadstring(chunk, name), name)
  local ok, err = pcall(loadstring(chunk, name))
  if not ok then lu.fail(('%s: %s\n%s'):format(name, tostring(err), chunk)) end
end

for _, module in ipairs(modules) do
  T['test_' .. module] = function()
    local path, lines, count, number = 'lua/vestige/' .. module .. '.lua', {}, 0, 0
    for line in io.lines(path) do
      number = number + 1
      local code = line:match('^%-%- > (.*)')
      if code then
        lines[#lines + 1] = code
      elseif not line:find('^%-%-') and #lines > 0 then
        run(table.concat(lines, '\n'), ('=%s:%d'):format(path, number))
        lines, count = {}, count + 1
      end
    end
    lu.assertTrue(count > 0, path .. ' has no example')
  end
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'Examples', T } })
