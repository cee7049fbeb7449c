-- Make due tasks of every queue ready, some at a time.
--
-- args[3]  how many of one queue at most
-- Returns  {now, whether there may be more}.
--
-- Keys: scheduled (set), later:*, lanes:*, ready:* (zsets), state, count (hashes), wake:* (lists).

begin()
local more = false
for _, queue in ipairs(call('SMEMBERS', P .. 'scheduled')) do
  if promote(queue, args[3]) == args[3] then more = true end
  if call('EXISTS', P .. 'later:' .. queue) == 0 then call('SREM', P .. 'scheduled', queue) end
end
return pack({now, more})
