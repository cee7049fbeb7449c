-- How many tasks of each queue are in each state; maintained, not counted.
--
-- Returns  {now}; state:queue and number of each; paused queues; queue and due time of the longest
--          waiting task of each.
--
-- Keys: count (hash), paused (set), lanes:*, ready:* (zsets).

local all, oldest = call('HGETALL', P .. 'count'), {}
for i = 1, #all, 2 do
  local queue = string.match(all[i], '^QUEUED:(.*)$')
  if queue then
    local since = math.huge
    for _, lane in ipairs(lanes(queue)) do
      local first = call('ZRANGE', P .. lane, 0, 0, 'WITHSCORES')
      if first[2] then since = min(since, tonumber(first[2])) end
    end
    if since < math.huge then
      oldest[#oldest + 1] = queue
      oldest[#oldest + 1] = format('%.17g', since)
    end
  end
end
return {pack({now}), all, call('SMEMBERS', P .. 'paused'), oldest}
