-- Convolution and its two gradients.
return {}
