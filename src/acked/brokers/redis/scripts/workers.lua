-- Every worker that beats.
--
-- Returns  {now, steady, and of each the end of its lease and how many tasks it holds}; the beats.
--
-- Keys: beat, held:* (hashes), lease (zset).

local all, about, beats = call('HGETALL', P .. 'beat'), {now, steady}, {}
for i = 1, #all, 2 do
  local _, beat = decode(all[i + 1])
  beats[#beats + 1] = beat
  about[#about + 1] = tonumber(call('ZSCORE', P .. 'lease', all[i])) or steady
  about[#about + 1] = call('HLEN', P .. 'held:' .. all[i])
end
return {pack(about), beats}
