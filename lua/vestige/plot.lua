-- Pictures by gnuplot, as SVG and PNG at once. The script and its data stay beside them:
-- NAME.gp, NAME.csv, NAME.svg, NAME.png; `gnuplot NAME.gp` in that folder draws them again.
--
-- Each function takes the path without an ending and a table, and returns {svg=, png=, csv=, gp=}.
-- All take: title, xlabel, ylabel (with units), xrange and yrange ({low, high}, either may be
-- left out), width and height in pixels (720 x 440), lines, a list of {y=} or {x=} with label, for
-- reference lines, log ('x', 'y' or 'xy') and panels: a list of such tables drawn in one row with
-- their own title and series, which share the outer table's labels and ranges.
-- Colours are safe for colour-blind readers; the legend stands below the data.

local chart = require 'vestige.chart'
local fail = require 'vestige.fail'
local fs = require 'vestige.fs'
local palette = require 'vestige.palette'

local M = {}

local DARK = '#333333'

-- A text in gnuplot's single quotes.
local function quoted(text)
  return "'" .. tostring(text):gsub("'", "''"):gsub('\n', ' ') .. "'"
end

local function number(x)
  if x ~= x or x == math.huge or x == -math.huge then return 'NaN' end
  return ('%.17g'):format(x)
end

local function field(text)
  return '"' .. tostring(text):gsub('"', "'"):gsub('\n', ' ') .. '"'
end

-- The data file: rows {panel, series, x, y, low, high, ...}; `add` returns gnuplot's name of them.
local function new_table()
  local data = { lines = { 'panel,series,x,y,low,high' }, count = 0 }
  function data:add(panel, label, rows)
    for _, row in ipairs(rows) do
      local out = { field(panel), field(label) }
      for i = 1, 4 do out[i + 2] = row[i] and number(row[i]) or '' end
      self.lines[#self.lines + 1] = table.concat(out, ',')
    end
    local from = self.count
    self.count = from + #rows
    return ('DATA skip 1 every ::%d::%d'):format(from, self.count - 1)
  end
  return data
end

local function colour(s, i) return s.colour or palette[(i - 1) % #palette + 1] end

local function range(t, axis)
  local r = t[axis .. 'range']
  if not r then return ('set %srange [*:*]'):format(axis) end
  local low, high = r[1] and number(r[1]) or '*', r[2] and number(r[2]) or '*'
  return ('set %srange [%s:%s]'):format(axis, low, high)
end

-- Lines of gnuplot for one panel: axes, reference lines, then the plot of its elements.
local function panel_lines(panel, elements, shared)
  local out = {}
  local function add(...) out[#out + 1] = (...):format(select(2, ...)) end
  local function own(name)
    if panel[name] ~= nil then return panel[name] end
    return shared[name]
  end
  local t = { xrange = own 'xrange', yrange = own 'yrange' }
  add('set title %s%s', quoted(panel.title or ''), shared.panels and ' offset 0, -0.7' or '')
  add('set xlabel %s', quoted(own 'xlabel' or ''))
  add('set ylabel %s', quoted(panel.first and own 'ylabel' or ''))
  add('%s; %s', range(t, 'x'), range(t, 'y'))
  add('unset logscale')
  if own 'log' then add('set logscale %s', own 'log') end
  add('unset arrow; unset label')
  for _, line in ipairs(own 'lines' or {}) do
    local from = line.y and 'graph 0, first %s to graph 1, first %s' or
      'first %s, graph 0 to first %s, graph 1'
    local at = number(line.y or line.x)
    add('set arrow from ' .. from .. ' nohead dashtype 2 linewidth 1.2 linecolor rgb "%s"', at, at,
      DARK)
    if line.label then
      local spot = line.y and 'graph 1, first %s left offset 0.5, 0'
        or 'first %s, graph 0.96 left offset 0.5, 0'
      add('set label %s at ' .. spot .. ' textcolor rgb "%s"', quoted(line.label), at, DARK)
    end
  end
  for _, line in ipairs(panel.extra or {}) do add('%s', line) end
  add('plot %s', table.concat(elements, ', \\\n    '))
  return out
end

local head = [[
# Draws NAME.svg and NAME.png from NAME.csv: gnuplot NAME.gp
DATA = NAME_CSV
set encoding utf8
set datafile separator ','
set style fill solid 0.55 noborder
set border 3 linecolor rgb '#555555'
set tics nomirror out scale 0.6 textcolor rgb '#333333'
set grid ytics linecolor rgb '#dddddd' linetype 1 linewidth 0.6
set key KEY
set bars 0.6
set bmargin BELOW
set rmargin RIGHT
do for [kind in "svg png"] {
if (kind eq "svg") {
  set terminal svg size WIDTH,HEIGHT noenhanced font 'sans-serif,13' background '#ffffff'
} else {
  set terminal pngcairo size WIDE,HIGH noenhanced font 'Sans,13' fontscale 2 \
    linewidth 2 pointscale 2 background '#ffffff'
}
set output NAME_DOT.kind
]]

-- gnuplot's words for the legend, and its number of rows: one when it fits, none for one series.
local function legend(panel, t, width)
  local longest, count = 0, 0
  local function entry(label)
    if label then longest, count = math.max(longest, 11 * #label + 70), count + 1 end
  end
  for _, s in ipairs(panel.series) do entry(s.label) end
  if panel.density or t.density then entry(panel.density_label or t.density_label) end
  if count < 2 then return 'off', 0 end
  local rows = math.ceil(count / math.max(1, math.floor(width / longest))) -- columns are alike
  return 'at screen 0.5, screen 0.02 center bottom vertical maxrows ' .. rows
    .. ' Left reverse samplen 2 width 1', rows
end

-- Runs the script base.gp, checks that the pictures are there, and gives all paths.
local function run_gnuplot(base)
  local dir, name = fs.dirname(base), fs.basename(base)
  fs.remove(base .. '.svg')
  fs.remove(base .. '.png')
  local function shell(text) return "'" .. text:gsub("'", "'\\''") .. "'" end
  local pipe = io.popen(('cd %s && gnuplot %s 2>&1; echo "exit $?"')
    :format(shell(dir), shell(name .. '.gp')))
  local text = pipe:read('*a')
  pipe:close()
  local status = tonumber(text:match('exit (%d+)%s*$'))
  if status == 127 then
    fail('plot: gnuplot is missing (Debian: apt-get install gnuplot-nox); %s.gp and %s.csv are '
      .. 'written', base, base)
  end
  for _, kind in ipairs{ '.svg', '.png' } do
    local made = fs.stat(base .. kind)
    if status ~= 0 or not made or made.size == 0 then
      fail('plot: gnuplot could not draw %s: %s', base .. kind,
        (text:gsub('exit %d+%s*$', ''):gsub('%s+', ' ')))
    end
  end
  return { svg = base .. '.svg', png = base .. '.png', csv = base .. '.csv', gp = base .. '.gp' }
end

--- plot.again(base): draws base.svg and base.png from the script and the data that are there.
-- base: a path, with or without an ending. Returns the paths, as the functions below.
-- Errors: no script there; gnuplot's.
-- Example:
-- > assert(not pcall(require('vestige.plot').again, '/no/such/figure.svg'))
function M.again(base)
  base = base:gsub('%.%a+$', '')
  if not fs.exists(base .. '.gp') then
    fail('plot: there is no script %s.gp to draw the figure with', base)
  end
  return run_gnuplot(base)
end

-- Writes data and script, runs gnuplot.
local function draw(base, t, panels, data)
  local width, height = t.width or 720, t.height or 440
  local key, rows = legend(panels[1], t, width)
  local below = 3.6 + (rows > 0 and 0.3 + 1.3 * rows or 0)
  if t.xlabel then below = below + 0.6 end
  below = below + (panels[1].below or 0)
  local right = 3
  for _, line in ipairs(t.lines or {}) do
    if line.y and line.label then right = math.max(right, #line.label + 1) end
  end
  local name = fs.basename(base)
  local values = { NAME_CSV = quoted(name .. '.csv'), NAME_DOT = quoted(name .. '.'), NAME = name,
    WIDTH = width, HEIGHT = height, WIDE = 2 * width, HIGH = 2 * height, KEY = key,
    BELOW = below, RIGHT = right }
  local lines = { (head:gsub('%u[%u_]+', values):gsub('\n$', '')) }
  if #panels > 1 then
    lines[#lines + 1] = ('set multiplot layout 1,%d title %s offset 0, 0.4 '
      .. 'margins 0.09, 0.98, 0.25, 0.82 spacing 0.035, 0'):format(#panels, quoted(t.title or ''))
  end
  for i, panel in ipairs(panels) do
    panel.first = i == 1
    if i == 2 then lines[#lines + 1] = "set key off\nset format y ''" end
    for _, line in ipairs(panel_lines(panel, panel.elements, t)) do lines[#lines + 1] = line end
  end
  if #panels > 1 then
    lines[#lines + 1] = "unset multiplot\nset format y '% h'\nset key " .. key
  end
  lines[#lines + 1] = 'unset output\n}\n'
  fs.write(base .. '.csv', table.concat(data.lines, '\n') .. '\n')
  fs.write(base .. '.gp', table.concat(lines, '\n'))
  return run_gnuplot(base)
end

-- Builds all panels by build(panel, data, title), which returns gnuplot's plot elements.
local function figure(base, t, build)
  local data, panels = new_table(), {}
  local single = not t.panels
  for i, p in ipairs(t.panels or { t }) do
    local panel = {}
    for name, v in pairs(p) do panel[name] = v end
    panel.elements = build(panel, data, single and '' or p.title or tostring(i))
    if #panel.elements == 0 then fail('plot: %s has no series', base) end
    panels[i] = panel
  end
  return draw(base, t, panels, data)
end

local function title_of(s)
  return s.label and 'title ' .. quoted(s.label) or 'notitle'
end

local function finite_range(panels, o)
  local low, high = math.huge, -math.huge
  for _, panel in ipairs(panels) do
    for _, s in ipairs(panel.series) do
      for _, v in ipairs(s.values) do
        local finite = v == v and math.abs(v) ~= math.huge
        if finite then low, high = math.min(low, v), math.max(high, v) end
      end
    end
  end
  local r = o.xrange or {}
  return r[1] or low, r[2] or high
end

--- plot.histogram(base, t): histograms, normed to area 1, over an analytic density.
-- t: series, a list of {label, values = {...}}; bins (40); density, a function of x, and
-- density_label; the rest as at the head of this file. All panels share bins and axes.
-- Errors: no finite values; gnuplot is missing or fails; the folder cannot be written.
-- Example:
-- > local plot, chart, base = require 'vestige.plot', require 'vestige.chart', os.tmpname()
-- > local files = plot.histogram(base, { title = 'Before', xlabel = '-I', ylabel = 'density',
-- >   series = { { label = 'canaries', values = { -1, 0, 0.5, 1 } } },
-- >   density = chart.normal, density_label = 'N(0, 1)', xrange = { -4, 4 }, bins = 16 })
-- > for _, name in pairs(files) do os.remove(name) end; os.remove(base)
function M.histogram(base, t)
  local low, high = finite_range(t.panels or { t }, t)
  if low > high then fail('plot: %s: there are no finite values', base) end
  local top = 0
  local function build(panel, data, title)
    local elements = {}
    for i, s in ipairs(panel.series) do
      local h, rows = chart.bins(s.values, { bins = t.bins or 40, low = low, high = high }), {}
      for k = 1, h.bins do
        rows[k] = { h.low + (k - 0.5) * h.width, h.density[k] }
        top = math.max(top, h.density[k])
      end
      elements[i] = ('%s using 3:4:(%s) with boxes fillstyle %s noborder '
        .. 'linecolor rgb "%s" %s'):format(data:add(title, s.label or '', rows), number(h.width),
        #panel.series > 1 and 'transparent solid 0.45' or 'solid 0.7', colour(s, i), title_of(s))
    end
    local density = panel.density or t.density
    if density then
      local rows, label = {}, panel.density_label or t.density_label
      for k = 0, 200 do
        local x = low + (high - low) * k / 200
        rows[k + 1] = { x, density(x) }
        top = math.max(top, rows[k + 1][2])
      end
      elements[#elements + 1] = ('%s using 3:4 with lines linewidth 2 linecolor rgb "%s" %s')
        :format(data:add(title, label or 'density', rows), DARK, title_of{ label = label })
    end
    return elements
  end
  local shared = { yrange = { 0 }, xrange = { low, high } }
  for name, v in pairs(t) do shared[name] = v end
  if t.panels then -- build all panels once for the common height
    for _, panel in ipairs(t.panels) do build(panel, new_table(), '') end
    shared.yrange = t.yrange or { 0, top * 1.08 }
  end
  return figure(base, shared, build)
end

--- plot.curves(base, t): lines, with an optional band round each.
-- t: series, a list of {label, x = {...}, y = {...}, low = {...}, high = {...}, dashed = false,
-- points = false, colour}; NaN breaks a line; the rest as at the head of this file.
-- Errors: gnuplot is missing or fails; the folder cannot be written.
-- Example:
-- > local plot, base = require 'vestige.plot', os.tmpname()
-- > local files = plot.curves(base, { title = 'Loss', xlabel = 'step', ylabel = 'loss (nats)',
-- >   series = { { label = 'train', x = { 1, 2, 3 }, y = { 3, 2, 1.5 } } } })
-- > for _, name in pairs(files) do os.remove(name) end; os.remove(base)
function M.curves(base, t)
  return figure(base, t, function(panel, data, title)
    local bands, lines = {}, {}
    for i, s in ipairs(panel.series) do
      local rows = {}
      for k, x in ipairs(s.x) do
        rows[k] = { x, s.y[k], s.low and s.low[k], s.high and s.high[k] }
      end
      local where = data:add(title, s.label or '', rows)
      if s.low and s.high then
        bands[#bands + 1] = ('%s using 3:5:6 with filledcurves fillstyle transparent solid 0.2 '
          .. 'noborder linecolor rgb "%s" notitle'):format(where, colour(s, i))
      end
      lines[#lines + 1] = ('%s using 3:4 with %s linewidth 2 dashtype %d linecolor rgb "%s" %s')
        :format(where, s.points and 'linespoints pointtype 7 pointsize 0.6' or 'lines',
          s.dashed and 2 or 1, colour(s, i), title_of(s))
    end
    for _, line in ipairs(lines) do bands[#bands + 1] = line end
    return bands
  end)
end

--- plot.bars(base, t): bars in groups, with intervals.
-- t: categories, a list of names along the x axis; series, a list of {label, values = {...},
-- low = {...}, high = {...}}, one value a category (NaN leaves it out), low and high the ends of
-- the interval; the rest as at the head of this file.
-- Errors: gnuplot is missing or fails; the folder cannot be written.
-- Example:
-- > local plot, base = require 'vestige.plot', os.tmpname()
-- > local files = plot.bars(base, { title = 'Score', ylabel = 'GUS', categories = { 'gd', 'ngd' },
-- >   series = { { values = { 0.9, 0.5 }, low = { 0.8, 0.4 }, high = { 1, 0.6 } } } })
-- > for _, name in pairs(files) do os.remove(name) end; os.remove(base)
function M.bars(base, t)
  return figure(base, t, function(panel, data, title)
    local categories, bars, marks = panel.categories or t.categories, {}, {}
    local count, longest, tics, least, most = #panel.series, 0, {}, 0, 0
    local width = 0.8 / count
    for i, name in ipairs(categories) do
      tics[i] = ('%s %d'):format(quoted(name), i)
      longest = math.max(longest, #tostring(name))
    end
    local slot = ((t.width or 720) - 130) / (#categories * (t.panels and #t.panels or 1))
    local turned = longest * 8.5 > slot -- pixels a letter
    for i, s in ipairs(panel.series) do
      local rows = {}
      for k = 1, #categories do
        local x = k + (i - (count + 1) / 2) * width
        rows[k] = { x, s.values[k] or 0 / 0, s.low and s.low[k], s.high and s.high[k] }
        for j = 2, 4 do
          least, most = math.min(least, rows[k][j] or 0), math.max(most, rows[k][j] or 0)
        end
      end
      local where = data:add(title, s.label or '', rows)
      bars[i] = ('%s using 3:4:(%s) with boxes fillstyle solid 0.75 noborder linecolor rgb "%s" %s')
        :format(where, number(width * 0.9), colour(s, i), title_of(s))
      if s.low and s.high then
        marks[#marks + 1] = ('%s using 3:5:(0):($6-$5) with vectors heads size %s,90 '
          .. 'linewidth 1.6 linecolor rgb "%s" notitle'):format(where, number(width * 0.12), DARK)
      end
    end
    local upright = turned and slot < 40 -- slanted names would lie on each other
    if turned then panel.below = (upright and 0.5 or 0.11) * longest end
    local turn = upright and ' rotate by -90' or turned and ' rotate by -25' or ''
    panel.extra = {
      ('set xtics (%s)%s'):format(table.concat(tics, ', '), turn),
      'set xzeroaxis linetype 1 linecolor rgb "#555555"',
      ('set offsets 0, 0, graph 0.05, graph %s'):format(least < 0 and 0.05 or 0),
    }
    panel.xrange = panel.xrange or { 0.4, #categories + 0.6 }
    if not (panel.yrange or t.yrange) and least * most == 0 then -- bars stand on 0
      panel.yrange = least < 0 and { nil, 0 } or most > 0 and { 0 } or nil
    end
    for _, mark in ipairs(marks) do bars[#bars + 1] = mark end
    return bars
  end)
end

--- plot.scatter(base, t): points.
-- t: series, a list of {label, x = {...}, y = {...}}; diagonal (false) draws y = x; the rest as at
-- the head of this file.
-- Errors: gnuplot is missing or fails; the folder cannot be written.
-- Example:
-- > local plot, base = require 'vestige.plot', os.tmpname()
-- > local files = plot.scatter(base, { title = 'Pairs', xlabel = 'before', ylabel = 'after',
-- >   series = { { x = { 1, 2, 3 }, y = { 3, 2, 1.5 } } } })
-- > for _, name in pairs(files) do os.remove(name) end; os.remove(base)
function M.scatter(base, t)
  local types = { 7, 5, 9, 11, 13, 6, 4 }
  return figure(base, t, function(panel, data, title)
    local elements = {}
    if panel.diagonal or t.diagonal then
      elements[1] = ('x with lines dashtype 2 linecolor rgb "%s" notitle'):format(DARK)
    end
    for i, s in ipairs(panel.series) do
      local rows = {}
      for k, x in ipairs(s.x) do rows[k] = { x, s.y[k] } end
      elements[#elements + 1] = ('%s using 3:4 with points pointtype %d pointsize 0.6 '
        .. 'linecolor rgb "%s" %s'):format(data:add(title, s.label or '', rows),
        types[(i - 1 + math.floor((i - 1) / #palette)) % #types + 1], -- no two alike in both
        colour(s, i), title_of(s))
    end
    return elements
  end)
end

return M
