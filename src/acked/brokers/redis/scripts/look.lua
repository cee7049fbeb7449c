-- Whether there is work in any of the queues. Where there is none, wake-ups that were meant for
-- work that somebody else has taken are forgotten: whoever waits from here on is woken by new work.
--
-- args[3]  queues
-- Returns  {now, whether something is ready, due time of what comes next or false}.
--
-- Keys: paused (set), lanes:*, ready:*, later:* (zsets), wake:* (lists).

local next_due = false
for _, queue in ipairs(open(args[3])) do
  for _, lane in ipairs(lanes(queue)) do
    if call('EXISTS', P .. lane) == 1 then return pack({now, true, false}) end
  end
  local first = call('ZRANGE', P .. 'later:' .. queue, 0, 0, 'WITHSCORES')
  if first[2] then next_due = min(next_due or math.huge, tonumber(first[2])) end
end
if next_due and next_due <= now then return pack({now, true, false}) end
for _, queue in ipairs(args[3]) do call('DEL', P .. 'wake:' .. queue) end
return pack({now, false, next_due})
