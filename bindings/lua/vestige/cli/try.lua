--- Runs the whole protocol on a new attack or unlearning method, on 1,000 real images.
-- vestige try FILE takes under a minute: poison, train, unlearn, score, with a clean and a
-- retrained model beside it.
local options = require 'vestige.options'

local spec = options.declare{
  usage = 'vestige try', rest = 'FILE', stages = false,
  about = 'Runs the protocol on the attack or unlearning method in FILE.',
  { 'epochs', 12, 'passes over the 1,000 training images', min = 1, kind = 'int' },
}

return function(args)
  local o, text = spec:parse(args)
  if text then
    print(text)
    return 0
  end
  if #o.rest ~= 1 then error('vestige try: expected one file, got ' .. #o.rest, 0) end
  require('vestige.try').run(o.rest[1], { epochs = o.epochs, quiet = o.quiet })
end
