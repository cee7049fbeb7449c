-- What has waited longest since it was due, of each lane in turn.
--
-- args[3]  due before, args[4] how many
-- Returns  {now, tags, longest first}.
--
-- Keys: count (hash), paused (set), lanes:*, ready:*, later:* (zsets).

local limit, seen, all = args[4], {}, {}
local before = '(' .. format('%.17g', args[3])

local function collect(key)
  local late = call('ZRANGEBYSCORE', P .. key, '-inf', before, 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #late, 2 do all[#all + 1] = {(i + 1) / 2, tonumber(late[i + 1]), late[i]} end
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
local function longer(a, b) return a[2] < b[2] or a[2] == b[2] and a[3] < b[3] end
table.sort(all, function(a, b) return a[1] < b[1] or a[1] == b[1] and longer(a, b) end)
for i = #all, limit + 1, -1 do all[i] = nil end
table.sort(all, longer)
local tags = {}
for i, late in ipairs(all) do tags[i] = tonumber(late[3]) end
return pack({now, tags})
