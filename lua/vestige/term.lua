-- The terminal: one live line a stage, aligned tables, histograms and curves in characters.
-- NO_COLOR is respected; without a terminal there are no colours and no redrawn lines; without
-- UTF-8 blocks become # and dots. Everything fits the terminal's width.

local bit = require 'bit'
local fail = require 'vestige.fail'
local fs = require 'vestige.fs'
local palette = require 'vestige.palette'

local M = {}

local function env(name)
  local v = os.getenv(name)
  return v ~= '' and v or nil
end

--- term.columns(fd): the width to fill: the terminal's, else $COLUMNS, else 80.
-- fd (1): 1 output, 2 errors.
-- Example:
-- > assert(require('vestige.term').columns() > 0)
function M.columns(fd)
  return fs.columns(fd or 1) or tonumber(env 'COLUMNS') or 80
end

--- term.has_colour(fd): whether to colour: a terminal, NO_COLOR unset, TERM not dumb.
-- Example:
-- > assert(type(require('vestige.term').has_colour()) == 'boolean')
function M.has_colour(fd)
  return fs.isatty(fd or 1) and not env 'NO_COLOR' and env 'TERM' ~= 'dumb'
end

--- term.has_unicode(): whether the locale is UTF-8.
-- Example:
-- > assert(type(require('vestige.term').has_unicode()) == 'boolean')
function M.has_unicode()
  local locale = env 'LC_ALL' or env 'LC_CTYPE' or env 'LANG' or ''
  return locale:lower():find('utf%-?8') ~= nil
end

--- term.paint(text, colour, on): text in a colour ('#RRGGBB', 'bold' or 'dim').
-- on (term.has_colour()): false gives the text back. True colour where COLORTERM says so, else
-- the nearest of 256.
-- Example:
-- > assert(require('vestige.term').paint('x', 'bold', true) == '\27[1mx\27[0m')
function M.paint(text, colour, on)
  if on == nil then on = M.has_colour() end
  if not on or not colour then return text end
  local code = ({ bold = '1', dim = '2' })[colour]
  if not code then
    local r, g, b = colour:match('^#(%x%x)(%x%x)(%x%x)$')
    if not r then fail("term: colour must be '#RRGGBB', bold or dim, got %s", colour) end
    r, g, b = tonumber(r, 16), tonumber(g, 16), tonumber(b, 16)
    local depth = env 'COLORTERM'
    if depth == 'truecolor' or depth == '24bit' then
      code = ('38;2;%d;%d;%d'):format(r, g, b)
    else
      local function level(c) return math.floor(c / 255 * 5 + 0.5) end
      code = ('38;5;%d'):format(16 + 36 * level(r) + 6 * level(g) + level(b))
    end
  end
  return '\27[' .. code .. 'm' .. text .. '\27[0m'
end

-- The characters of UTF-8 text, each with its width in cells.
local function characters(text)
  return text:gmatch('[%z\1-\127\194-\244][\128-\191]*')
end

local function code_point(c)
  local a, b, x, y = c:byte(1, 4)
  if a < 0x80 then return a end
  if a < 0xe0 then return bit.band(a, 0x1f) * 64 + b % 64 end
  if a < 0xf0 then return bit.band(a, 0x0f) * 4096 + b % 64 * 64 + (x or 0) % 64 end
  return bit.band(a, 7) * 262144 + b % 64 * 4096 + (x or 0) % 64 * 64 + (y or 0) % 64
end

-- Marks that take no cell, and scripts and pictures that take two.
local narrow = { { 0x300, 0x36f }, { 0x200b, 0x200f }, { 0x20d0, 0x20ff }, { 0xfe00, 0xfe0f } }
local wide = { { 0x1100, 0x115f }, { 0x2e80, 0xa4cf }, { 0xac00, 0xd7a3 }, { 0xf900, 0xfaff },
  { 0xfe30, 0xfe6f }, { 0xff00, 0xff60 }, { 0x1f300, 0x1f64f }, { 0x1f900, 0x1f9ff },
  { 0x20000, 0x3fffd } }

local function within(ranges, c)
  for _, range in ipairs(ranges) do
    if c >= range[1] and c <= range[2] then return true end
  end
  return false
end

local function cells(c)
  if #c == 1 then return 1 end
  local point = code_point(c)
  return within(narrow, point) and 0 or within(wide, point) and 2 or 1
end

--- term.width(text): the cells that a text takes, escape sequences and combining marks aside.
-- Example:
-- > assert(require('vestige.term').width('\27[1me\204\129\27[0m') == 1)
function M.width(text)
  local n = 0
  for c in characters((text:gsub('\27%[[%d;]*%a', ''))) do n = n + cells(c) end
  return n
end

--- term.fit(text, width): the text, cut to a width with an ellipsis when it is longer.
-- Example:
-- > assert(require('vestige.term').width(require('vestige.term').fit('a long text', 6)) == 6)
function M.fit(text, width)
  if M.width(text) <= width then return text end
  local plain, out, n = text:gsub('\27%[[%d;]*%a', ''), {}, 0
  local mark = M.has_unicode() and '…' or '~'
  for c in characters(plain) do
    if n + cells(c) > width - 1 then break end
    out[#out + 1], n = c, n + cells(c)
  end
  return table.concat(out) .. (width > 0 and mark or '')
end

local function pad(text, width, right)
  local space = (' '):rep(width - M.width(text))
  return right and space .. text or text .. space
end

--- term.duration(seconds): 0:07, 12:30, 3:04:05, 2 d 3 h.
-- Example:
-- > assert(require('vestige.term').duration(750) == '12:30')
function M.duration(seconds)
  if not (seconds >= 0 and seconds < 1e9) then return '?' end
  local s = math.floor(seconds + 0.5)
  if s < 3600 then return ('%d:%02d'):format(s / 60, s % 60) end
  if s < 172800 then return ('%d:%02d:%02d'):format(s / 3600, s % 3600 / 60, s % 60) end
  return ('%d d %d h'):format(s / 86400, s % 86400 / 3600)
end

--- term.number(x, digits): a short text for a number; nan and infinities as words, nil as -.
-- digits (4): significant ones.
-- Example:
-- > assert(require('vestige.term').number(0.123456) == '0.1235')
function M.number(x, digits)
  if type(x) ~= 'number' then return x == nil and '-' or tostring(x) end
  if x ~= x then return 'nan' end
  if x == math.floor(x) and math.abs(x) < 1e9 then return ('%d'):format(x) end
  return ('%.' .. (digits or 4) .. 'g'):format(x)
end

--- term.table(rows, options): an aligned text table, as one string without a last newline.
-- rows: lists of texts or numbers; a false or nil cell is a dash.
-- options: header, a list; align, a text of l and r (numbers right, texts left); width (the
-- terminal's): the widest column of texts is cut to fit; colour (term.has_colour()).
-- Example:
-- > local t = require('vestige.term').table({ { 'gd', 0.5 } }, { header = { 'method', 'gus' } })
-- > assert(t:find('method  gus', 1, true) and t:find('gd      0.5', 1, true))
function M.table(rows, options)
  options = options or {}
  local columns, count, text = {}, options.header and #options.header or 0, {}
  for i, row in ipairs(rows) do
    text[i] = {}
    for j in pairs(row) do count = math.max(count, j) end
  end
  for j = 1, count do
    local head = options.header and options.header[j] or ''
    local column = { width = M.width(head), right = true }
    for i, row in ipairs(rows) do
      local cell = M.number(row[j] or nil)
      text[i][j] = cell
      column.width = math.max(column.width, M.width(cell))
      local bare = cell:gsub('\27%[[%d;]*%a', '')
      column.right = column.right and bare:find('^[%s%d+%-.,%%eE±nainf()<>=%[%]]*$') ~= nil
    end
    local align = options.align and options.align:sub(j, j)
    if align and align ~= '' then column.right = align == 'r' end
    columns[j] = column
  end
  local total = 2 * (count - 1)
  for _, column in ipairs(columns) do total = total + column.width end
  local over = total - (options.width or M.columns())
  while over > 0 do
    local widest
    for _, column in ipairs(columns) do
      if not column.right and (not widest or column.width > widest.width) then widest = column end
    end
    if not widest or widest.width <= 4 then break end
    widest.width, over = widest.width - 1, over - 1
  end
  local function line(row)
    local out = {}
    for j, column in ipairs(columns) do
      out[j] = pad(M.fit(row[j] or '', column.width), column.width, column.right)
    end
    return (table.concat(out, '  '):gsub('%s+$', ''))
  end
  local out = {}
  if options.header then
    out[1] = M.paint(line(options.header), 'bold', options.colour)
    local rule, dash = {}, M.has_unicode() and '─' or '-'
    for j, column in ipairs(columns) do rule[j] = dash:rep(column.width) end
    out[2] = M.paint(table.concat(rule, '  '), 'dim', options.colour)
  end
  for _, row in ipairs(text) do out[#out + 1] = line(row) end
  return table.concat(out, '\n')
end

local Bar = {}
Bar.__index = Bar

local prefix = ''

--- term.prefix(text): what the labels of live lines begin with from now on, such as 'seed 2 '.
-- Example:
-- > require('vestige.term').prefix ''
function M.prefix(text) prefix = text end

--- term.bar(t): a live line of progress, `bar:update(step, fields)` and `bar:finish(text)`.
-- t: label; total (nil: unknown); start (0), the step it begins at; quiet (false); every (10), the
-- seconds between plain lines where the output is no terminal, nor a pipe to one in which
-- VESTIGE_LIVE columns are lent to it.
-- fields: loss, accuracy (a share, shown in %) and any others; the rate and the time left are
-- added. bar:say(text) prints a line above the live one; finish leaves one plain line (text, or
-- the last fields and the time taken); clear() removes the live line.
-- Example:
-- > local bar = require('vestige.term').bar{ label = 'train', total = 2, quiet = true }
-- > bar:update(1, { loss = 0.5 }); bar:finish()
function M.bar(t)
  local stream, fd = t.stream or io.stderr, t.fd or 2
  local live, lent = t.live, tonumber(env 'VESTIGE_LIVE')
  if live == nil then live = lent ~= nil or fs.isatty(fd) and env 'TERM' ~= 'dumb' end
  local now = (t.clock or fs.monotonic)()
  return setmetatable({ label = prefix .. (t.label or ''), total = t.total, step = t.start or 0,
    quiet = t.quiet, every = t.every or 10, stream = stream, fd = fd, live = live,
    clock = t.clock or fs.monotonic, began = now, drawn = -math.huge, plain = now,
    width = t.width or lent, mark = { now, t.start or 0 },
    colour = live and M.has_colour(fd) }, Bar)
end

local first = { 'loss', 'accuracy' }

local function field_texts(fields)
  local names, out = {}, {}
  for name in pairs(fields) do
    if name ~= 'loss' and name ~= 'accuracy' then names[#names + 1] = name end
  end
  table.sort(names)
  for i = #first, 1, -1 do table.insert(names, 1, first[i]) end
  for _, name in ipairs(names) do
    local v = fields[name]
    if v ~= nil and name == 'accuracy' and type(v) == 'number' then
      out[#out + 1] = ('accuracy %.1f %%'):format(100 * v)
    elseif v ~= nil then
      out[#out + 1] = name .. ' ' .. M.number(v)
    end
  end
  return out
end

-- Steps a second over about the last ten seconds.
function Bar:measure(now)
  local dt, steps = now - self.mark[1], self.step - self.mark[2]
  if dt > 0 and steps > 0 then self.rate = steps / dt end
  if dt > 10 then self.mark = { now - dt / 2, self.step - steps / 2 } end
end

function Bar:parts(fields)
  local out = field_texts(fields or {})
  if self.rate then
    out[#out + 1] = self.rate >= 1 and ('%.1f/s'):format(self.rate)
      or ('%.1f s each'):format(1 / self.rate)
    if self.total then
      out[#out + 1] = M.duration((self.total - self.step) / self.rate) .. ' left'
    end
  end
  return out
end

function Bar:line(fields)
  local room = (self.width or M.columns(self.fd)) - 1
  local count = self.total and ('%d/%d'):format(self.step, self.total) or ('%d'):format(self.step)
  local head, parts, length = self.label, self:parts(fields), self.total and 20 or 0
  local function text(n)
    local meter = ''
    if n > 0 then
      local full = math.floor(n * math.min(1, self.step / math.max(1, self.total)) + 0.5)
      local on, off = '#', '.'
      if M.has_unicode() then on, off = '█', '░' end
      meter = '  ' .. M.paint(on:rep(full), palette[1], self.colour)
        .. M.paint(off:rep(n - full), 'dim', self.colour)
    end
    return head .. meter .. '  ' .. count .. (parts[1] and '  ' or '') .. table.concat(parts, '  ')
  end
  while M.width(text(length)) > room and length > 0 do
    length = length > 6 and length - 1 or 0
  end
  while M.width(text(length)) > room and #parts > 1 do table.remove(parts, 1) end
  return M.fit(text(length), room)
end

function Bar:update(step, fields)
  self.step, self.fields = step, fields or self.fields
  if self.quiet then return end
  local now = self.clock()
  if self.live then
    if now - self.drawn < 0.1 and step ~= self.total then return end
    self.drawn = now
    self:measure(now)
    self.stream:write('\r\27[K', self:line(self.fields))
    self.stream:flush()
    self.shown = true
  elseif now - self.plain >= self.every then
    self.plain = now
    self:measure(now)
    local count = self.total and ('step %d of %d'):format(step, self.total) or 'step ' .. step
    self:print(table.concat({ self.label, count, unpack(self:parts(self.fields)) }, '  '))
  end
end

function Bar:print(text)
  self.stream:write(text, '\n')
  self.stream:flush()
end

function Bar:clear()
  if self.shown then
    self.stream:write('\r\27[K')
    self.stream:flush()
  end
  self.shown = false
end

function Bar:say(text)
  local shown = self.shown
  self:clear()
  self:print(text)
  if shown then
    self.stream:write(self:line(self.fields))
    self.stream:flush()
    self.shown = true
  end
end

function Bar:finish(text)
  self:clear()
  if self.quiet then return end
  if not text then
    local parts = field_texts(self.fields or {})
    table.insert(parts, 1, ('%d step%s'):format(self.step, self.step == 1 and '' or 's'))
    parts[#parts + 1] = M.duration(self.clock() - self.began)
    text = table.concat(parts, '  ')
  end
  self:print((self.label ~= '' and self.label .. '  ' or '') .. text)
end

return M
