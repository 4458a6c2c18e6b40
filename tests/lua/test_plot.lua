local ffi = require 'ffi'
local lu = require 'luaunit'
local chart = require 'vestige.chart'
local fs = require 'vestige.fs'
local plot = require 'vestige.plot'
local report = require 'vestige.report'

ffi.cdef 'int setenv(const char *, const char *, int);'

local T = {}

local root

function T.setUp()
  root = os.tmpname()
  os.remove(root)
  fs.mkdir(root .. '/a folder')
  root = root .. '/a folder'
end

function T.tearDown()
  fs.remove_tree(fs.dirname(root), '/tmp')
end

local function message_of(...)
  local ok, err = pcall(...)
  lu.assertFalse(ok)
  return err
end

local function check(files)
  lu.assertStrContains(fs.read(files.svg), '<svg')
  lu.assertEquals(fs.read(files.png):sub(1, 8), '\137PNG\r\n\26\n')
  lu.assertStrMatches(fs.read(files.csv), 'panel,series,x,y,low,high\n.*')
  return fs.read(files.svg)
end

local x, y = { 1, 2, 3, 4 }, { 0.5, 0.25, 0 / 0, 0.1 }

function T.test_histogram_over_a_density()
  local svg = check(plot.histogram(root .. '/h', { title = "Title's text", xlabel = '-I',
    series = { { label = 'canaries', values = { -1, 0, 0 / 0, 2 } } }, density = chart.normal,
    density_label = 'N(0, 1)', xrange = { -4, 4 }, bins = 8 }))
  lu.assertStrContains(svg, 'canaries')
  lu.assertStrContains(svg, 'N(0, 1)')
  lu.assertStrContains(message_of(plot.histogram, root .. '/e', { series = { { values = {} } } }),
    'no finite values')
end

function T.test_panels()
  local function panel(name, v)
    return { title = name, series = { { label = 'c', values = v } } }
  end
  local svg = check(plot.histogram(root .. '/p', { title = 'All', density = chart.normal,
    density_label = 'null', panels = { panel('before', { 1, 2 }), panel('after', { 0, 1 }) } }))
  lu.assertStrContains(svg, 'before')
  lu.assertStrContains(svg, 'after')
  lu.assertEquals(select(2, svg:gsub('>null<', '')), 1)
end

function T.test_curves()
  local svg = check(plot.curves(root .. '/c', { title = 'a_b', xlabel = 'step', log = 'y',
    lines = { { y = 0.2, label = 'level' }, { x = 2 } },
    series = { { label = 'one_1', x = x, y = y, low = y, high = y },
      { label = 'two', x = x, y = x, dashed = true, points = true } } }))
  lu.assertStrContains(svg, 'one_1')
  lu.assertStrContains(svg, 'level')
end

function T.test_bars_and_scatter()
  check(plot.bars(root .. '/b', { categories = { 'retrain', 'a long name of a method', '' },
    series = { { label = 'I', values = { 1, 0 / 0, -2 }, low = { 0.5, 0 / 0, -3 },
      high = { 1.5, 0 / 0, -1 } }, { label = 'J', values = { 1, 2, 3 } } } }))
  check(plot.scatter(root .. '/s', { series = { { x = x, y = y } }, diagonal = true }))
end

function T.test_bars_stand_on_zero()
  local function script(values)
    plot.bars(root .. '/z', { categories = { 'a', 'b' }, series = { { values = values } } })
    return fs.read(root .. '/z.gp')
  end
  lu.assertStrContains(script{ 55, 60 }, 'set yrange [0:*]')
  lu.assertStrContains(script{ -55, -60 }, 'set yrange [*:0]')
  lu.assertStrContains(script{ -5, 6 }, 'set yrange [*:*]')
end

function T.test_the_script_draws_again()
  local files = plot.curves(root .. '/again', { series = { { x = x, y = y } } })
  os.remove(files.svg)
  os.execute(("cd '%s' && gnuplot again.gp"):format(root))
  check(files)
end

function T.test_errors()
  local t = { series = { { x = x, y = y } } }
  lu.assertStrContains(message_of(plot.curves, root .. '/none/c', t), 'No such file or directory')
  local path = os.getenv 'PATH'
  fs.mkdir(root .. '/bin')
  ffi.C.setenv('PATH', root .. '/bin', 1)
  local ok, err = pcall(plot.curves, root .. '/c', t)
  ffi.C.setenv('PATH', path, 1)
  lu.assertFalse(ok)
  lu.assertStrContains(err, 'gnuplot is missing')
  lu.assertStrContains(err, 'gnuplot-nox')
end

function T.test_report_is_one_file_with_everything_inside()
  local files = plot.curves(root .. '/c', { series = { { x = x, y = y } } })
  local path = root .. '/report.html'
  report.write(path, { title = 'Audit <1>', conclusion = 'Influence remains & is measured.',
    sections = {
      { title = 'Scores', text = 'One line.', table = { header = { 'method', 'GUS' },
        rows = { { 'retrain', 0.012345 }, { 'a<b', 0 / 0 } } } },
      { figure = { svg = files.svg, caption = 'Loss', command = 'vestige x.lua --a "b"' } },
      { figure = { png = files.png, caption = 'Image' } },
    },
    provenance = { seeds = { 1, 2 }, backend = 'cpu', machine = { cores = 2 } } })
  local html = fs.read(path)
  lu.assertStrContains(html, '<title>Audit &lt;1&gt;</title>')
  lu.assertStrContains(html, 'Influence remains &amp; is measured.')
  lu.assertStrContains(html, '0.01235')
  lu.assertStrContains(html, 'a&lt;b')
  lu.assertStrContains(html, 'vestige x.lua --a &quot;b&quot;')
  lu.assertStrContains(html, 'data:image/png;base64,iVBORw0KGgo')
  lu.assertStrContains(html, 'machine.cores')
  lu.assertStrContains(html, '<svg')
  lu.assertNotStrContains(html, '<?xml')
  for address in html:gmatch('https?://[^"\'%s<]+') do
    lu.assertStrMatches(address, 'http://www%.w3%.org/.*')
  end
  lu.assertNil(html:find('src="[^d]'))
  lu.assertNil(html:find('<link', 1, true))
end

function T.test_ids_of_two_pictures_do_not_meet()
  local files = plot.curves(root .. '/c', { series = { { x = x, y = y, points = true } } })
  report.write(root .. '/r.html', { title = 'T', sections = {
    { figure = { svg = files.svg } }, { figure = { svg = files.svg } } } })
  local seen = {}
  for id in fs.read(root .. '/r.html'):gmatch('%sid=["\']([^"\']+)["\']') do
    lu.assertNil(seen[id], id)
    seen[id] = true
  end
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'Plot', T } })
