-- Histograms and curves in the terminal, in block and braille characters.
-- Pictures for files are made by vestige.plot.

local bit = require 'bit'
local fail = require 'vestige.fail'
local palette = require 'vestige.palette'
local term = require 'vestige.term'

local M = {}

local eighths = { '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█' }

local function character(point) -- U+2800 and above, three bytes
  return string.char(0xe0 + bit.rshift(point, 12), 0x80 + bit.band(bit.rshift(point, 6), 63),
    0x80 + bit.band(point, 63))
end

--- chart.bins(values, options): counts of values in equal bins.
-- options: bins (30); low, high (the values' range, a little wider). Values outside go to the
-- first and last bin; NaN is left out.
-- Returns {low, high, width, n, counts, density}, density so that the bars' area is 1.
-- Errors: no finite values.
-- Example:
-- > local h = require('vestige.chart').bins({ 0, 1, 1 }, { bins = 2, low = 0, high = 1 })
-- > assert(h.counts[1] == 1 and h.counts[2] == 2)
function M.bins(values, options)
  options = options or {}
  local low, high, n = math.huge, -math.huge, 0
  for _, v in ipairs(values) do
    if v == v and math.abs(v) ~= math.huge then
      low, high, n = math.min(low, v), math.max(high, v), n + 1
    end
  end
  if n == 0 then fail('histogram: there are no finite values') end
  if low == high then low, high = low - 0.5, high + 0.5 end
  low, high = options.low or low, options.high or high
  local h = { low = low, high = high, bins = options.bins or 30, n = n, counts = {}, density = {} }
  h.width = (high - low) / h.bins
  for i = 1, h.bins do h.counts[i] = 0 end
  for _, v in ipairs(values) do
    if v == v and math.abs(v) ~= math.huge then
      local i = math.floor((v - low) / h.width) + 1
      i = math.max(1, math.min(h.bins, i))
      h.counts[i] = h.counts[i] + 1
    end
  end
  for i = 1, h.bins do h.density[i] = h.counts[i] / (n * h.width) end
  return h
end

--- chart.normal(x, mean, deviation): the normal density; mean 0 and deviation 1 when left out.
-- Example:
-- > assert(math.abs(require('vestige.chart').normal(0) - 0.3989) < 1e-4)
function M.normal(x, mean, deviation)
  deviation = deviation or 1
  local z = (x - (mean or 0)) / deviation
  return math.exp(-z * z / 2) / (deviation * math.sqrt(2 * math.pi))
end

local function settings(options)
  options = options or {}
  local colour, unicode = options.colour, options.unicode
  if colour == nil then colour = term.has_colour() end
  if unicode == nil then unicode = term.has_unicode() end
  return options, colour, unicode, options.width or math.min(term.columns(), 100)
end

-- Ends of the x axis, and its middle, under a plot that starts at column `left`.
local function x_axis(low, high, left, width, label)
  local a, b = term.number(low, 3), term.number(high, 3)
  local middle = label or term.number((low + high) / 2, 3)
  local space = width - #a - #b - term.width(middle)
  if space < 2 then return (' '):rep(left) .. a .. (' '):rep(math.max(1, width - #a - #b)) .. b end
  local before = math.max(1, math.floor((width - term.width(middle)) / 2) - #a)
  return (' '):rep(left) .. a .. (' '):rep(before) .. middle .. (' '):rep(space - before) .. b
end

--- chart.histogram(values, options): a histogram as one string, over an analytic density if given.
-- options: title, label (under the axis), low, high, bins (40), height (8), width (the
-- terminal's, at most 100), density (a function of x, drawn as dots), colour, unicode,
-- top: the height of the axis, to give several histograms one scale.
-- Errors: no finite values.
-- Example:
-- > local chart = require 'vestige.chart'
-- > local text = chart.histogram({ -1, 0, 0, 1 }, { density = chart.normal, low = -4, high = 4 })
-- > assert(select(2, text:gsub('\n', '')) == 9)
function M.histogram(values, options)
  local o, colour, unicode, width = settings(options)
  local height = o.height or 8
  local h = M.bins(values, { bins = math.max(4, math.min(o.bins or 40, width - 2)), low = o.low,
    high = o.high })
  local repeats = math.max(1, math.floor((width - 2) / h.bins))
  local curve, top = {}, o.top or 0
  for i = 1, h.bins do
    curve[i] = o.density and o.density(h.low + (i - 0.5) * h.width) or 0
    if not o.top then top = math.max(top, h.density[i], curve[i]) end
  end
  local function curve_row(i) return math.ceil((curve[i] or 0) / top * height - 0.05) end
  -- The curve's own row, and the rows down to its lower neighbour, so that it has no gaps.
  local function on_curve(i, row)
    local own = curve_row(i)
    local below = math.min(curve_row(i - 1), curve_row(i + 1))
    return own > 0 and (row == own or row < own and row > below and row > 0)
  end
  local out = {}
  if o.title then out[1] = term.paint(term.fit(o.title, width), 'bold', colour) end
  for row = height, 1, -1 do
    local line = {}
    for i = 1, h.bins do
      local filled = (h.density[i] / top * height - (row - 1)) * 8
      local block
      if filled >= 8 then
        block = unicode and eighths[8] or '#'
      elseif filled >= 1 then
        block = unicode and eighths[math.floor(filled)] or (filled >= 4 and '#' or '.')
      else
        block = ' '
      end
      if on_curve(i, row) then
        line[i] = term.paint((unicode and '•' or 'o'):rep(repeats), palette[2], colour)
      else
        line[i] = block == ' ' and block:rep(repeats)
          or term.paint(block:rep(repeats), palette[1], colour)
      end
    end
    out[#out + 1] = ' ' .. table.concat(line)
  end
  out[#out + 1] = ' ' .. (unicode and '─' or '-'):rep(h.bins * repeats)
  out[#out + 1] = x_axis(h.low, h.high, 1, h.bins * repeats, o.label)
  return table.concat(out, '\n')
end

local function range_of(series, axis, low, high)
  local a, b = math.huge, -math.huge
  for _, s in ipairs(series) do
    for _, v in ipairs(s[axis]) do
      if v == v and math.abs(v) ~= math.huge then a, b = math.min(a, v), math.max(b, v) end
    end
  end
  if a > b then fail('curves: there are no finite values in %s', axis) end
  if a == b then a, b = a - 0.5, b + 0.5 end
  return low or a, high or b
end

local function hue(who) return palette[(who - 1) % #palette + 1] end

local function plain_mark(who)
  local i = (who - 1) % 7 + 1
  return ('*ox+#@%'):sub(i, i)
end

-- A canvas of braille dots, 2 x 4 a cell; each cell keeps the last series that touched it.
local function draw(series, o, columns, rows, limits)
  local dots, owner = {}, {}
  local wide, high = columns * 2, rows * 4
  local function dot(x, y, who)
    if x < 0 or x >= wide or y < 0 or y >= high then return end
    local cell = math.floor(y / 4) * columns + math.floor(x / 2)
    local column, row = x % 2, y % 4
    local mask = row == 3 and (column == 0 and 0x40 or 0x80) or bit.lshift(1, row + 3 * column)
    dots[cell], owner[cell] = bit.bor(dots[cell] or 0, mask), who
  end
  local function place(x, y)
    return math.floor((x - limits[1]) / (limits[2] - limits[1]) * (wide - 1) + 0.5),
      math.floor((1 - (y - limits[3]) / (limits[4] - limits[3])) * (high - 1) + 0.5)
  end
  for who, s in ipairs(series) do
    local px, py
    for i, x in ipairs(s.x) do
      local y = s.y[i]
      local finite = y == y and x == x and math.abs(y) ~= math.huge and math.abs(x) ~= math.huge
      if finite then
        local cx, cy = place(x, y)
        local steps = (px and not o.points) and math.max(math.abs(cx - px), math.abs(cy - py)) or 0
        for k = 1, math.min(steps, 4 * wide) do
          dot(math.floor(px + (cx - px) * k / steps + 0.5),
            math.floor(py + (cy - py) * k / steps + 0.5), who)
        end
        dot(cx, cy, who)
        px, py = cx, cy
      else
        px = nil
      end
    end
  end
  return dots, owner
end

--- chart.curves(series, options): lines (or points) over common axes, as one string.
-- series: a list of {label, x = {...}, y = {...}}; a NaN breaks a line.
-- options: title, label (under the x axis), low, high, bottom, top (the axes' ends), height (12),
-- width (the terminal's, at most 100), points (false), colour, unicode.
-- Errors: no finite values.
-- Example:
-- > local chart = require 'vestige.chart'
-- > local text = chart.curves({ { label = 'loss', x = { 1, 2, 3 }, y = { 3, 1, 2 } } })
-- > assert(text:find('loss', 1, true))
function M.curves(series, options)
  local o, colour, unicode, width = settings(options)
  local rows = o.height or 12
  local low, high = range_of(series, 'x', o.low, o.high)
  local bottom, top = range_of(series, 'y', o.bottom, o.top)
  local upper, lower = term.number(top, 3), term.number(bottom, 3)
  local left = math.max(#upper, #lower)
  local columns = math.max(8, width - left - 3)
  local dots, owner = draw(series, o, columns, rows, { low, high, bottom, top })
  local out = {}
  if o.title then out[1] = term.paint(term.fit(o.title, width), 'bold', colour) end
  for row = 1, rows do
    local label = row == 1 and upper or row == rows and lower or ''
    local line = { (' '):rep(left - #label), label, unicode and ' │' or ' |' }
    for column = 0, columns - 1 do
      local cell = (row - 1) * columns + column
      local mark = ' '
      if dots[cell] then
        mark = unicode and character(0x2800 + dots[cell]) or plain_mark(owner[cell])
        mark = term.paint(mark, hue(owner[cell]), colour)
      end
      line[#line + 1] = mark
    end
    out[#out + 1] = table.concat(line):gsub('%s+$', '')
  end
  out[#out + 1] = (' '):rep(left + 1) .. (unicode and '└' or '+')
    .. (unicode and '─' or '-'):rep(columns)
  out[#out + 1] = x_axis(low, high, left + 2, columns, o.label)
  local legend = {}
  for who, s in ipairs(series) do
    local mark = unicode and '━' or plain_mark(who)
    legend[who] = term.paint(mark, hue(who), colour) .. ' ' .. (s.label or '')
  end
  if #series > 1 or series[1].label then
    out[#out + 1] = (' '):rep(left + 2) .. term.fit(table.concat(legend, '   '), width - left - 2)
  end
  return table.concat(out, '\n')
end

return M
