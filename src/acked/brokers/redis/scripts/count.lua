-- Add to the counters of `acked.tally`. Minutes long past are forgotten.
--
-- args[3]  flat: minute, field, number of each; a field is JSON of queue, task and what
-- args[4]  minutes before the newest of those that are kept
-- Returns  now.
--
-- Keys: counter:<minute> (hash), minutes (zset).

begin()
local rows, newest = args[3], 0
for at = 0, #rows - 1, 3 do
  newest = max(newest, rows[at + 1])
  local minute = format('%.0f', rows[at + 1])
  call('HINCRBY', P .. 'counter:' .. minute, rows[at + 2], rows[at + 3])
  call('ZADD', P .. 'minutes', minute, minute)
end
-- Not of all there are: one of a clock that was ahead would end them all.
local before = '(' .. format('%.0f', newest - args[4])
local old = call('ZRANGEBYSCORE', P .. 'minutes', '-inf', before, 'LIMIT', 0, 1000)
for _, minute in ipairs(old) do
  call('DEL', P .. 'counter:' .. minute)
  call('ZREM', P .. 'minutes', minute)
end
return pack({now})
