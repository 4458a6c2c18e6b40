--- Makes the page of a study again from what its last run left, without computing anything.
local fs = require 'vestige.fs'
local options = require 'vestige.options'
local report = require 'vestige.report'

local spec = options.declare{
  usage = 'vestige report', rest = 'DIR...', stages = false,
  about = 'Makes report.html again from report.json and the figures in DIR, a folder that an\n'
          .. 'experiment wrote its report to, or in every such folder of a runs folder.',
}

-- The folders with a report: dir itself, or those in it.
local function folders(dir)
  if fs.exists(dir .. '/report.json') then return { dir } end
  local found = {}
  for _, name in ipairs(fs.list(dir)) do
    if fs.exists(('%s/%s/report.json'):format(dir, name)) then
      found[#found + 1] = dir .. '/' .. name
    end
  end
  if not found[1] then
    error(('%s: no report.json here or in its folders'):format(dir), 0)
  end
  return found
end

return function(args)
  local o, text = spec:parse(args)
  if text then
    print(text)
    return 0
  end
  if #o.rest == 0 then error('vestige report: expected a folder; see vestige report --help', 0) end
  for _, dir in ipairs(o.rest) do
    for _, folder in ipairs(options.given('vestige report', folders, (dir:gsub('(.)/+$', '%1')))) do
      local path = folder .. '/report.html'
      options.given('vestige report', report.again, path)
      if not o.quiet then print(path) end
    end
  end
end
