-- Tables as files: CSV to compute with, LaTeX to print.
local fs = require 'vestige.fs'

local M = {}

-- A cell in full: numbers with all their digits; empty for false, nil and NaN.
local function plain(v)
  if v == nil or v == false or v ~= v then return '' end
  if type(v) ~= 'number' then return tostring(v) end
  local short = ('%.10g'):format(v)
  return tonumber(short) == v and short or ('%.17g'):format(v)
end

local function csv_cell(v)
  local text = plain(v)
  return text:find '[",\n]' and '"' .. text:gsub('"', '""') .. '"' or text
end

--- tables.csv(t): the CSV of {header, rows}: a line each; numbers with all their digits.
-- Example:
-- > local t = { header = { 'a', 'b' }, rows = { { 0.1, 'x,y' }, { false, 2 } } }
-- > assert(require('vestige.tables').csv(t) == 'a,b\n0.1,"x,y"\n,2\n')
function M.csv(t)
  local lines = {}
  local function add(row)
    local cells = {}
    for j = 1, #t.header do cells[j] = csv_cell(row[j]) end
    lines[#lines + 1] = table.concat(cells, ',') .. '\n'
  end
  add(t.header)
  for _, row in ipairs(t.rows) do add(row) end
  return table.concat(lines)
end

local escapes = { ['\\'] = '\\textbackslash{}', ['~'] = '\\textasciitilde{}',
                  ['^'] = '\\textasciicircum{}', ['<'] = '$<$', ['>'] = '$>$', ['|'] = '$|$' }

local function latex_cell(v)
  local text = type(v) == 'number' and v == v and ('%.4g'):format(v) or plain(v)
  if text == '' then return '--' end
  return (text:gsub('[\\~^<>|]', escapes):gsub('[&%%$#_]', function(c)
    return c ~= '$' and '\\' .. c or nil
  end))
end

--- tables.latex(t): {header, rows} as a LaTeX tabular with rules (booktabs); numbers to 4 digits.
-- Example:
-- > local t = { header = { 'a_b' }, rows = { { 0.25 } } }
-- > assert(require('vestige.tables').latex(t):find('a\\_b \\\\\n\\midrule\n0.25 \\\\', 1, true))
function M.latex(t)
  local function line(row)
    local cells = {}
    for j = 1, #t.header do cells[j] = latex_cell(row[j]) end
    return table.concat(cells, ' & ') .. ' \\\\'
  end
  local lines = { ('\\begin{tabular}{l%s}'):format(('r'):rep(#t.header - 1)), '\\toprule',
                  line(t.header), '\\midrule' }
  for _, row in ipairs(t.rows) do lines[#lines + 1] = line(row) end
  lines[#lines + 1] = '\\bottomrule\n\\end{tabular}\n'
  return table.concat(lines, '\n')
end

--- tables.write(base, t): writes base.csv and base.tex of {header, rows}.
-- Example:
-- > local base = os.tmpname()
-- > require('vestige.tables').write(base, { header = { 'a' }, rows = { { 1 } } })
-- > assert(require('vestige.fs').read(base .. '.csv') == 'a\n1\n')
-- > os.remove(base); os.remove(base .. '.csv'); os.remove(base .. '.tex')
function M.write(base, t)
  fs.write(base .. '.csv', M.csv(t))
  fs.write(base .. '.tex', M.latex(t))
end

return M
