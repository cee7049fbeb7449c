-- Every worker that beats.
--
-- Returns  {now, steady, and of each the end of its lease and how many tasks it holds}; the beats.
--
-- Keys: beat (hash), lease (zset), holders, held:* (sets).

local all, about, beats = call('HGETALL', P .. 'beat'), {now, steady}, {}
local running = {}
for _, consumer in ipairs(call('SMEMBERS', P .. 'holders')) do
  local worker = worker_of(consumer)
  running[worker] = (running[worker] or 0) + call('SCARD', P .. 'held:' .. consumer)
end
for i = 1, #all, 2 do
  local _, beat = decode(all[i + 1])
  beats[#beats + 1] = beat
  about[#about + 1] = tonumber(call('ZSCORE', P .. 'lease', all[i])) or steady
  about[#about + 1] = running[all[i]] or 0
end
return {pack(about), beats}
