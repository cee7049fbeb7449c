-- What time it is.
--
-- Returns  {now}.

return pack({now})
