-- Pause a queue, or let it go on.
--
-- args[3]  queue, args[4] whether it is paused from now on
-- Returns  {now}.
--
-- Keys: paused (set), lanes:*, ready:*, later:* (zsets), wake:<queue> (list).

begin()
local queue = args[3]
if args[4] then
  call('SADD', P .. 'paused', queue)
else
  call('SREM', P .. 'paused', queue)
  local waiting = call('EXISTS', P .. 'later:' .. queue)
  for _, lane in ipairs(lanes(queue)) do waiting = waiting + call('ZCARD', P .. lane) end
  if waiting > 0 then ring(queue, waiting) end
  flush()
end
return pack({now})
