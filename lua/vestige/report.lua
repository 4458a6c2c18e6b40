-- One self-contained report.html: conclusion first, tables, pictures with the commands that made
-- them, provenance. Nothing in it refers outside; it reads on a phone, in dark mode and on paper.
-- It takes finished values and picture files only: numbers come from result.json, not from here.
-- What the page is made from is kept beside it as report.json, so that it can be made again.

local bit = require 'bit'
local fail = require 'vestige.fail'
local fs = require 'vestige.fs'
local json = require 'vestige.json'
local options = require 'vestige.options'
local plot = require 'vestige.plot'
local term = require 'vestige.term'

local M = {}

local css = [[
:root { color-scheme: light dark; --text: #1c1e21; --soft: #5a6068; --paper: #ffffff;
  --line: #d9dde2; --tint: #f3f5f8; --mark: #0072B2; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --soft: #a2a9b2; --paper: #16181b;
  --line: #363b42; --tint: #1f2328; --mark: #56B4E9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 74rem; color: var(--text);
  background: var(--paper); font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
.conclusion { font-size: 1.1rem; margin: 0; padding: .8rem 1rem; background: var(--tint);
  border-left: 4px solid var(--mark); border-radius: 0 6px 6px 0; }
.wide { overflow-x: auto; margin: .8rem 0; }
caption { text-align: left; font-weight: 600; padding-bottom: .2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td:last-child:not(.n) { min-width: 12rem; }
.n { text-align: right; white-space: nowrap; }
figure { margin: 1.2rem 0; break-inside: avoid; }
figure svg, figure img { display: block; width: 100%; height: auto; background: #ffffff;
  border: 1px solid var(--line); border-radius: 6px; }
figcaption { margin-top: .5rem; color: var(--soft); }
pre { margin: .4rem 0; padding: .5rem .7rem; white-space: pre-wrap; background: var(--tint);
  border-radius: 6px; font: .85rem/1.45 ui-monospace, monospace; color: var(--text); }
.provenance { font-size: .9rem; }
.provenance td:last-child { overflow-wrap: anywhere; }
@media print { :root { --text: #000; --soft: #444; --paper: #fff; --line: #ccc; --tint: #f4f4f4; }
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  tr { break-inside: avoid; } h2 { break-after: avoid; } .wide { overflow: visible; } }
]]

local function escape(text)
  return (tostring(text):gsub('[&<>"]', { ['&'] = '&amp;', ['<'] = '&lt;', ['>'] = '&gt;',
    ['"'] = '&quot;' }))
end

local digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

local function base64(bytes)
  local out = {}
  for i = 1, #bytes, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local word = a * 65536 + (b or 0) * 256 + (c or 0)
    for k = 0, 3 do
      local d = bit.band(bit.rshift(word, 18 - 6 * k), 63) + 1
      out[#out + 1] = (k == 2 and not b or k == 3 and not c) and '=' or digits:sub(d, d)
    end
  end
  return table.concat(out)
end

-- An SVG file as an element: scaled by the page, its ids made its own, its title the caption.
local function inline(path, number, caption)
  local svg = fs.read(path):match('<svg.*</svg>')
  if not svg then fail('report: %s is not an SVG picture', path) end
  local own = 'p' .. number .. '-'
  svg = svg:gsub('<!%-%-.-%-%->', ''):gsub('<title>.-</title>', ''):gsub('<desc>.-</desc>', '')
  svg = svg:gsub('(%sid=["\'])', '%1' .. own):gsub('(href=["\']#)', '%1' .. own)
  svg = svg:gsub('url%(#', 'url(#' .. own)
  return (svg:gsub('^<svg(.-)>', function(attributes)
    attributes = attributes:gsub('%swidth="[^"]*"', ''):gsub('%sheight="[^"]*"', '')
    return ('<svg role="img"%s><title>%s</title>'):format(attributes, escape(caption or ''))
  end, 1))
end

-- A picture's path: those in the report's own folder are named from there.
local function inside(dir, picture)
  return picture:find '/' and picture or dir .. '/' .. picture
end

local function figure_html(figure, number, dir)
  local out = { '<figure>' }
  if figure.svg then
    out[2] = inline(inside(dir, figure.svg), number, figure.caption)
  elseif figure.png then
    out[2] = ('<img alt="%s" src="data:image/png;base64,%s">')
      :format(escape(figure.caption or ''), base64(fs.read(inside(dir, figure.png))))
  else
    fail('report: a figure needs svg or png')
  end
  out[#out + 1] = ('<figcaption><b>Figure %d.</b> %s</figcaption>')
    :format(number, escape(figure.caption or ''))
  if figure.command then out[#out + 1] = '<pre>' .. escape(figure.command) .. '</pre>' end
  out[#out + 1] = '</figure>'
  return table.concat(out, '\n')
end

local function table_html(t)
  local count, out = t.header and #t.header or 0, { '<div class="wide"><table>' }
  for _, row in ipairs(t.rows) do
    for j in pairs(row) do count = math.max(count, j) end
  end
  local class = {}
  for j = 1, count do
    local numeric = #t.rows > 0
    for _, row in ipairs(t.rows) do
      local cell = term.number(row[j] or nil)
      local digital = cell:gsub('%de[+-]?%d', '0'):find('^[%s%d+%-.,%%±()<>=%[%]]+$') ~= nil
      numeric = numeric and (type(row[j]) == 'number' or digital)
    end
    class[j] = numeric and ' class="n"' or ''
  end
  local function line(row, tag)
    local cells = {}
    for j = 1, count do
      cells[j] = ('<%s%s>%s</%s>'):format(tag, class[j], escape(term.number(row[j] or nil)), tag)
    end
    return '<tr>' .. table.concat(cells) .. '</tr>'
  end
  if t.title then out[#out + 1] = '<caption>' .. escape(t.title) .. '</caption>' end
  if t.header then out[#out + 1] = '<thead>' .. line(t.header, 'th') .. '</thead>' end
  for _, row in ipairs(t.rows) do out[#out + 1] = line(row, 'td') end
  out[#out + 1] = '</table></div>'
  return table.concat(out, '\n')
end

local function provenance_html(t)
  local flat, names, out = options.flatten(t), {}, {}
  for name in pairs(flat) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    out[i] = ('<tr><td>%s</td><td>%s</td></tr>')
      :format(escape(name), escape(options.text(flat[name])))
  end
  return '<h2>Provenance</h2>\n<div class="wide"><table class="provenance">'
    .. table.concat(out, '\n') .. '</table></div>'
end

-- The page of a report whose pictures lie in dir.
local function page(t, dir)
  local out, number = {}, 0
  local function add(format, ...) out[#out + 1] = format:format(...) end
  add('<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">')
  add('<meta name="viewport" content="width=device-width, initial-scale=1">')
  add('<title>%s</title>\n<style>\n%s</style>\n</head>\n<body>', escape(t.title), css)
  add('<h1>%s</h1>', escape(t.title))
  if t.conclusion then add('<p class="conclusion">%s</p>', escape(t.conclusion)) end
  local function commands(list)
    add('<pre>%s</pre>', escape(table.concat(list, '\n')))
  end
  for _, section in ipairs(t.sections or {}) do
    if section.title then add('<h2>%s</h2>', escape(section.title)) end
    if section.text then add('<p>%s</p>', escape(section.text)) end
    for _, one in ipairs(section.tables or { section.table }) do add('%s', table_html(one)) end
    for _, one in ipairs(section.figures or { section.figure }) do
      number = number + 1
      add('%s', figure_html(one, number, dir))
    end
    if section.commands then commands(section.commands) end
  end
  if t.next then
    add('<h2>Next</h2>')
    commands(t.next)
  end
  if t.provenance then add('%s', provenance_html(t.provenance)) end
  add('</body>\n</html>\n')
  return table.concat(out, '\n')
end

-- A copy of the report in which pictures are named from dir if they lie there, else from the root.
local function kept(t, dir)
  local function walk(v)
    if type(v) ~= 'table' then return v end
    local copy = {}
    for key, x in pairs(v) do
      local is_picture = (key == 'svg' or key == 'png') and type(x) == 'string'
      if not is_picture then copy[key] = walk(x)
      else copy[key] = fs.dirname(x) == dir and fs.basename(x) or fs.realpath(x) end
    end
    return setmetatable(copy, getmetatable(v))
  end
  return walk(t)
end

-- The file that the page at path is made from.
local function source_of(path) return path:gsub('%.html$', '') .. '.json' end

--- report.write(path, t): writes the report, and beside it what it is made from, path with .json
-- for .html; both atomically.
-- t: title; conclusion, one sentence; sections, a list of {title, text, table = {title, header,
-- rows}, figure = {svg or png (paths), caption, command}, commands = {...}}, each part optional
-- (figures for several, and tables likewise); provenance, a (nested) table: versions, seeds,
-- machine, backend, level; next: commands to try after this one. An empty cell is false.
-- Errors: a missing title, a picture that cannot be read, an unwritable folder.
-- Example:
-- > local report, path = require 'vestige.report', os.tmpname()
-- > report.write(path, { title = 'Audit', conclusion = 'Influence remains.', sections = {
-- >   { title = 'Scores', table = { header = { 'method', 'GUS' }, rows = { { 'gd', 0.9 } } } } },
-- >   provenance = { backend = 'cpu', seeds = { 1, 2 } } })
-- > os.remove(path); os.remove(path .. '.json')
function M.write(path, t)
  if type(t.title) ~= 'string' then fail('report: title is missing') end
  local dir = fs.dirname(path)
  local report = kept(t, dir)
  local html = page(report, dir)
  json.save(source_of(path), report)
  fs.write(path, html)
end

-- Pictures that are gone are drawn again from the script and the data that plot left there.
local function redraw(t, dir)
  for _, section in ipairs(t.sections or {}) do
    for _, figure in ipairs(section.figures or { section.figure }) do
      local picture = inside(dir, figure.svg or figure.png)
      if not fs.exists(picture) then plot.again(picture) end
    end
  end
end

--- report.again(path): makes the page once more from what report.write kept beside it; nothing is
-- computed. A picture that is gone is drawn again from its script.
-- Errors: the file is missing or broken; a picture that is gone with its script.
-- Example:
-- > local report, fs, path = require 'vestige.report', require 'vestige.fs', os.tmpname()
-- > report.write(path, { title = 'Audit' }); local page = fs.read(path)
-- > fs.remove(path); report.again(path); assert(fs.read(path) == page)
-- > os.remove(path); os.remove(path .. '.json')
function M.again(path)
  local t = json.load(source_of(path))
  if type(t) ~= 'table' or type(t.title) ~= 'string' then
    fail('%s holds no report: it has no title', source_of(path))
  end
  local dir = fs.dirname(path)
  redraw(t, dir)
  fs.write(path, page(t, dir))
end

return M
