-- What has waited longest since it was due.
--
-- args[3]  due before, args[4] how many
-- Returns  {now, tags, longest first}.
--
-- Keys: count (hash), paused (set), lanes:*, ready:*, later:* (zsets).

local limit, seen, all = args[4], {}, {}
local before = '(' .. format('%.17g', args[3])

local function collect(key)
  local late = call('ZRANGEBYSCORE', P .. key, '-inf', before, 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #late, 2 do all[#all + 1] = {tonumber(late[i + 1]), late[i]} end
end

local queues = {}
for _, field in ipairs(call('HKEYS', P .. 'count')) do
  local queue = string.match(field, '^QUEUED:(.*)$') or string.match(field, '^SCHEDULED:(.*)$')
  if queue and not seen[queue] then
    seen[queue] = true
    queues[#queues + 1] = queue
  end
end
for _, queue in ipairs(open(queues)) do
  for _, lane in ipairs(lanes(queue)) do collect(lane) end
  collect('later:' .. queue)
end
table.sort(all, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
local tags = {}
for i = 1, min(limit, #all) do tags[i] = tonumber(all[i][2]) end
return pack({now, tags})
