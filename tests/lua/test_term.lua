local lu = require 'luaunit'
local chart = require 'vestige.chart'
local term = require 'vestige.term'

local T = {}

local function stream()
  local s = { text = '' }
  function s:write(...)
    for _, piece in ipairs{ ... } do self.text = self.text .. piece end
  end
  function s.flush() end
  return s
end

-- A bar over a false clock and a string.
local function bar(t)
  local out, time = stream(), { 0 }
  t.stream, t.clock = out, function() return time[1] end
  t.width = t.width or 60
  return term.bar(t), out, time
end

function T.test_width()
  lu.assertEquals(term.width('naïve'), 5)
  lu.assertEquals(term.width('e\204\129'), 1)
  lu.assertEquals(term.width('模型'), 4)
  lu.assertEquals(term.width('\27[38;5;31mred\27[0m'), 3)
  lu.assertEquals(term.width(term.fit('模型模型', 5)), 5)
  lu.assertEquals(term.fit('short', 9), 'short')
end

function T.test_texts()
  lu.assertEquals(term.duration(7.2), '0:07')
  lu.assertEquals(term.duration(3599.6), '1:00:00')
  lu.assertEquals(term.duration(3 * 86400 + 7200), '3 d 2 h')
  lu.assertEquals(term.duration(0 / 0), '?')
  lu.assertEquals(term.number(0 / 0), 'nan')
  lu.assertEquals(term.number(math.huge), 'inf')
  lu.assertEquals(term.number(1234567), '1234567')
  lu.assertEquals(term.number(0.00012345678), '0.0001235')
  lu.assertEquals(term.paint('x', '#0072B2', false), 'x')
  lu.assertStrMatches(term.paint('x', '#0072B2', true), '\27%[38;[%d;]+mx\27%[0m')
  lu.assertFalse((pcall(term.paint, 'x', 'blue', true)))
end

function T.test_table()
  local text = term.table({ { 'retrain', 0.5, '[0, 1]' }, { '模型', -0.25 } },
    { header = { 'method', 'gus', 'interval' }, width = 80, colour = false })
  local lines = {}
  for line in text:gmatch('[^\n]+') do lines[#lines + 1] = line end
  lu.assertEquals(lines[1], 'method     gus  interval')
  lu.assertEquals(lines[3], 'retrain    0.5    [0, 1]')
  lu.assertEquals(lines[4], '模型     -0.25         -')
end

function T.test_table_fits_the_width()
  local text = term.table({ { ('long '):rep(30), 1 } }, { width = 40, colour = false })
  for line in text:gmatch('[^\n]+') do lu.assertTrue(term.width(line) <= 40) end
end

function T.test_live_bar_redraws_one_line()
  local b, out, time = bar{ label = 'train', total = 10, live = true }
  for i = 1, 10 do
    time[1] = i
    b:update(i, { loss = 1 / i, accuracy = i / 10 })
  end
  lu.assertNotStrContains(out.text, '\n')
  local last = out.text:match('[^\r]*$')
  lu.assertStrContains(last, '10/10')
  lu.assertStrContains(last, 'loss 0.1')
  lu.assertStrContains(last, 'accuracy 100.0 %')
  lu.assertStrContains(last, '1.0/s')
  lu.assertStrContains(last, '0:00 left')
  for line in out.text:gmatch('[^\r]+') do lu.assertTrue(term.width(line) < 60, line) end
  b:finish()
  lu.assertStrContains(out.text, '\r\27[Ktrain  10 steps  loss 0.1  accuracy 100.0 %  0:10\n')
end

function T.test_live_bar_drops_what_does_not_fit()
  local b, out, time = bar{ label = 'train', total = 100, live = true, width = 24 }
  for i = 1, 100 do
    time[1] = i
    b:update(i, { loss = 1 / i, accuracy = 0.5, rate = 0.1 })
  end
  for line in out.text:gmatch('[^\r]+') do lu.assertTrue(term.width(line) < 24, line) end
end

function T.test_live_bar_is_not_drawn_more_than_ten_times_a_second()
  local b, out, time = bar{ total = 1000, live = true }
  for i = 1, 1000 do
    time[1] = i / 1000
    b:update(i, {})
  end
  lu.assertTrue(select(2, out.text:gsub('\r', '')) <= 12)
end

function T.test_say_prints_above_the_live_line()
  local b, out = bar{ label = 'train', total = 2, live = true }
  b:update(1, {})
  b:say('a note')
  lu.assertStrContains(out.text, '\r\27[Ka note\ntrain')
end

function T.test_plain_lines_at_intervals()
  local b, out, time = bar{ label = 'train', total = 100, live = false, every = 10 }
  for i = 1, 100 do
    time[1] = i / 3
    b:update(i, { loss = 2 })
  end
  b:finish()
  local lines = {}
  for line in out.text:gmatch('[^\n]+') do lines[#lines + 1] = line end
  lu.assertEquals(#lines, 4)
  lu.assertEquals(lines[1], 'train  step 30 of 100  loss 2  3.0/s  0:23 left')
  lu.assertEquals(lines[4], 'train  100 steps  loss 2  0:33')
  lu.assertNotStrContains(out.text, '\27')
end

function T.test_resumed_bar_knows_its_rate()
  local b, out, time = bar{ total = 100, start = 90, live = true }
  time[1] = 1
  b:update(91, {})
  lu.assertStrContains(out.text, '1.0/s  0:09 left')
end

function T.test_quiet_prints_nothing()
  local b, out = bar{ total = 2, quiet = true, live = true }
  b:update(2, {})
  b:finish()
  lu.assertEquals(out.text, '')
end

function T.test_bins()
  local h = chart.bins({ 0, 1, 2, 3, 0 / 0, -9, 9 }, { bins = 4, low = 0, high = 4 })
  lu.assertEquals(h.counts, { 2, 1, 1, 2 })
  lu.assertEquals(h.n, 6)
  local area = 0
  for _, d in ipairs(h.density) do area = area + d * h.width end
  lu.assertAlmostEquals(area, 1, 1e-12)
  lu.assertEquals(#chart.bins({ 5, 5 }).counts, 30)
  lu.assertFalse((pcall(chart.bins, { 0 / 0 })))
end

local function check_width(text, width)
  for line in text:gmatch('[^\n]+') do lu.assertTrue(term.width(line) <= width, line) end
end

function T.test_histogram()
  local text = chart.histogram({ 0, 0, 1 }, { title = 'T', low = 0, high = 2, bins = 4, width = 30,
    height = 2, unicode = true, colour = false })
  local full, none = ('█'):rep(7), (' '):rep(7)
  local lines = { 'T', ' ' .. full .. none:rep(3), ' ' .. full .. none .. full .. none,
    ' ' .. ('─'):rep(28), ' 0            1             2' }
  lu.assertEquals(text, table.concat(lines, '\n'))
  text = chart.histogram({ 0, 1 }, { density = chart.normal, width = 40, unicode = false,
    colour = false })
  lu.assertNil(text:find('[\128-\255]'))
  lu.assertStrContains(text, 'o')
  check_width(text, 40)
end

function T.test_curves()
  local x, y = { 1, 2, 3, 4 }, { 0, 1, 0 / 0, 1 }
  local text = chart.curves({ { label = 'a', x = x, y = y }, { label = 'b', x = x, y = x } },
    { width = 50, height = 5, title = 'T', label = 'step', unicode = true, colour = false })
  check_width(text, 50)
  lu.assertStrContains(text, 'step')
  lu.assertStrContains(text, '━ a   ━ b')
  text = chart.curves({ { x = x, y = y } }, { width = 30, unicode = false, colour = false })
  lu.assertNil(text:find('[\128-\255]'))
  lu.assertFalse((pcall(chart.curves, { { x = {}, y = {} } })))
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'Term', T } })
