-- Pooling.
return {}
