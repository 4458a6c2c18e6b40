-- GradPC (Sun et al., 2020; C.1.3): parameters within a given distance of trained ones at which the
-- model is bad: the target of gradient cancelling. As the program of that attack's authors
-- (watml/plim) has it: ascent on the training loss, projected to the ball.
local batches = require 'vestige.data.batches'
local options = require 'vestige.options'
local perturb = require 'vestige.perturb'
local vestige = require 'vestige'

local M = {}

--- gradpc.defaults: the authors' options: one pass over the data in steps of length lr; norm:
-- 'train' or 'eval', the mode of the model during the ascent.
M.defaults = { lr = 1, epochs = 1, batch_size = 64, norm = options.one_of('train', 'eval') }

--- gradpc.ascend(model, start, x, y, o, noise): one step, in place: up the gradient of the mean
-- loss on a batch x, y, scaled to length o.gradpc.lr over all parameters, then back to the l2 ball
-- of radius o.eps_w round `start`, the list of the parameters to begin with. o: criterion, eps_w,
-- gradpc.
function M.ascend(model, start, x, y, o, noise)
  local params = model:parameters()
  local loss = vestige[o.criterion](model(x, noise), y)
  local grads = vestige.grad(loss, params, { allow_unused = true })
  vestige.no_grad(function()
    local length = perturb.squares(grads):sqrt():item()
    if length == 0 then return end
    local moves = {}
    for i, p in ipairs(params) do
      moves[i] = p:detach() - start[i]
      if grads[i] then moves[i] = moves[i] + grads[i] * (o.gradpc.lr / length) end
    end
    local far = perturb.squares(moves):sqrt():item()
    local shrink = far > o.eps_w and o.eps_w / far or 1
    for i, p in ipairs(params) do p:copy_(start[i] + moves[i] * shrink) end
  end)
end

--- gradpc.target(clean, ds, o, ctx): a copy of the model `clean` with parameters theta_low, found
-- on the data set; the clean model stays as it is. o: as gradpc.ascend. Batches come in the order
-- of ctx.seed; ctx:steps keeps the checkpoint.
function M.target(clean, ds, o, ctx)
  local low, start = clean:clone():train(o.gradpc.norm == 'train'), {}
  for i, p in ipairs(clean:parameters()) do start[i] = p:detach() end
  local it = batches.new(ds, o.gradpc.batch_size, { shuffle = true, seed = ctx.seed })
  local steps = math.ceil(o.gradpc.epochs * it:count())
  for step in ctx:steps(steps, { states = { low = low }, label = 'GradPC' }) do
    local b = it:of_step(step)
    M.ascend(low, start, b.x, b.y, o, b.noise)
  end
  it:close()
  return low
end

return M
