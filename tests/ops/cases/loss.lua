-- Softmax and losses.
return {}
