--- Curves and histograms in the terminal, from plain lists of numbers. Gives strings and prints
-- nothing. Braille dots where the locale has UTF-8, stars and hashes otherwise.
local M = {}

local has_host, host = pcall(require, 'vestige.host')

local function terminal_width()
  return has_host and host.columns() or tonumber(os.getenv('COLUMNS')) or 80
end

local function utf8()
  local locale = os.getenv('LC_ALL') or ''
  if locale == '' then locale = os.getenv('LC_CTYPE') or '' end
  if locale == '' then locale = os.getenv('LANG') or '' end
  return locale == '' or locale:lower():find('utf%-?8') ~= nil
end

local function finite(v)
  return v == v and v ~= math.huge and v ~= -math.huge
end

local function range(list)
  local lo, hi = math.huge, -math.huge
  for _, v in ipairs(list) do
    if finite(v) then lo, hi = math.min(lo, v), math.max(hi, v) end
  end
  if lo > hi then return nil end
  if lo == hi then
    local room = lo == 0 and 1 or math.abs(lo) * 0.1
    lo, hi = lo - room, hi + room
  end
  return lo, hi
end

local function label(v)
  return ('%.4g'):format(v)
end

-- Bits of the eight dots of a braille cell, by row and column.
local dots = { { 0x01, 0x08 }, { 0x02, 0x10 }, { 0x04, 0x20 }, { 0x40, 0x80 } }

local function braille(bits)
  return string.char(0xE2, 0xA0 + math.floor(bits / 64), 0x80 + bits % 64)
end

local function canvas(columns, lines, fine)
  local cells = {}
  local dx, dy = fine and 2 or 1, fine and 4 or 1
  local self = { w = columns * dx, h = lines * dy }
  function self.set(x, y) -- from 0, y upwards
    local row = self.h - 1 - y
    local cell = math.floor(row / dy) * columns + math.floor(x / dx)
    cells[cell] = bit.bor(cells[cell] or 0, fine and dots[row % dy + 1][x % dx + 1] or 1)
  end
  function self.line(i)
    local out = {}
    for x = 0, columns - 1 do
      local bits = cells[i * columns + x]
      out[#out + 1] = not bits and ' ' or fine and braille(bits) or '*'
    end
    return table.concat(out)
  end
  return self
end

local function axes(body, lines, lo, hi, left, right, columns, title)
  local marks = { [1] = label(hi), [lines] = label(lo) }
  if lines >= 5 then marks[math.ceil(lines / 2)] = label((lo + hi) / 2) end
  local margin = 0
  for _, mark in next, marks do margin = math.max(margin, #mark) end
  local out = {}
  if title then out[1] = (' '):rep(margin + 2) .. title end
  for i = 1, lines do
    out[#out + 1] = ('%' .. margin .. 's |%s'):format(marks[i] or '', body(i - 1))
  end
  out[#out + 1] = (' '):rep(margin + 1) .. '+' .. ('-'):rep(columns)
  local gap = math.max(1, columns - #left - #right)
  out[#out + 1] = (' '):rep(margin + 2) .. left .. (' '):rep(gap) .. right
  return table.concat(out, '\n')
end

--- A curve through the points (xs[i], ys[i]); xs may be nil for 1, 2, 3. Options: width= columns,
-- height=16 lines, title=. Points that are not finite leave a gap.
--
-- > print(chart.curve(nil, {1, 4, 9, 16}, {width = 40, height = 8}))
function M.curve(xs, ys, options)
  options = options or {}
  if not xs then
    xs = {}
    for i = 1, #ys do xs[i] = i end
  elseif #xs ~= #ys then
    error(('plot: x has %d numbers, y has %d'):format(#xs, #ys), 3)
  end
  local x0, x1 = range(xs)
  local y0, y1 = range(ys)
  if not x0 or not y0 then return 'nothing to draw: no finite number' end
  local columns = math.max(10, (options.width or math.min(terminal_width(), 100)) - 12)
  local lines = math.max(2, options.height or 16)
  local c = canvas(columns, lines, utf8())
  local px, py
  for i = 1, #ys do
    if finite(xs[i]) and finite(ys[i]) then
      local x = math.floor((xs[i] - x0) / (x1 - x0) * (c.w - 1) + 0.5)
      local y = math.floor((ys[i] - y0) / (y1 - y0) * (c.h - 1) + 0.5)
      local long = px and math.max(math.abs(x - px), math.abs(y - py)) or 0
      for k = 0, long do
        local t = long > 0 and k / long or 0
        c.set(math.floor((px or x) + ((x - (px or x)) * t) + 0.5),
          math.floor((py or y) + ((y - (py or y)) * t) + 0.5))
      end
      c.set(x, y)
      px, py = x, y
    else
      px, py = nil, nil
    end
  end
  return axes(c.line, lines, y0, y1, label(x0), label(x1), columns, options.title)
end

local eighths = { '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█' }

--- A histogram of a list of numbers: its bars, the range below. Options: bins=, lo=, hi= (numbers
-- outside are not counted), width=, height=10, title=.
--
-- > print(chart.histogram({1, 2, 2, 3, 3, 3}, {bins = 3, width = 40}))
function M.histogram(values, options)
  options = options or {}
  local lo, hi = range(values)
  lo, hi = options.lo or lo, options.hi or hi
  if not lo then return 'nothing to draw: no finite number' end
  local columns = math.max(10, (options.width or math.min(terminal_width(), 100)) - 12)
  local bins = math.max(1, math.min(options.bins or 40, columns))
  local counts, most = {}, 1
  for i = 1, bins do counts[i] = 0 end
  for _, v in ipairs(values) do
    if finite(v) and v >= lo and v <= hi then
      local i = math.min(bins, math.floor((v - lo) / (hi - lo) * bins) + 1)
      counts[i] = counts[i] + 1
      most = math.max(most, counts[i])
    end
  end
  local lines, wide = math.max(2, options.height or 10), math.floor(columns / bins)
  local fine = utf8()
  local function body(row)
    local out = {}
    for i = 1, bins do
      local full = counts[i] / most * lines - (lines - 1 - row)
      local mark = ' '
      if full >= 1 then
        mark = fine and '█' or '#'
      elseif full > 0 and fine then
        mark = eighths[math.max(1, math.floor(full * 8 + 0.5))]
      elseif full >= 0.5 then
        mark = '#'
      end
      out[i] = mark:rep(wide)
    end
    return table.concat(out)
  end
  return axes(body, lines, 0, most, label(lo), label(hi), bins * wide, options.title)
end

return M
