-- The counters of some minutes.
--
-- args[3]  first minute, args[4] last
-- Returns  {now}; the minutes; and of each the fields and numbers, flat.
--
-- Keys: counter:<minute> (hash), minutes (zset).

local minutes = call('ZRANGEBYSCORE', P .. 'minutes', args[3], args[4])
local counters = {}
for i, minute in ipairs(minutes) do counters[i] = call('HGETALL', P .. 'counter:' .. minute) end
return {pack({now}), minutes, counters}
